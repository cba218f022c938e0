"""Spatial pyramid pooling and SPP-net's protocols (He et al. 2014), by loops over the paper's words."""

import math

import flax.linen as nn
import jax
import naive
import numpy as np
import pytest

import architectures
from architectures import layers, prelu_net
from configs import imagenet
from evaluation import protocols, scoring
from input_pipeline import loader
from input_pipeline.example import Example
from input_pipeline.pixels import Pixels

RNG = np.random.default_rng(5)


def pooled(window, levels):
    """Appendix A, of [h, w, C]: bin (i, j) reaches from floor((i-1)/n h) to ceil(i/n h), i = 1 to n."""
    height, width, _ = window.shape
    bins = []
    for n in levels:
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                top, bottom = math.floor((i - 1) * height / n), math.ceil(i * height / n)
                left, right = math.floor((j - 1) * width / n), math.ceil(j * width / n)
                bins.append(window[top:bottom, left:right].max((0, 1)))
    return np.concatenate(bins)


def pooled_as_printed(window, levels):
    """Section 2.3, of [a, a, C]: sliding windows of ceil(a/n), strides of floor(a/n)."""
    bins, a = [], len(window)
    for n in levels:
        extent, stride = math.ceil(a / n), math.floor(a / n)
        for i in range(n):
            for j in range(n):
                rows, columns = (slice(stride * at, stride * at + extent) for at in (i, j))
                bins.append(window[rows, columns].max((0, 1)))
    return np.concatenate(bins)


@pytest.mark.parametrize('height, width', [(14, 14), (16, 27), (27, 16), (7, 9), (13, 13), (5, 11)])
def test_the_pyramid_of_a_complete_map(height, width):
    x, levels = RNG.normal(size=(2, height, width, 3)).astype(np.float32), (7, 6, 3, 2, 1)
    y = layers.spatial_pyramid(x, levels, height, width)
    assert y.shape == (2, 1, 1, 99 * 3)
    np.testing.assert_array_equal(y[:, 0, 0], [pooled(image, levels) for image in x])


@pytest.mark.parametrize('height, width', [(14, 14), (16, 15), (14, 17)])
def test_the_pyramid_of_every_window(height, width):
    x = RNG.normal(size=(2, height, width, 3)).astype(np.float32)
    y = layers.spatial_pyramid(x, (7, 3, 2, 1), 14, 14)
    assert y.shape == (2, height - 13, width - 13, 63 * 3)
    for i, j in np.ndindex(*y.shape[1:3]):
        windows = x[:, i : i + 14, j : j + 14]
        np.testing.assert_array_equal(y[:, i, j], [pooled(window, (7, 3, 2, 1)) for window in windows])


@pytest.mark.parametrize('side, levels', [(13, (3, 2, 1)), (18, (6, 3, 2, 1)), (14, (7, 2, 1))])
def test_section_2_3_and_the_appendix_agree_on_the_papers_maps(side, levels):
    x = RNG.normal(size=(side, side, 4))
    np.testing.assert_array_equal(pooled(x, levels), pooled_as_printed(x, levels))


@pytest.mark.parametrize('height, width, level', [(14, 14, 3), (16, 27, 7)])
def test_no_cell_of_a_map_is_dropped(height, width, level):
    ones = np.eye(height * width, dtype=np.float32).reshape(-1, height, width, 1)  # a map for each cell, 1 there
    assert np.all(layers.spatial_pyramid(ones, (level,), height, width).max(-1) == 1)


def test_the_complete_map_of_a_prelu_net(monkeypatch):
    monkeypatch.setitem(prelu_net.MODELS, 'A', ((4, 1), (4, 1), (6, 1)))
    model = architectures.create('prelu_net_a', num_classes=3, side=3)
    image = RNG.normal(size=(1, 4 * 16, 7 * 16, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), np.zeros((1, 48, 48, 3), np.float32))
    variables = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32) / 16, shapes)
    apply = jax.jit(lambda v, x: model.apply(v, x, dense='whole', mutable=['activations']))
    scores, state = apply(variables, image)
    x = pooled(np.asarray(state['activations']['conv4_1'])[0], (3, 2, 1))
    for name in ('fc1', 'fc2', 'fc3'):
        x = x @ variables['params'][name]['kernel'] + variables['params'][name]['bias']
        x = x if name == 'fc3' else np.where(x > 0, x, variables['params'][f'{name}_prelu']['slope'] * x)
    assert scores.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(scores[0, 0, 0], x, rtol=1e-4, atol=1e-5 * np.abs(x).max())


def test_uneven_bins_in_onnx(monkeypatch, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime', reason='requirements-dev.txt has it')
    from weights import onnx_file

    monkeypatch.setitem(prelu_net.MODELS, 'A', ((4, 1), (4, 1), (6, 1)))
    model = architectures.create('prelu_net_a', num_classes=3, side=3)  # levels 3, 2 and 1: 2 does not divide 3
    image = RNG.normal(size=(1, 48, 48, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), image)
    variables = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32) / 16, shapes)
    with layers.plain_forms():
        onnx_file.write(tmp_path / 'm.onnx', lambda x: model.apply(variables, x), (48, 48, 3), 'prelu_net_a')
    session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
    (found,) = session.run(None, {session.get_inputs()[0].name: image})
    expected = np.asarray(jax.jit(model.apply)(variables, image))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


# The protocols, for a network of one convolution whose cell is a tile of 16x16 pixels


class Tiles(nn.Module):
    readings = ('whole',)

    @nn.compact
    def __call__(self, images, dense):
        x = nn.Conv(4, (16, 16), (16, 16), padding='VALID', name='conv')(images / 128)
        window = x.shape[1:3] if dense == 'whole' else (14, 14)
        return nn.Dense(10, name='fc')(layers.spatial_pyramid(x, (3, 1), *window))


def places(length):
    """Where views of 224 pixels start on a side of so many: at its ends and in its middle, each once."""
    return sorted({0, (length - 224) // 2, length - 224})


def views_of(image, variables, scales):
    """Section 3.1.5 of the paper: the softmax of each view and of its mirror image, by cells of the last map."""
    kernel, fc = variables['params']['conv'], variables['params']['fc']
    found = []
    for side, whole in scales:
        resized = naive.resize_short_side(image, side, naive.half_up)
        for view in (resized, resized[:, ::-1]):
            x = (np.float32(view) - np.float32((123, 117, 104))) / 128
            tiles = [
                [x[i : i + 16, j : j + 16] for j in range(0, x.shape[1] - 15, 16)]
                for i in range(0, x.shape[0] - 15, 16)
            ]
            cells = np.tensordot(tiles, kernel['kernel'], 3) + kernel['bias']
            corners = [(i // 16, j // 16) for i in places(x.shape[0]) for j in places(x.shape[1])]
            windows = [cells] if whole else [cells[i : i + 14, j : j + 14] for i, j in corners]
            found += [naive.softmax(pooled(window, (3, 1)) @ fc['kernel'] + fc['bias']) for window in windows]
    return found


SCALES = [(side, False) for side in (224, 256, 300, 360, 448, 560)]


@pytest.fixture(scope='module')
def tiles():
    model = Tiles()
    return model, jax.device_get(model.init(jax.random.key(1), np.zeros((1, 224, 224, 3), np.float32), True))


@pytest.mark.parametrize(
    'name, shape, count',
    [('spp_98', (375, 500, 3), 98), ('spp_96', (256, 256, 3), 92)],  # of a square at 224 there is one window, not 3
)
def test_the_views_of_spp_net(name, shape, count, tiles):
    config = imagenet.get_config()
    config.num_classes, config.normalize, config.mean = 10, 'constant', 'caffe_googlenet'
    image = RNG.integers(0, 256, shape, np.uint8)
    member = scoring.Member(*tiles, config, protocols.create(name), Pixels(config))
    scorer = scoring.Scorer([member], 1, 64, jax.device_put)
    (found,) = [logs for _, logs in scorer.log_probabilities(loader.map_images(Images([image]), scorer.items))]

    views = views_of(image, tiles[1], SCALES + ([(256, True)] if name == 'spp_98' else []))
    assert len(views) == count
    np.testing.assert_allclose(np.exp(found), np.mean(views, 0), rtol=1e-4)


class Images(list):
    """A source of images in memory."""

    name, class_names, notes = 'images', ('any',), ()

    def __getitem__(self, index):
        return Example(super().__getitem__(index), 0, str(index))
