"""The papers' protocols on photographs of ImageNet's validation set, against the loops of `naive.py`, to 1e-4.

BVLC's GoogLeNet for its own protocol; elsewhere a fourth of a network's features with fixed random weights, scaled so
that their answers tell images apart.
One wide photograph and one tall one. Fifty take hours: `pytest -m slow tests/test_protocols.py --photographs 50
--timeout 0 -o faulthandler_timeout=0`.
"""

import itertools

import jax
import naive
import numpy as np
import pytest
from conftest import quarter
from PIL import Image

import architectures
from configs import imagenet
from evaluation import open_checkpoint, protocols, scoring
from input_pipeline import loader
from input_pipeline.example import Example
from input_pipeline.pixels import Pixels
from runtime import stored_config

pytestmark = [pytest.mark.slow]
SIZES = ((496, 368), (368, 496), (496, 328))


@pytest.fixture(scope='module')
def photographs(test_data, request):
    folder, wanted = test_data / 'imagenet' / 'imagenet_val', request.config.getoption('photographs')
    found = [Image.open(path).convert('RGB') for path in sorted(folder.glob('*.JPEG'))]
    found = [image for image in found if image.size in SIZES]
    alike = {size: itertools.count() for size in SIZES}
    found.sort(key=lambda image: (image.size == SIZES[0], next(alike[image.size])))  # tall and wide in turn
    found = [np.asarray(image) for image in found][:wanted]
    if len(found) < wanted:
        pytest.skip(f'{folder} has {len(found)} photographs of the sizes that are wanted')
    return found


class Photographs(list):
    """A source of images in memory."""

    name, class_names, notes = 'photographs', ('any',), ()

    def __getitem__(self, index):
        return Example(super().__getitem__(index), 0, str(index))


def random_member(photographs, name, protocol, size=224, **options):
    """A network of fixed random weights, its last layer such that its logits differ between photographs, by 3."""
    config = imagenet.get_config()
    config.architecture, config.image_size, config.num_classes = name, size, 100
    config.normalize, config.mean = 'constant', 'caffe'
    config.architecture_options.update(options)
    model = architectures.create(name, num_classes=100, **options)
    variables = jax.device_get(architectures.initialize(model, 0, (size, size, 3)))
    member = scoring.Member(model, variables, config, protocols.create(protocol, network=name), Pixels(config))
    (last,) = (layer for layer in variables['params'].values() if layer.get('bias', np.zeros(0)).shape == (100,))
    scores = naive.logits(member, np.stack([naive.middle(image, size, size) for image in photographs[:10]]))
    scale = 3 / np.mean(np.std(scores, 0))
    last['kernel'], last['bias'] = last['kernel'] * scale, -scale * np.mean(scores, 0)
    return member


def scored(member, images):
    scorer = scoring.Scorer([member], 1, 64, jax.device_put)
    examples = loader.map_images(Photographs(images), scorer.items)
    found = {example['index']: np.exp(logs) for example, logs in scorer.log_probabilities(examples)}
    return [found[number] for number in range(len(images))]


def agree(found, expected):
    assert len(found) == len(expected) >= 2
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_allclose(here, there, atol=1e-4, rtol=0)
    for one, other in itertools.combinations(expected, 2):  # it does tell the photographs apart
        assert np.abs(one - other).max() > 100 * 1e-4


@pytest.mark.optimized
def test_144_views_of_googlenet(converted, photographs):
    folder = converted('bvlc_googlenet.caffemodel', 'googlenet')
    config = stored_config.get_config(str(folder))
    assert config.test_crop.truncate
    member = open_checkpoint(config, folder, protocol='googlenet_144').member
    agree(scored(member, photographs), [naive.crops(member, image, int) for image in photographs])


def test_grids_dense_passes_and_their_mean(photographs, monkeypatch):
    quarter(monkeypatch)
    dense, crops, both = (
        random_member(photographs, 'alexnet_owt', f'vgg_{kind}') for kind in ('dense', 'multicrop', 'both')
    )
    expected = [naive.dense(dense, image) for image in photographs], [naive.crops(crops, x) for x in photographs]
    agree(scored(dense, photographs), expected[0])
    agree(scored(crops, photographs), expected[1])
    agree(scored(both, photographs), list(np.mean(expected, 0)))


def test_overfeats_fine_stride(photographs, monkeypatch):
    quarter(monkeypatch)
    member = random_member(photographs, 'overfeat_fast', 'overfeat_fine', 231)
    agree(scored(member, photographs), [naive.overfeat_fast(member, image) for image in photographs])


def test_residual_networks_as_fully_convolutional_ones(photographs, monkeypatch):
    quarter(monkeypatch)
    member = random_member(photographs, 'resnet18', 'resnet_fcn', depths=(1, 1, 1, 1))
    agree(scored(member, photographs), [naive.dense(member, image) for image in photographs])
