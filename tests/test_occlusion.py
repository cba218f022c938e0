"""`visualize.py occlusion`: the maps are the network's outputs for the covered images, lowest where the object is."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import digits

import architectures
from evaluation import protocols, scoring
from figures import occlusion
from input_pipeline.pixels import Pixels
from runtime.errors import UserError


def member_of(model, variables, **changes):
    config = digits(**changes)
    return scoring.Member(model, variables, config, protocols.create('single'), Pixels(config))


def find_bright(variables, images):
    """Two classes: 'something bright' by the number of bright pixels, wherever they are, and 'nothing'."""
    bright = (images > 200).sum((1, 2, 3)).astype(jnp.float32)
    return jnp.stack([bright - 2, jnp.zeros_like(bright)], -1)


@pytest.mark.parametrize('top, left', [(20, 8), (0, 24), (13, 13)])
def test_the_minimum_is_where_the_object_is(top, left):
    pixels = np.zeros((32, 32, 1), np.uint8)
    pixels[top : top + 5, left : left + 5] = 255
    member = member_of(types.SimpleNamespace(apply=find_bright), {}, normalize='none')
    size = 9
    found = occlusion.slider(member, size, 1)(pixels, (0, 0))
    assert found.shape == (32, 32, 2)
    hidden = np.zeros((32, 32), bool)  # the middles of squares that cover all 25 pixels of it
    hidden[max(0, top + 5 - size + 4) : top + 5, max(0, left + 5 - size + 4) : left + 5] = True
    assert (np.isclose(found[..., 0], found[..., 0].min()) == hidden).all()
    np.testing.assert_allclose(found[..., 0][hidden], 1 / (1 + np.exp(2)), rtol=1e-5)
    assert (found.argmax(-1)[hidden] == 1).all() and hidden[top + 2, left + 2]
    assert found[(top + 16) % 32, (left + 16) % 32, 0] > 0.999


@pytest.mark.parametrize('size, stride', [(8, 5), (7, 32)])
def test_a_map_is_a_loop_over_covered_images(size, stride):
    model = architectures.create('lenet5')
    member = member_of(model, architectures.initialize(model, 0, (32, 32, 1)), test_batch_size=16)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
    found = occlusion.slider(member, size, stride)(pixels, (0, 0))
    preprocess = member.pixels.test
    middles = occlusion.middles(32, stride)
    assert found.shape == (len(middles), len(middles), 10) and 32 <= len(middles) * stride < 32 + stride
    covered = np.repeat(pixels[None], len(middles) ** 2, 0)
    for image, (y, x) in zip(covered, itertools.product(middles, middles), strict=True):
        top, left = y - size // 2, x - size // 2
        image[max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = 128
    images = preprocess({'image': covered, 'offset': np.zeros((len(covered), 2), np.int32)})
    expected = jax.jit(lambda images: jax.nn.softmax(model.apply(member.variables, images)))(images)
    np.testing.assert_allclose(found.reshape(-1, 10), expected, atol=1e-5)


def test_the_same_checkpoint_gives_the_same_file(digits_run, tmp_path):
    config, workdir = digits_run
    for name in ('a.png', 'b.png'):
        occlusion.make(tmp_path / name, config, [workdir], count=2, size=10, stride=8)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    for wrong in ({'size': 33}, {'stride': -1}, {'count': 0}):
        with pytest.raises(UserError, match='--size and --stride must be from 1 to 32'):
            occlusion.make(tmp_path / 'e.png', config, [workdir], **wrong)
    assert not (tmp_path / 'e.png').exists()
