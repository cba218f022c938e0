"""Weights that others trained, on real photographs, against the counts of wrong answers that PyTorch gives.

The files are `DECADE_TEST_DATA`'s: BVLC's GoogLeNet and validation photographs of ImageNet, and the ResNets of
akamaster/pytorch_resnet_cifar10 and test images of CIFAR-10.
"""

import functools

import chex
import jax
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

import architectures
from architectures import layers
from input_pipeline import colour, crops, loader, sources


def open_weights(test_data, name):
    """{their name: array} of a file of weights; skips the test where it is missing."""
    path = test_data / 'weights' / f'{name}.npz'
    if not path.is_file():
        pytest.skip(f'{path} is not there')
    with np.load(path) as file:
        return {key: file[key] for key in file}


def ours(theirs, rename):
    """Our variables from their tensors; `rename` gives ('params', layer, ..., 'kernel') for a name."""
    variables = {}
    for name, value in theirs.items():
        path = rename(name)
        if path[-1] == 'kernel':
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
        variables[path] = value
    assert len(variables) == len(theirs)
    return unflatten_dict(variables)


def classifier(model, variables, image_shape, batch):
    """A function from images to their logits, that runs a batch at a time, the last filled up."""
    expected = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, *image_shape), np.float32))
    chex.assert_trees_all_equal_shapes(variables, dict(expected))
    quick = {'xla_backend_optimization_level': 0}  # to compile in a third of the time is worth the slower run here
    forward = jax.jit(model.apply, compiler_options=layers.compiler_options() | quick)

    def classify(images):
        filled = np.concatenate([images, np.zeros_like(images[: -len(images) % batch])])
        logits = [np.asarray(forward(variables, part)) for part in np.split(filled, len(filled) // batch)]
        return np.concatenate(logits)[: len(images)]

    return classify


def errors(logits, labels):
    """How many labels are not the largest, and how many are not among the five largest."""
    larger = np.sum(logits > np.take_along_axis(logits, labels[:, None], axis=1), axis=1)
    return int(np.sum(larger >= 1)), int(np.sum(larger >= 5))


def caffe_name(name):
    layer, leaf = name.rsplit('/', 1)
    named = {
        'conv1/7x7_s2': 'conv1',
        'conv2/3x3_reduce': 'conv2_reduce',
        'conv2/3x3': 'conv2',
        'loss3/classifier': 'classifier',
    }
    return ('params', *named.get(layer, layer).split('/'), 'kernel' if leaf == 'weights' else 'bias')


def caffe_images(folder, resize):
    """The middle 224x224 of photographs as Caffe's networks read them (blue, green, red, less the means); labels."""
    source = sources.open_source('imagenet', 'validation', str(folder), num_classes=1000)
    middle = functools.partial(crops.five_crops, size=224, short_side=256 if resize else 227, truncate=True)
    batches = list(loader.test_views(source, lambda *size: middle(*size)[-1:]))
    images = np.concatenate([batch['image'] for batch in batches])
    images = colour.normalize(images, colour.MEANS['caffe_googlenet'], colour.STDS['none'])[..., ::-1]
    return np.asarray(images), np.array([batch['label'] for batch in batches])


@pytest.fixture(scope='module')
def googlenet(test_data):
    variables = ours(open_weights(test_data, 'bvlc_googlenet'), caffe_name)
    return classifier(architectures.create('googlenet'), variables, (224, 224, 3), batch=25)


@pytest.mark.parametrize(
    'folder, resize, expected',
    [
        ('imagenet_val', True, (39, 14)),
        ('imagenet_photos', True, (13, 5)),
        pytest.param('imagenet_val227', True, (36, 13), marks=pytest.mark.slow),
        pytest.param('imagenet_val227', False, (30, 11), marks=pytest.mark.slow),
    ],
)
def test_bvlc_googlenet(test_data, googlenet, folder, resize, expected):
    folder = test_data / 'imagenet' / folder
    if not folder.is_dir():
        pytest.skip(f'{folder} is not there')
    images, labels = caffe_images(folder, resize)
    assert errors(googlenet(images), labels) == expected


def torch_name(name):
    module, leaf = name.rsplit('.', 1)
    *outer, layer = module.split('.')
    norm = layer.startswith('bn')
    layer = 'fc' if layer == 'linear' else f'conv{layer[2:]}_bn' if norm else layer
    if outer:
        outer = outer[0].replace('layer', 'stage'), f'block{int(outer[1]) + 1}'
    leaf = {'running_mean': 'mean', 'running_var': 'var', 'weight': 'scale' if norm else 'kernel'}.get(leaf, leaf)
    return ('batch_stats' if leaf in ('mean', 'var') else 'params', *outer, layer, leaf)


@pytest.mark.parametrize('depth, expected', [(20, (85, 2)), pytest.param(56, (74, 2), marks=pytest.mark.slow)])
def test_cifar_resnet(test_data, depth, expected):
    variables = ours(open_weights(test_data, f'cifar_resnet{depth}'), torch_name)
    source = sources.cifar10(str(test_data / 'cifar10'), 'test')
    mean, deviation = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)[:, None, None, None]
    images = (source.images[:1000].astype(np.float32) / 255 - mean) / deviation
    classify = classifier(
        architectures.create(f'resnet{depth}', shortcut='A_centered'), variables, (32, 32, 3), batch=250
    )
    assert errors(classify(images), source.labels[:1000]) == expected
