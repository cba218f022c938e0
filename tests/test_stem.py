"""The pool of ResNet's stem, whose two readings give maps of the same size."""

import jax
import numpy as np
import pytest

import architectures

ONE_EACH = {'depths': (1, 1, 1, 1), 'num_classes': 2}


@pytest.mark.parametrize('options, first', [({}, 0), ({'stem_pool': 'padded'}, -1)])
def test_where_the_windows_of_resnets_first_pool_lie(options, first):
    """As in the authors' Caffe files, rounding up, they hang over below and on the right; Torch pads all around."""
    model = architectures.create('resnet18', **ONE_EACH, **options)
    images = np.random.default_rng(0).standard_normal((1, 32, 32, 3), np.float32)

    @jax.jit
    def stem(key, images):  # unused outputs are not compiled
        found = architectures.activations(model, model.init(key, images), images)
        return found['conv1'], found['pool1']

    conv, pool = map(np.asarray, stem(jax.random.key(0), images))
    assert pool.shape[1:3] == (8, 8)
    around = np.pad(conv, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    for row, column in np.ndindex(8, 8):
        top, left = 1 + first + 2 * row, 1 + first + 2 * column
        window = around[:, top : top + 3, left : left + 3]
        np.testing.assert_array_equal(pool[:, row, column], window.max((1, 2)))


def test_the_papers_networks_pool_as_caffe_did_and_those_of_torch_as_torch_did():
    pools = {name: getattr(architectures.create(name), 'stem_pool', None) for name in architectures.names()}
    depths = (18, 34, 50, 101, 152)
    for name in ('plain18', 'plain34', *(f'resnet{depth}' for depth in depths), *(f'se_resnet{n}' for n in depths)):
        assert pools.pop(name) == 'ceil', name
    for name in ('wide_resnet50_2', 'resnext50_32x4d', 'resnext101_32x4d', 'resnext101_64x4d'):
        assert pools.pop(name) == 'padded', name
    assert {name for name, pool in pools.items() if pool} == {'se_resnext50_32x4d', 'se_resnext101_32x4d'}
