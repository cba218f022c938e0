import contextlib
import functools
import math

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from architectures import cpu, layers
from runtime.errors import UserError

# Of the quick forms' numbers, in programs as a user's.
quick_form = pytest.mark.optimized


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_gradients(function, *arguments):
    """The output of a function and, for one gradient of the output, those of its arguments."""
    arguments = [jnp.asarray(a) for a in arguments]
    y, backward = jax.vjp(function, *arguments)
    return y, backward(jnp.asarray(numbers(*y.shape, seed=9), y.dtype))


def compiled(function):
    """`jax.jit` as the networks are run."""
    return jax.jit(function, compiler_options=layers.compiler_options())


def assert_tuned_agrees(function, *arguments, tolerance=1e-5):
    """A layer gives what XLA's plain operation gives: output and gradients, within `tolerance` of the largest."""
    tuned = compiled(functools.partial(with_gradients, function))(*arguments)

    def plainly(*arguments):  # another function, or JAX would hand back the compiled tuned one
        return with_gradients(function, *arguments)

    with layers.plain_forms():
        plain = compiled(plainly)(*arguments)
    chex.assert_trees_all_equal_shapes_and_dtypes(tuned, plain)
    for ours, theirs in zip(jax.tree.leaves(tuned), jax.tree.leaves(plain), strict=True):
        ours, theirs = (np.asarray(a, np.float32) for a in (ours, theirs))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.max(np.abs(theirs)))
    return tuned


def plain_convolution(images, kernel):
    return lax.conv_general_dilated(images, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


@quick_form
@pytest.mark.parametrize(
    'image, kernel',
    [
        ((3, 32, 32, 1), (5, 5, 1, 6)),  # LeNet-5's C1
        ((2, 14, 14, 6), (5, 5, 6, 16)),  # its C3
        ((1, 9, 13, 3), (3, 4, 3, 2)),  # a prime number of rows, an oblong kernel
    ],
)
def test_toeplitz_convolution_is_convolution(image, kernel):
    x, k = numbers(*image), numbers(*kernel, seed=1)
    (y, plain), (tuned_y, tuned) = (
        compiled(functools.partial(with_gradients, form))(x, k)
        for form in (plain_convolution, cpu.toeplitz_convolution)
    )
    chex.assert_trees_all_close(tuned_y, y, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_close(tuned, plain, rtol=1e-4, atol=1e-4)


@quick_form
def test_a_convolution_as_large_as_the_image_is_fully_connected():
    x, k = numbers(4, 5, 5, 16), numbers(5, 5, 16, 120, seed=1)
    y = layers.convolution(x, k, (1, 1), 'VALID')
    chex.assert_shape(y, (4, 1, 1, 120))
    chex.assert_trees_all_close(y, plain_convolution(x, k), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('options', [{'strides': (2, 2)}, {'padding': 'SAME'}, {'kernel_dilation': (2, 2)}])
def test_conv_agrees_with_flax_where_the_fast_form_does_not_apply(options):
    x = jax.random.normal(jax.random.key(0), (2, 12, 12, 4))
    ours, theirs = layers.Conv(8, (3, 3), **options), nn.Conv(8, (3, 3), **({'padding': 'VALID'} | options))
    variables = theirs.init(jax.random.key(1), x)
    chex.assert_trees_all_close(ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-6)


@quick_form
def test_max_pool_gradient_goes_to_the_first_of_equals():
    x = np.round(numbers(2, 8, 6, 3))  # integers, so that there are many ties

    def xla(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    def tuned(x):
        return cpu.max_pool(x, 2, 2, ((0, 0), (0, 0)))

    def ours(x):
        return layers.max_pool(x, 2, 2)

    expected = compiled(functools.partial(with_gradients, xla))(x)
    chex.assert_trees_all_equal(compiled(functools.partial(with_gradients, tuned))(x), expected)
    chex.assert_trees_all_equal(compiled(ours)(x), expected[0])


# Convolution, by the definition


def convolved(images, kernel, stride, pads, groups):
    """Each output map reads the inputs of its group: [B, H, W, C] by [k, k', C/groups, F] in float64."""
    rows, columns, inputs, features = kernel.shape
    x = np.pad(images.astype(np.float64), ((0, 0), *pads, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), (1, 2))[:, ::stride, ::stride]
    maps = []
    for feature in range(features):
        first = feature // (features // groups) * inputs
        maps.append(np.einsum('bhwcij,ijc->bhw', windows[:, :, :, first : first + inputs], kernel[..., feature]))
    return np.stack(maps, axis=-1)


@quick_form
@pytest.mark.parametrize(
    'image, kernel, stride, padding, groups',
    [
        # strided, as in the networks; odd sizes too, and rows that no window reaches
        ((2, 14, 14, 6), (3, 3, 6, 8), 2, 1, 1),
        ((2, 15, 13, 6), (3, 3, 6, 8), 2, 1, 1),
        ((1, 32, 30, 3), (7, 7, 3, 8), 2, 3, 1),  # ResNet
        ((1, 28, 29, 3), (7, 7, 3, 8), 2, 0, 1),  # OverFeat
        ((1, 35, 39, 3), (11, 11, 3, 8), 4, 2, 1),  # AlexNet in one tower
        ((1, 47, 48, 3), (11, 11, 3, 8), 4, 0, 1),  # AlexNet
        ((1, 55, 26, 5), (5, 5, 5, 7), 2, 0, 1),  # ZFNet
        ((1, 17, 18, 5), (5, 5, 5, 7), 3, 0, 1),
        ((2, 9, 8, 3), (2, 2, 3, 4), 3, 0, 1),  # pixels between the windows
        # 1x1
        ((2, 7, 9, 5), (1, 1, 5, 11), 1, 0, 1),
        ((2, 7, 9, 11), (1, 1, 11, 5), 2, 0, 1),
        ((2, 8, 8, 5), (1, 1, 5, 5), 2, 0, 1),
        ((2, 6, 6, 4), (1, 1, 4, 4), 1, 1, 1),
        # wide enough for Winograd's form: even and odd outputs, with and without padding
        ((2, 8, 8, 64), (3, 3, 64, 64), 1, 1, 1),
        ((1, 7, 9, 64), (3, 3, 64, 80), 1, 1, 1),
        ((1, 7, 8, 80), (3, 3, 80, 64), 1, 0, 1),
        ((1, 5, 5, 64), (3, 3, 64, 64), 1, 2, 1),
        ((1, 3, 3, 64), (3, 3, 64, 64), 1, 1, 1),
        # other odd sides, at stride 1
        ((2, 9, 7, 5), (5, 5, 5, 6), 1, 2, 1),
        ((2, 9, 7, 5), (3, 3, 5, 6), 1, 1, 1),
        # groups: AlexNet's two towers, ResNeXt, SENet-154 (twice as many outputs as inputs), and others
        ((2, 7, 7, 96), (5, 5, 48, 32), 1, 2, 2),
        ((1, 6, 6, 128), (3, 3, 4, 128), 1, 1, 32),
        ((1, 8, 7, 128), (3, 3, 4, 128), 2, 1, 32),
        ((1, 6, 6, 128), (3, 3, 2, 256), 1, 1, 64),
        ((1, 7, 6, 256), (3, 3, 4, 128), 2, 1, 64),
        ((1, 6, 6, 12), (3, 3, 4, 6), 2, 0, 3),
        ((1, 6, 6, 6), (3, 3, 1, 12), 1, 1, 6),
        ((1, 5, 5, 12), (1, 1, 4, 6), 1, 0, 3),
    ],
)
def test_convolution_is_the_definition(image, kernel, stride, padding, groups):
    x, k = numbers(*image), numbers(*kernel, seed=1)
    pads = ((padding, padding),) * 2

    def convolution(x, k):
        return layers.convolution(x, k, (stride, stride), pads, feature_group_count=groups)

    y, _ = assert_tuned_agrees(convolution, x, k)
    expected = convolved(x, k, stride, pads, groups)
    chex.assert_shape(y, expected.shape)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))


@quick_form
@pytest.mark.parametrize('stride, window, channels', [(1, 3, 64), (2, 3, 8), (4, 11, 8)])
def test_convolution_with_zeros_at_the_bottom_and_right_only(stride, window, channels):
    # As where the size is rounded up: ZFNet's 224, AlexNet's 224.
    x, k = numbers(2, 34, 33, channels), numbers(window, window, channels, channels, seed=1)
    pads = ((0, stride), (0, 1))
    y, _ = assert_tuned_agrees(lambda x, k: layers.convolution(x, k, (stride, stride), pads), x, k)
    expected = convolved(x, k, stride, pads, 1)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.max(np.abs(expected)))


@quick_form
@pytest.mark.parametrize(
    'image, kernel, stride, groups',
    [((2, 9, 9, 6), (3, 3, 6, 8), 2, 1), ((2, 8, 8, 64), (3, 3, 64, 64), 1, 1), ((2, 6, 6, 64), (3, 3, 2, 64), 1, 32)],
)
def test_convolution_in_bfloat16(image, kernel, stride, groups):
    x, k = (jnp.asarray(a, jnp.bfloat16) for a in (numbers(*image), numbers(*kernel, seed=1)))
    pads = ((1, 1), (1, 1))

    def convolution(x, k):
        return layers.convolution(x, k, (stride, stride), pads, feature_group_count=groups)

    y, _ = assert_tuned_agrees(convolution, x, k, tolerance=2**-6)  # sums of some roundings of 2^-9
    assert y.dtype == jnp.bfloat16
    expected = convolved(np.asarray(x, np.float32), np.asarray(k, np.float32), stride, pads, groups)
    np.testing.assert_allclose(np.asarray(y, np.float32), expected, rtol=0, atol=2**-6 * np.max(np.abs(expected)))


# Pooling, by the definition


def windows_of(x, window, stride, padding, rule, fill):
    """[B, H', W', window * window, C]: the pixels of every window in row order, `fill` beyond the image.

    `rule` is how a size is rounded: math.floor, or math.ceil with the last window hanging over.
    """
    sizes = [rule((size + 2 * padding - window) / stride) + 1 for size in x.shape[1:3]]
    reach = [stride * (size - 1) + window for size in sizes]
    padded = np.full(
        (len(x), *[max(r, n + 2 * padding) for r, n in zip(reach, x.shape[1:3], strict=True)], x.shape[-1]),
        fill,
        x.dtype,
    )
    padded[:, padding : padding + x.shape[1], padding : padding + x.shape[2]] = x
    out = np.empty((len(x), *sizes, window * window, x.shape[-1]), x.dtype)
    for i, j in np.ndindex(*sizes):
        patch = padded[:, stride * i : stride * i + window, stride * j : stride * j + window]
        out[:, i, j] = patch.reshape(len(x), window * window, -1)
    return out


POOLS = [
    # size, window, stride, padding, round up, its size by the papers
    (112, 3, 2, 0, True, 56),  # GoogLeNet, ResNet in Caffe
    (56, 3, 2, 0, True, 28),
    (28, 3, 2, 0, True, 14),
    (14, 3, 2, 0, True, 7),
    (110, 3, 2, 0, True, 55),  # ZFNet
    (26, 3, 2, 0, True, 13),
    (13, 3, 2, 0, True, 6),
    (55, 3, 2, 0, False, 27),  # AlexNet
    (27, 3, 2, 0, False, 13),
    (112, 3, 2, 1, False, 56),  # ResNet in Torch
    (15, 3, 2, 1, False, 8),
    (14, 3, 1, 1, False, 14),  # within the modules of GoogLeNet
    (108, 3, 3, 0, False, 36),  # OverFeat
    (29, 3, 3, 0, False, 9),
    (28, 2, 2, 0, False, 14),
    (15, 2, 2, 0, False, 7),
    (14, 7, 7, 0, False, 2),
]


@quick_form
@pytest.mark.parametrize('size, window, stride, padding, ceil, expected', POOLS)
def test_max_pool_takes_the_largest_and_its_gradient_goes_to_the_first_of_equals(
    size, window, stride, padding, ceil, expected
):
    x = np.round(numbers(2, size, size, 3))  # integers, so that there are many ties
    x = np.maximum(x, 0) if size % 4 == 0 else x  # as after a ReLU, and not
    y, (to_x,) = assert_tuned_agrees(lambda x: layers.max_pool(x, window, stride, padding, ceil), x)
    chex.assert_shape(y, (2, expected, expected, 3))
    pixels = windows_of(x, window, stride, padding, math.ceil if ceil else math.floor, -np.inf)
    np.testing.assert_array_equal(y, pixels.max(3))

    gradient, first = numbers(*y.shape, seed=9), np.argmax(pixels, axis=3)  # the first of equals
    padded = np.zeros((2, *[size + 2 * padding + window] * 2, 3))
    for b, i, j, c in np.ndindex(*y.shape):
        row, column = divmod(first[b, i, j, c], window)
        padded[b, stride * i + row, stride * j + column, c] += gradient[b, i, j, c]
    inside = slice(padding, padding + size)
    np.testing.assert_allclose(to_x, padded[:, inside, inside], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('size', [6, 7, 14, 15])
def test_a_pool_of_the_same_size_as_a_strided_convolution(size):
    x = numbers(1, size, size + 1, 2)
    y = layers.max_pool(x, 3, 2, ceil='same')
    chex.assert_shape(y, (1, -(-size // 2), -(-(size + 1) // 2), 2))
    for i, j in np.ndindex(*y.shape[1:3]):
        np.testing.assert_array_equal(y[:, i, j], x[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max((1, 2)))


@quick_form
@pytest.mark.parametrize(
    'size, window, stride, padding, expected',
    [
        (28, 3, 1, 1, 28),  # within the modules of BN-Inception
        (14, 5, 3, 0, 4),  # GoogLeNet's heads
        (56, 2, 2, 0, 28),  # DenseNet
        (15, 2, 2, 0, 7),
        (9, 7, 1, 0, 3),  # a dense ResNet
        (7, 3, 2, 1, 4),
    ],
)
def test_average_pool_divides_by_the_full_window_padding_included(size, window, stride, padding, expected):
    x = numbers(2, size, size, 3)
    y, _ = assert_tuned_agrees(lambda x: layers.average_pool(x, window, stride, padding), x)
    chex.assert_shape(y, (2, expected, expected, 3))
    pixels = windows_of(x, window, stride, padding, math.floor, 0)
    np.testing.assert_allclose(y, pixels.sum(3) / window**2, rtol=1e-5, atol=1e-6)
    if padding:
        corner = layers.average_pool(np.ones_like(x), window, stride, padding)[:, 0, 0]
        np.testing.assert_allclose(corner, 4 / 9, rtol=1e-6)  # of a 3x3 window, two by two are in the image


# Normalization


@pytest.mark.parametrize(
    'reading, alpha, k',
    [
        ('paper', 1e-4, 2),  # the printed formula
        ('cuda_convnet', 1e-4 / 5, 2),  # divided by n
        ('caffe', 1e-4 / 5, 1),
    ],
)
def test_local_response_normalization(reading, alpha, k):
    x = 100 * numbers(2, 3, 3, 8)  # large enough for the sum to matter
    expected = np.empty_like(x)
    for c in range(8):
        total = sum(x[..., j].astype(np.float64) ** 2 for j in range(max(0, c - 2), min(7, c + 2) + 1))
        expected[..., c] = x[..., c] / (k + alpha * total) ** 0.75
    np.testing.assert_allclose(layers.local_response_norm(x, reading), expected, rtol=1e-5)
    assert np.max(np.abs(expected - x / k**0.75)) > 1


def test_local_response_normalization_in_bfloat16_sums_in_float32():
    x = jnp.asarray(100 * numbers(2, 3, 3, 8), jnp.bfloat16)
    y = layers.local_response_norm(x)
    assert y.dtype == jnp.bfloat16
    exact = layers.local_response_norm(x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=2**-8)  # one rounding, at the end


def test_an_unknown_reading_is_reported():
    with pytest.raises(UserError, match="lrn must be one of paper, cuda_convnet, caffe, not 'torch'"):
        layers.local_response_norm(numbers(1, 2, 2, 8), 'torch')


def normalized(x, scale, bias):
    """Ioffe and Szegedy 2015, algorithm 1, in float64; and the mean and the biased variance."""
    x = x.astype(np.float64)
    mean = x.sum((0, 1, 2)) / (x.size / x.shape[-1])
    variance = ((x - mean) ** 2).sum((0, 1, 2)) / (x.size / x.shape[-1])
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias, mean, variance


def batch_norm(x, scale, bias, train=True, group_size=0):
    """The layer: its output and new statistics, from statistics that are not those of a start."""
    variables = {
        'params': {'scale': scale, 'bias': bias},
        'batch_stats': {'mean': jnp.full(scale.shape, 0.5), 'var': jnp.full(scale.shape, 2.0)},
    }
    layer = layers.BatchNorm(group_size, dtype=x.dtype)
    y, state = layer.apply(variables, x, train, mutable=['batch_stats'])
    return y, state['batch_stats']


NORMED = (3 * numbers(8, 5, 4, 6) + 7, 1 + 0.1 * numbers(6, seed=1), numbers(6, seed=2))


@pytest.mark.parametrize('plain', [False, True])
def test_batch_norm_in_training(plain):
    x, scale, bias = NORMED
    with layers.plain_forms() if plain else contextlib.nullcontext():
        y, statistics = batch_norm(*map(jnp.asarray, NORMED))
    expected, mean, variance = normalized(x, scale, bias)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics['mean'], 0.9 * 0.5 + 0.1 * mean, rtol=1e-5)
    unbiased = variance * 160 / 159  # of 8 images of 5x4
    np.testing.assert_allclose(statistics['var'], 0.9 * 2 + 0.1 * unbiased, rtol=1e-5)


@pytest.mark.parametrize('plain', [False, True])
def test_batch_norms_gradient_is_that_of_its_definition(plain):
    def defined(x, scale, bias):
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        per_map = layers.per_map
        return (x - per_map(mean)) * per_map(scale / jnp.sqrt(variance + 1e-5)) + per_map(bias)

    arguments = tuple(map(jnp.asarray, NORMED))
    with layers.plain_forms() if plain else contextlib.nullcontext():
        ours = with_gradients(lambda *a: batch_norm(*a)[0], *arguments)
    chex.assert_trees_all_close(ours, with_gradients(defined, *arguments), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('plain', [False, True])
@pytest.mark.parametrize('group_size', [4, 2])
def test_groups_of_batch_norm_are_normalized_apart(plain, group_size):
    x, scale, bias = map(jnp.asarray, NORMED)
    groups = np.split(NORMED[0], 8 // group_size)
    with layers.plain_forms() if plain else contextlib.nullcontext():
        together = with_gradients(lambda *a: batch_norm(*a, group_size=group_size)[0], x, scale, bias)
        statistics = batch_norm(x, scale, bias, group_size=group_size)[1]
    expected = [normalized(group, *NORMED[1:]) for group in groups]
    np.testing.assert_allclose(together[0], np.concatenate([y for y, _, _ in expected]), rtol=1e-4, atol=1e-4)
    pixels = group_size * 20
    mean = np.mean([mean for _, mean, _ in expected], axis=0)
    variance = np.mean([variance for _, _, variance in expected], axis=0) * pixels / (pixels - 1)
    np.testing.assert_allclose(statistics['mean'], 0.9 * 0.5 + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(statistics['var'], 0.9 * 2 + 0.1 * variance, rtol=1e-5)

    # The gradients: to the images those of each group, to scale and bias their sum.
    gradients = np.split(numbers(*x.shape, seed=9), 8 // group_size)
    apart = []
    for group, gradient in zip(groups, gradients, strict=True):
        backward = jax.vjp(lambda *a: batch_norm(*a)[0], jnp.asarray(group), scale, bias)[1]
        apart.append(backward(jnp.asarray(gradient)))
    to_x, to_scale, to_bias = zip(*apart, strict=True)
    chex.assert_trees_all_close(together[1], (jnp.concatenate(to_x), sum(to_scale), sum(to_bias)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('group_size', [0, 8, 16])
def test_a_group_is_at_most_the_batch(group_size):
    chex.assert_trees_all_equal(
        batch_norm(*map(jnp.asarray, NORMED), group_size=group_size), batch_norm(*map(jnp.asarray, NORMED))
    )


def test_a_batch_is_a_multiple_of_the_group_size():
    with pytest.raises(UserError, match='batch of 8 images is not a multiple of group_size=3'):
        batch_norm(*map(jnp.asarray, NORMED), group_size=3)


def test_batch_norm_at_test_time_reads_the_running_statistics_and_leaves_them():
    x, scale, bias = NORMED
    y, statistics = batch_norm(*map(jnp.asarray, NORMED), train=False)
    np.testing.assert_allclose(y, (x - 0.5) / np.sqrt(2 + 1e-5) * scale + bias, rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(statistics, {'mean': jnp.full(6, 0.5), 'var': jnp.full(6, 2.0)})


@quick_form
@pytest.mark.parametrize('group_size', [0, 4])
@pytest.mark.parametrize('mean, deviation', [(0, 1), (5, 0.5), (-30, 10)])
def test_the_gradient_of_batch_norm_is_that_of_its_formula(mean, deviation, group_size):
    x = deviation * NORMED[0] + mean
    assert_tuned_agrees(lambda *a: batch_norm(*a, group_size=group_size)[0], x, *NORMED[1:], tolerance=1e-4)


def test_no_gradient_flows_through_the_statistics():
    def total(x):
        return sum(leaf.sum() for leaf in jax.tree.leaves(batch_norm(x, *map(jnp.asarray, NORMED[1:]))[1]))

    for forms in (layers.plain_forms, contextlib.nullcontext):
        with forms():
            assert not np.any(jax.grad(total)(jnp.asarray(NORMED[0])))


def test_batch_norm_in_bfloat16_keeps_float32_statistics():
    x = jnp.asarray(NORMED[0], jnp.bfloat16)
    y, statistics = batch_norm(x, *map(jnp.asarray, NORMED[1:]))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(statistics)} == {jnp.dtype(jnp.float32)}
    expected, mean, _ = normalized(np.asarray(x, np.float32), *NORMED[1:])
    np.testing.assert_allclose(statistics['mean'], 0.9 * 0.5 + 0.1 * mean, rtol=1e-5)  # of the rounded images, exactly
    np.testing.assert_allclose(np.asarray(y, np.float32), expected, rtol=2**-8, atol=2**-8)


def test_a_pixel_alone_has_no_variance():
    with pytest.raises(UserError, match='batch norm over a single value always returns its bias'):
        batch_norm(jnp.full((1, 1, 1, 6), 3.0), *map(jnp.asarray, NORMED[1:]))


# Others


def test_prelu_has_a_slope_for_each_channel():
    x, slope = numbers(2, 3, 3, 4), np.array([0.25, 0.0, -0.5, 2.0], np.float32)
    layer = layers.PReLU()
    np.testing.assert_array_equal(layer.init(jax.random.key(0), x)['params']['slope'], np.full(4, 0.25))
    y, (to_x, to_slope) = with_gradients(lambda x, slope: layer.apply({'params': {'slope': slope}}, x), x, slope)
    np.testing.assert_allclose(y, np.maximum(x, 0) + slope * np.minimum(x, 0), rtol=1e-6)
    gradient = numbers(*x.shape, seed=9)
    np.testing.assert_allclose(to_x, gradient * np.where(x > 0, 1, slope), rtol=1e-6)
    np.testing.assert_allclose(to_slope, (gradient * np.minimum(x, 0)).sum((0, 1, 2)), rtol=1e-5, atol=1e-6)


def test_plain_forms_are_other_forms_and_last_as_long_as_they_are_asked_for():
    x, k = jnp.asarray(numbers(2, 8, 8, 64)), jnp.asarray(numbers(3, 3, 64, 64))

    def operations():
        jaxpr = jax.make_jaxpr(lambda x, k: layers.max_pool(layers.convolution(x, k, (2, 2), 'SAME'), 3, 2))(x, k)
        return {equation.primitive.name for equation in jaxpr.eqns}

    tuned = operations()
    with layers.plain_forms():
        plain = operations()
    assert plain == {'conv_general_dilated', 'reduce_window_max'}
    assert tuned != plain
    assert operations() == tuned


def test_sum_pool_adds_the_four():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    expected = x.reshape(2, 2, 2, 3, 2, 3).sum((2, 4))
    chex.assert_trees_all_equal(np.asarray(layers.sum_pool_2x2(x)), expected)


def test_scaled_tanh_passes_through_one():
    # LeCun et al. 1998, appendix A: f(1) = 1, f(-1) = -1, and the second derivative is largest there.
    assert float(layers.scaled_tanh(jnp.float32(1))) == pytest.approx(1, abs=1e-4)
    assert float(layers.scaled_tanh(jnp.float32(-1))) == pytest.approx(-1, abs=1e-4)
    x = jnp.linspace(0, 3, 301)
    second = jax.vmap(jax.grad(jax.grad(layers.scaled_tanh)))(x)
    assert float(x[jnp.argmax(jnp.abs(second))]) == pytest.approx(1, abs=0.02)


def test_uniform_fan_in_fills_its_range():
    w = layers.uniform_fan_in(2.4)(jax.random.key(0), (5, 5, 6, 16))
    assert 0.98 < float(jnp.max(jnp.abs(w))) / (2.4 / 150) <= 1
