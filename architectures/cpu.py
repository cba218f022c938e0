"""How the CPU backend runs a layer fast.

XLA's CPU backend is quick at matrix products, at dense convolutions of stride 1 and at elementwise loops, and slow,
some of it a hundredfold, at the rest: 1x1, strided and grouped convolutions and their gradients, `reduce_window`. The
forms below compute the same numbers from what it is quick at. `layers.py` picks them by backend and shape; nobody else
looks in here. `tests/test_layers.py` holds each form against the plain one in value and gradient, `benchmark.py`
measures what they are worth beside PyTorch.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


@functools.cache
def compiler_options():
    """Options for `jax.jit` under which convolutions run on XLA's own kernels, dots and reductions on the library's.

    The option is an experimental one of jaxlib 0.10: where it is refused there are none. Measured: 1.1 to 1.3 times
    the speed of a training step of a deep network.
    """
    options = {'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE'}
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


# Convolution


def convolution(images, kernel, stride, pads, groups=1):
    """A convolution of [B, H, W, C] by [k, k', C/groups, F] in the fastest form known.

    Args:
      stride: (rows, columns).
      pads: ((top, bottom), (left, right)), not negative.
      groups: of channels.

    Returns:
      [B, H', W', F].
    """
    if groups > 1:
        return _grouped(images, kernel, stride, pads, groups)
    if kernel.shape[:2] == (1, 1) and not any(itertools.chain(*pads)):
        return _pointwise(images[:, :: stride[0], :: stride[1]], kernel[0, 0])
    if stride == (1, 1) and not any(itertools.chain(*pads)) and is_tiny(images.shape, kernel.shape):
        return toeplitz_convolution(images, kernel)
    if stride != (1, 1):
        return strided_convolution(images, kernel, stride, pads)
    if kernel.shape[:2] == (3, 3) and min(kernel.shape[2:]) >= 64 and images.dtype == jnp.float32:
        return winograd_convolution(images, kernel, pads)
    return _plain(images, kernel, stride, pads)


def _pointwise(images, matrix):
    """A 1x1 convolution. Two axes, so that the gradient too is a product of matrices: of more, XLA makes transposes."""
    return _product(images.reshape(-1, len(matrix)), matrix).reshape(*images.shape[:-1], -1)


@jax.custom_vjp
def _product(x, matrix):
    """[N, C] @ [C, F], N large. The gradient to the matrix is taken as the product whose first operand is narrow."""
    return x @ matrix


def _product_backward(residuals, gradient):
    x, matrix = residuals
    to_x = lax.dot_general(gradient, matrix, (((1,), (1,)), ((), ())))
    over_n = (((0,), (0,)), ((), ()))
    if x.shape[1] <= gradient.shape[1]:
        return to_x, lax.dot_general(x, gradient, over_n)
    # The barrier keeps XLA from turning it round again: 7 ms against 10 for 25088 x 256 x 64.
    return to_x, lax.optimization_barrier(lax.dot_general(gradient, x, over_n)).T


_product.defvjp(lambda x, matrix: (x @ matrix, (x, matrix)), _product_backward)


def _plain(images, kernel, stride, pads):
    return lax.conv_general_dilated(images, kernel, stride, pads, dimension_numbers=DIMENSIONS)


def _grouped(images, kernel, stride, pads, groups, width=32):
    """A grouped convolution as a dense one for each `width` channels, its kernel block-diagonal.

    XLA's CPU backend takes 85 s for a training step of ResNeXt-50 with its own grouped convolution. Zeros cost
    multiply-adds, but a product 4 channels wide leaves a vector unit idle all the same; 32 was the fastest measured.
    """
    rows, columns, channels, features = kernel.shape
    together = max(1, min(groups, width // channels))
    while groups % together:
        together -= 1
    # [k, k', c, slices, together, f] times the identity: [k, k', slices, together, c, together, f].
    blocks = kernel.reshape(rows, columns, channels, groups // together, together, features // groups)
    outputs = []
    for index in range(groups // together):
        block = blocks[:, :, :, index]
        if together > 1:
            diagonal = jnp.eye(together, dtype=kernel.dtype)[None, None, :, None, :, None]
            block = block[:, :, None] * diagonal
        block = block.reshape(rows, columns, together * channels, together * features // groups)
        first = index * together * channels
        outputs.append(convolution(images[..., first : first + together * channels], block, stride, pads))
    return jnp.concatenate(outputs, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def strided_convolution(images, kernel, stride, pads):
    """A convolution whose gradient to the images is taken phase by phase.

    XLA's gradient fills the incoming one up with zeros and convolves that. Here each of the stride^2 phases of the
    images gets a convolution of its own, with those taps of the kernel that reach it: no work on zeros.
    """
    return _plain(images, kernel, stride, pads)


def _strided_forward(images, kernel, stride, pads):
    return _plain(images, kernel, stride, pads), (images, kernel)


def _strided_backward(stride, pads, residuals, gradient):
    images, kernel = residuals
    to_kernel = jax.vjp(lambda k: _plain(images, k, stride, pads), kernel)[1](gradient)[0]
    padded = [size + sum(pad) for size, pad in zip(images.shape[1:3], pads, strict=True)]
    counts = [-(-size // step) for size, step in zip(padded, stride, strict=True)]  # positions of each phase
    phases = []
    for a, b in itertools.product(range(stride[0]), range(stride[1])):
        taps = kernel[a :: stride[0], b :: stride[1]]
        if not taps.size:
            phases.append(jnp.zeros((len(images), *counts, images.shape[-1]), gradient.dtype))
            continue
        taps = taps[::-1, ::-1].swapaxes(2, 3)
        around = [(taps.shape[axis] - 1, counts[axis] - gradient.shape[axis + 1]) for axis in (0, 1)]
        phases.append(_plain(gradient, taps, (1, 1), around))
    return _interleave(phases, stride, [p[0] for p in pads], images.shape), to_kernel


strided_convolution.defvjp(_strided_forward, _strided_backward)


def _interleave(phases, stride, offset, shape):
    """[B, H, W, C] from its phases: phases[a * stride + b][:, i, j] is at row stride * i + a - offset, and so on."""
    rows, columns = phases[0].shape[1:3]
    whole = jnp.stack(phases).reshape(*stride, *phases[0].shape).transpose(2, 3, 0, 4, 1, 5)
    whole = whole.reshape(shape[0], rows * stride[0], columns * stride[1], shape[-1])
    missing = [max(0, offset[axis] + shape[axis + 1] - whole.shape[axis + 1]) for axis in (0, 1)]
    if any(missing):  # rows beyond the last window
        whole = jnp.pad(whole, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    return whole[:, offset[0] : offset[0] + shape[1], offset[1] : offset[1] + shape[2]]


# Winograd's F(2x2, 3x3): Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1. A 4x4
# tile of the images makes 2x2 outputs by 16 products where the definition takes 36: Y = A'[(G w G') * (B' d B)]A. The
# transforms below are its matrices, each applied to both axes of a grid of arrays by `_twice`.


def _tile_transform(a, b, c, d):
    return a - c, b + c, c - b, b - d  # B'


def _kernel_transform(a, b, c):
    return a, (a + b + c) * 0.5, (a - b + c) * 0.5, c  # G


def _output_transform(a, b, c, d):
    return a + b + c, b - c - d  # A'


def _gradient_transform(a, b):
    return a, a + b, a - b, -b  # A


def _kernel_gradient_transform(a, b, c, d):
    return a + (b + c) * 0.5, (b - c) * 0.5, (b + c) * 0.5 + d  # G'


def _twice(transform, grid):
    """The transform of a grid's columns, then of its rows."""
    half = zip(*(transform(*column) for column in zip(*grid, strict=True)), strict=True)
    return [transform(*row) for row in half]


def _products(left, right, contract):
    """The grid of matrix products of two grids; `contract` is the axis of each operand that is summed over."""
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    pairs = [zip(*rows, strict=True) for rows in zip(left, right, strict=True)]
    return [[lax.dot_general(a, b, dimensions) for a, b in row] for row in pairs]


def _phases(images, window, pads, tiles):
    """A window x window grid of [B * tiles, C]: what stands at each place of tiles two pixels apart."""
    spans = [2 * count + window - 2 for count in tiles]
    padding = [(pads[axis][0], spans[axis] - images.shape[axis + 1] - pads[axis][0]) for axis in (0, 1)]
    images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    stops = [2 * count - 1 for count in tiles]
    places = range(window)
    grid = [[images[:, i : i + stops[0] : 2, j : j + stops[1] : 2] for j in places] for i in places]
    return [[part.reshape(-1, images.shape[-1]) for part in row] for row in grid]


def _output_size(images, pads):
    return [size + sum(pad) - 2 for size, pad in zip(images.shape[1:3], pads, strict=True)]


def _winograd(images, kernel, pads, contract):
    size = _output_size(images, pads)
    tiles = [-(-extent // 2) for extent in size]
    transformed = _twice(_tile_transform, _phases(images, 4, pads, tiles))
    products = _products(transformed, _twice(_kernel_transform, kernel), (1, contract))
    parts = [part.reshape(len(images), *tiles, -1) for row in _twice(_output_transform, products) for part in row]
    return _interleave(parts, (2, 2), (0, 0), (len(images), *size, parts[0].shape[-1]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def winograd_convolution(images, kernel, pads):
    """A 3x3 convolution of stride 1 by Winograd's minimal filtering: 2.25 times fewer multiplications.

    In float32 it is as exact as the definition: either is off by about 1e-6 of the largest output. Measured: 1.4 to 2
    times as fast as XLA's convolution, in the forward pass and in both gradients.
    """
    return _winograd(images, kernel, pads, contract=0)


def _winograd_backward(pads, residuals, gradient):
    images, kernel = residuals
    opposite = tuple((2 - before, 2 - after) for before, after in pads)
    to_images = _winograd(gradient, kernel[::-1, ::-1], opposite, contract=1)
    tiles = [-(-extent // 2) for extent in _output_size(images, pads)]
    inputs = _twice(_tile_transform, _phases(images, 4, pads, tiles))
    outputs = _twice(_gradient_transform, _phases(gradient, 2, ((0, 0), (0, 0)), tiles))
    to_kernel = _twice(_kernel_gradient_transform, _products(inputs, outputs, (0, 0)))
    return to_images, jnp.stack([jnp.stack(row) for row in to_kernel])


winograd_convolution.defvjp(
    lambda images, kernel, pads: (_winograd(images, kernel, pads, contract=0), (images, kernel)), _winograd_backward
)


def is_tiny(image_shape, kernel_shape):
    """Whether `toeplitz_convolution` pays: small images of few channels, where a convolution is no work at all."""
    height, width = image_shape[1:3]
    _, _, channels, features = kernel_shape
    return height * width <= 64 * 64 and channels <= 16 and features <= 32


def toeplitz_convolution(images, kernel):
    """A VALID, stride 1 convolution of tiny images as one matrix product.

    A row of the output is cut into tiles of t columns. A tile depends on k rows by t + k - 1 columns of the image, and
    linearly, by a Toeplitz matrix built from the kernel. The product does (t + k - 1)/k times the
    convolution's work, but it is t times as wide, and with 6 or 16 channels width is what a matrix unit lacks.

    Args:
      images: [B, H, W, C].
      kernel: [k, k', C, F].

    Returns:
      [B, H - k + 1, W - k' + 1, F].
    """
    batch, height, width, channels = images.shape
    k_rows, k_columns, _, features = kernel.shape
    rows, columns = height - k_rows + 1, width - k_columns + 1
    tile = _tile(columns)
    span = tile + k_columns - 1

    windows = jnp.stack([images[:, :, start : start + span] for start in range(0, columns, tile)], axis=2)
    windows = windows.reshape(batch, height, columns // tile, span * channels)
    windows = jnp.concatenate([windows[:, row : row + rows] for row in range(k_rows)], axis=-1)

    # [k, span, C, t, F]: for each column of the tile, the kernel moved that far to the right.
    matrix = jnp.stack(
        [jnp.pad(kernel, ((0, 0), (shift, tile - 1 - shift), (0, 0), (0, 0))) for shift in range(tile)], axis=3
    )
    outputs = windows.reshape(-1, k_rows * span * channels) @ matrix.reshape(k_rows * span * channels, -1)
    return outputs.reshape(batch, rows, columns, features)


def _tile(columns):
    """The tile's width: 4 or 5 columns were the fastest measured; otherwise the nearest divisor."""
    divisors = [t for t in range(1, columns + 1) if columns % t == 0]
    return min(divisors, key=lambda t: (abs(t - 4.5), t))


# Pooling


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x, window, stride, pads):
    """Max pooling of [B, H, W, C] as the maximum of window^2 strided slices.

    The gradient goes to the first largest of a window in row order, as in Torch and in XLA's own: after a ReLU ties
    are common, and the gradient of `jnp.maximum` would split them.

    Args:
      window, stride: of both axes.
      pads: ((top, bottom), (left, right)), with what is smaller than anything.
    """
    return functools.reduce(jnp.maximum, _taps(x, window, stride, pads))


def _taps(x, window, stride, pads):
    """For each place of the window, in row order: what stands there in each window, [B, H', W', C]."""
    if any(itertools.chain(*pads)):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    spans = [(size - window) // stride * stride + 1 for size in x.shape[1:3]]
    places = itertools.product(range(window), repeat=2)
    return [x[:, i : i + spans[0] : stride, j : j + spans[1] : stride] for i, j in places]


def _max_pool_forward(x, window, stride, pads):
    taps = _taps(x, window, stride, pads)
    y = functools.reduce(jnp.maximum, taps)
    place = jnp.full(y.shape, len(taps) - 1, jnp.int8)
    for number in range(len(taps) - 2, -1, -1):
        place = jnp.where(taps[number] == y, jnp.int8(number), place)
    return y, (place, jnp.zeros((0, *x.shape[1:]), x.dtype))


def _max_pool_backward(window, stride, pads, residuals, gradient):
    place, like = residuals
    shape, size = (len(place), *like.shape[1:]), place.shape[1:3]
    padded = [shape[axis + 1] + sum(pads[axis]) for axis in (0, 1)]
    counts = [max(-(-padded[axis] // stride), size[axis] + (window - 1) // stride) for axis in (0, 1)]
    phases = []
    for a, b in itertools.product(range(stride), repeat=2):
        phase = jnp.zeros((len(place), *counts, shape[-1]), gradient.dtype)
        for i, j in itertools.product(range(a, window, stride), range(b, window, stride)):
            taken = jnp.where(place == i * window + j, gradient, 0)
            before = (i // stride, j // stride)
            after = [counts[axis] - size[axis] - before[axis] for axis in (0, 1)]
            phase += jnp.pad(taken, ((0, 0), *zip(before, after, strict=True), (0, 0)))
        phases.append(phase)
    return (_interleave(phases, (stride, stride), [pad[0] for pad in pads], shape),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def average_pool(x, window, stride, pads):
    """Average pooling that counts the padding, as the sum of window^2 strided slices."""
    if any(itertools.chain(*pads)):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    if window == stride and not any(size % window for size in x.shape[1:3]):
        batch, height, width, channels = x.shape
        return x.reshape(batch, height // window, window, width // window, window, channels).mean((2, 4))
    return sum(_taps(x, window, stride, ((0, 0), (0, 0)))) / window**2


# Fusion


def settled(*vectors):
    """The vectors, each [C] float32, as they are, but computed once.

    XLA fuses what makes them into every loop that uses them, to be computed again for each element; into a product it
    fuses nothing. It takes a third of the instructions out of a deep network's step, and the time to compile them.
    """
    return tuple(jnp.eye(len(vectors), dtype=jnp.float32) @ jnp.stack(vectors))


@jax.custom_vjp
def separate_gradient(x):
    """x; its gradient is computed and stored in one place instead of in every loop that reads it.

    In a dense block the gradient of a map is a sum over all layers above it, and XLA writes that sum out in the loop of
    every layer: code of the square of the depth, and minutes to compile it. A branch that it cannot foresee ends a
    loop; this one costs a copy. (`lax.optimization_barrier` is gone before the CPU backend fuses.)
    """
    return x


def _separate(gradient):
    first = gradient.reshape(-1)[0]
    return lax.cond(first == first, lambda g: g, lambda g: g * jnp.nan, gradient)  # the same, whatever the branch


separate_gradient.defvjp(lambda x: (x, None), lambda _, gradient: (_separate(gradient),))
