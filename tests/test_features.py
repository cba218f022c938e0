"""`visualize.py features`: the last hidden layer of every family; neighbors as brute force finds them."""

import functools

import jax
import numpy as np
import pytest
from conftest import digits, quickly
from PIL import Image

import architectures
from architectures import layers, lenet
from architectures.catalogue import NETWORKS
from evaluation import apply
from figures import features, inputs
from runtime.errors import UserError


@pytest.mark.parametrize(
    'name, size, classifier, options',
    [
        ('lenet5', 32, 'fc3', {}),
        pytest.param('lenet5_1998', 32, 'dense', {'output': 'dense'}, marks=pytest.mark.slow),
        pytest.param('lenet_caffe', 28, 'ip2', {}, marks=pytest.mark.slow),
        pytest.param('googlenet', 64, 'classifier', {}, marks=pytest.mark.slow),
        pytest.param('resnet20', 32, 'fc', {}, marks=pytest.mark.slow),
        pytest.param('densenet_bc_100_12', 32, 'classifier', {}, marks=pytest.mark.slow),
    ],
)
def test_the_classifier_makes_the_logits_of_the_last_hidden_layer(name, size, classifier, options):
    model = architectures.create(name, **{'num_classes': 10} | options)
    channels = NETWORKS[name].input_shape[2]
    variables = architectures.initialize(model, 0, (size, size, channels))
    images = jax.random.normal(jax.random.key(1), (3, size, size, channels))

    @jax.jit
    def both(variables, images):
        return architectures.last_hidden(model, variables, images), model.apply(variables, images)

    hidden, logits = map(np.asarray, both(variables, images))
    last = jax.tree.map(np.asarray, variables['params'][classifier])
    assert hidden.shape == (3, last['kernel'].shape[-2]) and np.ptp(hidden, axis=0).max() > 0
    made = hidden @ last['kernel'].reshape(-1, model.num_classes) + last['bias']
    np.testing.assert_allclose(made, logits, rtol=1e-3, atol=1e-3)


def test_before_the_units_of_1998_there_are_the_84_that_they_are_compared_to():
    model = architectures.create('lenet5_1998')
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 1))
    variables = architectures.initialize(model, 0, (32, 32, 1))

    @jax.jit
    def both(variables, images):
        named = architectures.activations(model, variables, images)
        return architectures.last_hidden(model, variables, images), named['F6'], named['output']

    hidden, f6, output = map(np.asarray, both(variables, images))
    assert hidden.shape == (2, 84)
    np.testing.assert_array_equal(hidden, f6[:, 0, 0])
    apart = ((hidden[:, None] - lenet.BITMAPS[None]) ** 2).sum(-1)
    np.testing.assert_allclose(apart, -output[:, 0, 0], rtol=1e-4)


@pytest.mark.parametrize(
    'name, width, options',
    [
        ('alexnet', 4096, {}),
        ('overfeat_fast', 4096, {}),
        ('vgg_a', 4096, {}),
        ('googlenet', 1024, {}),
        ('resnet20', 64, {'scan': True, 'num_classes': 32}),  # as many classes as some of its convolutions have maps
    ],
)
def test_the_widths_of_the_papers(name, width, options):
    model, shape = architectures.create(name, **options), NETWORKS[name].input_shape
    images = jax.ShapeDtypeStruct((2, *shape), 'float32')
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    hidden = jax.eval_shape(functools.partial(architectures.last_hidden, model), variables, images)
    assert hidden.shape == (2, width)


@pytest.mark.slow
@pytest.mark.parametrize('name', architectures.names())
def test_every_network_has_one(name):
    options = {'scan': True} if name == 'resnet1202' else {}  # whose equal blocks take 20 seconds to trace
    model, shape = architectures.create(name, **options), NETWORKS[name].input_shape
    images = jax.ShapeDtypeStruct((2, *shape), 'float32')

    def shapes():
        with layers.plain_forms():
            variables = jax.eval_shape(model.init, jax.random.key(0), images)
            return variables, jax.eval_shape(functools.partial(architectures.last_hidden, model), variables, images)

    variables, hidden = quickly(shapes)
    kernels = [leaf.shape for leaf in jax.tree.leaves(variables['params']) if leaf.shape[-1] == model.num_classes]
    assert hidden.shape == (2, 84) if name == 'lenet5_1998' else (hidden.shape[1], model.num_classes) in kernels


def test_neighbors_are_those_of_a_search_by_brute_force():
    draws = np.random.default_rng(0)
    known, asked = draws.normal(size=(300, 17)).astype(np.float32), draws.normal(size=(9, 17)).astype(np.float32)
    apart = np.sqrt(((asked[:, None].astype(np.float64) - known[None]) ** 2).sum(-1))
    distances, places = features.nearest(known, asked, 6)
    np.testing.assert_array_equal(places, np.argsort(apart, 1)[:, :6])
    np.testing.assert_allclose(distances, np.sort(apart, 1)[:, :6], rtol=1e-5)
    own = np.array([5, 299, 0])
    apart = np.sqrt(((known[own][:, None].astype(np.float64) - known[None]) ** 2).sum(-1))
    distances, places = features.nearest(known, known[own], 6, own)
    np.testing.assert_array_equal(places, np.argsort(apart, 1)[:, 1:7])
    np.testing.assert_allclose(distances, np.sort(apart, 1)[:, 1:7], rtol=1e-5)


def test_an_image_is_not_its_own_neighbor_even_if_others_equal_it():
    known = np.zeros((8, 3), np.float32)
    for own in range(8):
        distances, places = features.nearest(known, known[[own]], 4, np.array([own]))
        assert places.shape == (1, 4) and own not in places and len(set(places[0])) == 4 and (distances == 0).all()


def test_queries_are_spaced_evenly():
    assert features.evenly_spaced(100, 5).tolist() == [10, 30, 50, 70, 90]
    assert features.evenly_spaced(3, 5).tolist() == [0, 1, 2]


def test_features_are_of_every_image_in_its_order_whatever_the_batch(digits_run):
    config, workdir = digits_run
    source = inputs.open_data(config).source
    found = []
    for size in (16, 360):
        config = digits(test_batch_size=size)
        member = inputs.open_one(config, [workdir]).member
        values, numbers = apply.outputs(member, source, architectures.last_hidden)
        assert values.shape == (360, 84) and numbers.tolist() == list(range(360))
        found.append(values)
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_drawn_from_the_test_split_or_from_files(digits_run, tmp_path):
    config, workdir = digits_run
    Image.fromarray(inputs.open_data(config).source[7].image[..., 0]).save(tmp_path / 'seven.png')
    for name in ('a', 'b'):
        features.make(tmp_path / f'{name}.png', config, [workdir], queries=2, count=3)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    features.make(tmp_path / 'c.html', config, [workdir], images=[tmp_path / 'seven.png'], count=3)
    assert '84 features of lenet5' in (tmp_path / 'c.html').read_text()
    with pytest.raises(UserError, match='digits/test has 360 images: --count can be 359 at most'):
        features.make(tmp_path / 'd.png', config, [workdir], count=360)
