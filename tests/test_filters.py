"""`visualize.py filters`: which kernels, in which colors, in which order."""

import jax
import numpy as np
import pytest

import architectures
from figures import filters
from figures.inputs import open_one
from runtime import stored_config
from runtime.errors import UserError


def parameters(name, size, channels, **options):
    """Those of a network, each of its own number."""
    model = architectures.create(name, **options)
    image = jax.ShapeDtypeStruct((1, size, size, channels), 'float32')
    shapes = jax.eval_shape(model.init, jax.random.key(0), image)['params']
    leaves, tree = jax.tree.flatten(shapes)
    return tree.unflatten([np.broadcast_to(np.float32(k), leaf.shape) for k, leaf in enumerate(leaves)])


@pytest.mark.parametrize(
    'name, size, channels, layer, shape',
    [
        ('lenet5', 32, 1, 'conv1', (5, 5, 1, 6)),
        ('lenet5_1998', 32, 1, 'C1', (5, 5, 1, 6)),
        ('alexnet', 227, 3, 'conv1', (11, 11, 3, 96)),
        ('resnet20', 32, 3, 'conv1', (3, 3, 3, 16)),
    ],
)
def test_the_first_convolution(name, size, channels, layer, shape):
    params = parameters(name, size, channels)
    found, kernels = filters.first_kernels(params)
    assert found == layer and kernels.shape == shape
    assert (kernels == params[layer]['kernel']).all()


def test_a_network_without_one():
    with pytest.raises(UserError, match='no convolution whose kernels take one or three channels'):
        filters.first_kernels({'fc': {'kernel': np.zeros((3, 3))}, 'conv': {'kernel': np.zeros((3, 3, 4, 8))}})


def test_zero_is_gray_and_each_kernel_fills_its_range():
    kernels = np.zeros((2, 2, 3, 3), np.float32)
    kernels[0, 0, 0, 0], kernels[1, 1, 2, 0], kernels[0, 1, 1, 1] = -4, 2, 1e-3  # the third is zero throughout
    pictures = filters.scaled(kernels)
    assert pictures.shape == (3, 2, 2, 3)
    assert pictures[0, 0, 0, 0] == 0 and pictures[0, 1, 1, 2] == 0.75 and pictures[1, 0, 1, 1] == 1
    assert (pictures[2] == 0.5).all() and pictures[1].min() == 0.5


@pytest.mark.parametrize('channels', [1, 3])
def test_a_mosaic_goes_row_by_row(channels):
    pictures = np.arange(6 * 5 * 5 * channels, dtype=np.float32).reshape(6, 5, 5, channels) / 1000
    whole = filters.mosaic(pictures)
    assert whole.shape == (2 * 30 + 3, 3 * 30 + 2 * 3) + (3,) * (channels == 3)
    whole = whole.reshape(*whole.shape[:2], channels)
    for number, picture in enumerate(pictures):
        top, left = number // 3 * 33, number % 3 * 33
        assert (whole[top : top + 30 : 6, left : left + 30 : 6] == picture).all()
        assert (whole[top + 5 : top + 30 : 6, left + 5 : left + 30 : 6] == picture).all()
    assert (whole[30:33] == 1).all() and (whole[:, 30:33] == 1).all()


@pytest.mark.parametrize('count, columns', [(1, 1), (6, 3), (16, 4), (20, 5), (64, 8), (96, 12), (7, 4), (13, 5)])
def test_rows_are_full_where_they_can_be(count, columns):
    whole = filters.mosaic(np.zeros((count, 5, 5, 1)))
    assert (whole.shape[1] + 3) // 33 == columns
    assert (filters.mosaic(np.zeros((count, 5, 5, 1)), 2).shape[1] + 3) // 33 == 2


def test_the_same_checkpoint_gives_the_same_file(digits_run, tmp_path):
    config, workdir = digits_run
    for name in ('a.png', 'b.png'):
        filters.make(tmp_path / name, config, [workdir])
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_titles_say_which_checkpoint(digits_run, converted):
    config, workdir = digits_run
    assert open_one(config, [workdir]).title == 'lenet5, digits, step 135'
    folder = converted('cifar_resnet20.npz', 'resnet20')
    title = open_one(stored_config.get_config(str(folder)), [folder]).title
    assert title == 'resnet20, cifar_resnet20.npz, converted from cifar_resnet20.npz'


def test_a_figure_of_one_checkpoint_takes_no_two(digits_run, tmp_path):
    config, workdir = digits_run
    with pytest.raises(UserError, match='this figure takes one --checkpoint, and 2 are given'):
        filters.make(tmp_path / 'a.png', config, [workdir, workdir])
