"""Layers beside float64, by plain NumPy: where a channel's mean is large beside its deviation, and in bfloat16."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from architectures import layers

RATIOS = (0, 10, 100, 1_000, 10_000)  # of the mean to the deviation, each in a channel of its own
SHAPE = (4, 7, 8, len(RATIOS))
SCALE, BIAS = np.linspace(0.5, 2, len(RATIOS)), np.linspace(-1, 1, len(RATIOS))


def images(dtype, kind):
    """[B, H, W, C] in that dtype: of every ratio of mean to deviation, or hard for a shift measured on a part."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=SHAPE) * 0.25 + 0.25 * np.array(RATIOS)
    if kind == 'middle row apart':  # as far from the rest as it can lie: nearly all of the variance is between them
        x[:, 3] += 250
    if kind == 'images apart':  # what one image tells of the mean is wrong for the others
        x += 25 * np.arange(4)[:, None, None, None]
    if kind == 'dark first image':
        x[0] = 0
    return np.asarray(jnp.asarray(x, dtype).astype(jnp.float32))


def defined(x, gradient):
    """Ioffe and Szegedy 2015, algorithm 1 and the six lines below it, in float64: y, mean, variance, gradients."""
    x, gradient = x.astype(np.float64), gradient.astype(np.float64)
    axes, count = (0, 1, 2), x.size / x.shape[-1]
    mean = x.sum(axes) / count
    variance = ((x - mean) ** 2).sum(axes) / count
    root = np.sqrt(variance + 1e-5)
    normal = (x - mean) / root
    to_normal = gradient * SCALE
    to_variance = (to_normal * (x - mean)).sum(axes) * -0.5 / root**3
    to_mean = -to_normal.sum(axes) / root + to_variance * (-2 * (x - mean)).sum(axes) / count
    to_x = to_normal / root + to_variance * 2 * (x - mean) / count + to_mean / count
    gradients = to_x, (gradient * normal).sum(axes), gradient.sum(axes)
    return normal * SCALE + BIAS, mean, variance, *gradients


def in_groups(x, gradient, count):
    """`defined` of each of so many groups; statistics on the mean, gradients to the parameters summed."""
    parts = [defined(*part) for part in zip(np.split(x, count), np.split(gradient, count), strict=True)]
    y, mean, variance, to_x, to_scale, to_bias = zip(*parts, strict=True)
    statistics = np.mean(mean, 0), np.mean(variance, 0)
    return np.concatenate(y), *statistics, np.concatenate(to_x), np.sum(to_scale, 0), np.sum(to_bias, 0)


def layer_of(x, gradient, dtype, group_size):
    """The same of `layers.BatchNorm`, from running statistics of 0."""
    layer = layers.BatchNorm(group_size, dtype=dtype)
    statistics = {'mean': jnp.zeros(len(RATIOS)), 'var': jnp.zeros(len(RATIOS))}

    def run(x, scale, bias):
        variables = {'params': {'scale': scale, 'bias': bias}, 'batch_stats': statistics}
        y, state = layer.apply(variables, x, True, mutable=['batch_stats'])
        return y, state['batch_stats']

    arguments = jnp.asarray(x, dtype), jnp.asarray(SCALE, jnp.float32), jnp.asarray(BIAS, jnp.float32)

    def with_gradients(arguments, gradient):
        y, backward, state = jax.vjp(run, *arguments, has_aux=True)
        return y, state, backward(gradient)

    y, state, gradients = jax.jit(with_gradients)(arguments, jnp.asarray(gradient, dtype))
    pixels = x.size // x.shape[-1] * (group_size or len(x)) // len(x)
    return y, state['mean'] / 0.1, state['var'] / 0.1 * (pixels - 1) / pixels, *gradients


def assert_close(ours, expected, tolerance):
    """Each channel by itself: off by at most `tolerance` of its largest value."""
    for name, a, b in zip(('y', 'mean', 'variance', 'to x', 'to scale', 'to bias'), ours, expected, strict=True):
        a, b = np.asarray(a, np.float64).reshape(-1, len(RATIOS)), b.reshape(-1, len(RATIOS))
        np.testing.assert_array_less(np.abs(a - b).max(0), tolerance * np.maximum(np.abs(b).max(0), 0.01), name)


@pytest.mark.parametrize('plain', [False, True])
@pytest.mark.parametrize('group_size', [0, 2])
@pytest.mark.parametrize(
    'kind, tolerance',
    [('normal', 2e-6), ('middle row apart', 1e-5), ('images apart', 2e-6), ('dark first image', 2e-6)],
)
def test_batch_norm_is_that_of_float64_whatever_the_mean(kind, tolerance, group_size, plain):
    x, gradient = images('float32', kind), np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)
    with layers.plain_forms() if plain else contextlib.nullcontext():
        ours = layer_of(x, gradient, jnp.float32, group_size)
    assert_close(ours, in_groups(x, gradient, 2 if group_size else 1), tolerance)


@pytest.mark.parametrize('kind', ['normal', 'middle row apart'])
def test_batch_norm_of_bfloat16_is_as_exact_as_its_output(kind):
    x, gradient = images('bfloat16', kind), np.random.default_rng(4).normal(size=SHAPE)
    gradient = np.asarray(jnp.asarray(gradient, jnp.bfloat16).astype(jnp.float32))
    ours, expected = layer_of(x, gradient, jnp.bfloat16, 0), defined(x, gradient)
    rounded = {0, 3}  # y and the gradient to x are bfloat16; statistics and the parameters' gradients are float32
    for place, (a, b) in enumerate(zip(ours, expected, strict=True)):
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=2**-8 if place in rounded else 3e-5, atol=1e-4)


def test_batch_norm_by_running_statistics_is_that_of_float64_whatever_the_mean():
    x = images('float32', 'normal')
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2), dtype=np.float64).astype(np.float32)
    scale, bias = SCALE.astype(np.float32), BIAS.astype(np.float32)
    variables = {'params': {'scale': scale, 'bias': bias}, 'batch_stats': {'mean': mean, 'var': variance}}
    y = layers.BatchNorm().apply(variables, jnp.asarray(x), False)
    expected = (x - mean.astype(np.float64)) / np.sqrt(variance.astype(np.float64) + 1e-5) * scale + bias
    np.testing.assert_allclose(y, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize('plain', [False, True])
@pytest.mark.parametrize('window, stride, padding', [(3, 1, 1), (2, 2, 0), (7, 1, 0)])
def test_an_average_in_bfloat16_is_rounded_once(window, stride, padding, plain):
    x = np.asarray(jnp.asarray(images('float32', 'normal')[:2], jnp.bfloat16))
    with layers.plain_forms() if plain else contextlib.nullcontext():
        y = jax.jit(lambda x: layers.average_pool(x, window, stride, padding))(x)
    padded = np.pad(x.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = ((side - window) // stride + 1 for side in padded.shape[1:3])
    assert y.dtype == jnp.bfloat16 and y.shape[1] == rows
    for i, j in np.ndindex(rows, columns):
        expected = padded[:, stride * i : stride * i + window, stride * j : stride * j + window].mean((1, 2))
        np.testing.assert_allclose(y[:, i, j].astype(jnp.float32), expected, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize('mean', [0, 1000])
def test_the_fast_3x3_convolution_is_as_exact_as_the_definition(mean):
    rng = np.random.default_rng(6)
    x, kernel = rng.normal(size=(1, 6, 7, 64)) + mean, rng.normal(size=(3, 3, 64, 64))
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    y = jax.jit(lambda x, kernel: layers.convolution(x, kernel, (1, 1), 'VALID'))(x, kernel)
    taps = [x[:, i : i + 4, j : j + 5].astype(np.float64) @ kernel[i, j] for i in range(3) for j in range(3)]
    np.testing.assert_allclose(y, sum(taps), rtol=0, atol=2e-6 * np.abs(sum(taps)).max())
