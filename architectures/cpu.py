"""Fast forms of the layers on the CPU backend.

XLA's CPU backend is fast at matrix products, dense convolutions of stride 1 and elementwise loops, and slow, up to a
hundredfold, at the rest: 1x1, strided and grouped convolutions and their gradients, and `reduce_window`. The forms
below compute the same numbers with the fast operations. Only `layers.py` uses them, by backend and shape.
`tests/test_layers.py` compares values and gradients of each form with the plain one; `benchmark.py` compares their
speed with PyTorch's.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

DIMENSIONS = ('NHWC', 'HWIO', 'NHWC')


@functools.cache
def compiler_options():
    """Return options of `jax.jit` that run convolutions with XLA's kernels, dots and reductions with the library's.

    The option is experimental in jaxlib 0.10; if it is refused, there are none. Measured: 1.1 to 1.3 times the speed
    of a training step of a deep network.
    """
    options = {'xla_cpu_experimental_ynn_fusion_type': 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT,LIBRARY_FUSION_TYPE_REDUCE'}
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


# Convolution


def convolution(images, kernel, stride, pads, groups=1):
    """Convolve [B, H, W, C] with [k, k', C/groups, F] in the fastest form known.

    Args:
      stride: (rows, columns).
      pads: ((top, bottom), (left, right)), not negative.
      groups: groups of channels.

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
    """A 1x1 convolution, on two axes: with more, XLA adds transposes to the gradient's matrix product."""
    return _product(images.reshape(-1, len(matrix)), matrix).reshape(*images.shape[:-1], -1)


@jax.custom_vjp
def _product(x, matrix):
    """[N, C] @ [C, F] for large N. The matrix's gradient is computed with the narrower array as first operand."""
    return x @ matrix


def _product_backward(residuals, gradient):
    x, matrix = residuals
    to_x = lax.dot_general(gradient, matrix, (((1,), (1,)), ((), ())))
    over_n = (((0,), (0,)), ((), ()))
    if x.shape[1] <= gradient.shape[1]:
        return to_x, lax.dot_general(x, gradient, over_n)
    # The barrier keeps XLA from swapping the operands back: 7 ms instead of 10 for 25088 x 256 x 64.
    return to_x, lax.optimization_barrier(lax.dot_general(gradient, x, over_n)).T


_product.defvjp(lambda x, matrix: (x @ matrix, (x, matrix)), _product_backward)


def _plain(images, kernel, stride, pads):
    return lax.conv_general_dilated(images, kernel, stride, pads, dimension_numbers=DIMENSIONS)


def _grouped(images, kernel, stride, pads, groups, width=32):
    """A grouped convolution as dense ones with block-diagonal kernels, each over `width` channels.

    With XLA's own grouped convolution, a training step of ResNeXt-50 takes 85 s on CPU. The zeros cost multiply-adds,
    but a product only 4 channels wide would leave vector units idle; a width of 32 was the fastest measured.
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
    """A convolution whose gradient with respect to the images is computed phase by phase.

    XLA dilates the incoming gradient with zeros and convolves that. Here each of the stride^2 phases of the images is
    computed by a convolution with those taps of the kernel that reach it, without work on zeros.
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
    """Build [B, H, W, C] from its phases: phases[a * stride + b][:, i, j] is at row stride * i + a - offset, etc."""
    rows, columns = phases[0].shape[1:3]
    maps = jnp.stack(phases).reshape(*stride, *phases[0].shape).transpose(2, 3, 0, 4, 1, 5)
    maps = maps.reshape(shape[0], rows * stride[0], columns * stride[1], shape[-1])
    missing = [max(0, offset[axis] + shape[axis + 1] - maps.shape[axis + 1]) for axis in (0, 1)]
    if any(missing):  # rows beyond the last window
        maps = jnp.pad(maps, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)))
    return maps[:, offset[0] : offset[0] + shape[1], offset[1] : offset[1] + shape[2]]


# Winograd's F(2x2, 3x3): Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1. A 4x4
# tile of the images gives 2x2 outputs with 16 products instead of 36: Y = A'[(G w G') * (B' d B)]A. The functions below
# apply its matrices to one axis; `_twice` applies them to both axes of a grid of arrays.


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
    """Transform the columns of a grid, then its rows."""
    half = zip(*(transform(*column) for column in zip(*grid, strict=True)), strict=True)
    return [transform(*row) for row in half]


def _products(left, right, contract):
    """Return the grid of matrix products of two grids; `contract` has the axis of each operand to sum over."""
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    pairs = [zip(*rows, strict=True) for rows in zip(left, right, strict=True)]
    return [[lax.dot_general(a, b, dimensions) for a, b in row] for row in pairs]


def _phases(images, window, pads, tiles):
    """Return a window x window grid of [B * tiles, C]: the pixels at each position of tiles two pixels apart."""
    spans = [2 * count + window - 2 for count in tiles]
    padding = [(pads[axis][0], spans[axis] - images.shape[axis + 1] - pads[axis][0]) for axis in (0, 1)]
    images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    stops = [2 * count - 1 for count in tiles]
    positions = range(window)
    grid = [[images[:, i : i + stops[0] : 2, j : j + stops[1] : 2] for j in positions] for i in positions]
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

    In float32 it is as exact as the direct form: both are off by about 1e-6 of the largest output. Measured: 1.4 to 2
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
    """Whether `toeplitz_convolution` pays: for small images of few channels."""
    height, width = image_shape[1:3]
    _, _, channels, features = kernel_shape
    return height * width <= 64 * 64 and channels <= 16 and features <= 32


def toeplitz_convolution(images, kernel):
    """A VALID, stride 1 convolution of tiny images as one matrix product.

    A row of the output is split into tiles of t columns. A tile is a linear function of k rows by t + k - 1 columns of
    the image, with a Toeplitz matrix built from the kernel. The product does (t + k - 1)/k times the work of the
    convolution, but is t times as wide: with only 6 or 16 channels, a matrix unit needs the width.

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

    # [k, span, C, t, F]: for each column of the tile, the kernel shifted right by that column.
    matrix = jnp.stack(
        [jnp.pad(kernel, ((0, 0), (shift, tile - 1 - shift), (0, 0), (0, 0))) for shift in range(tile)], axis=3
    )
    outputs = windows.reshape(-1, k_rows * span * channels) @ matrix.reshape(k_rows * span * channels, -1)
    return outputs.reshape(batch, rows, columns, features)


def _tile(columns):
    """Return the width of a tile: the divisor nearest to 4.5, as 4 or 5 columns were the fastest measured."""
    divisors = [t for t in range(1, columns + 1) if columns % t == 0]
    return min(divisors, key=lambda t: (abs(t - 4.5), t))


# Pooling


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def max_pool(x, window, stride, pads):
    """Max pooling of [B, H, W, C] as the maximum of window^2 strided slices.

    The gradient goes to the first maximum of a window in row order, as in Torch and XLA. After a ReLU ties are common,
    and the gradient of `jnp.maximum` would be split between them.

    Args:
      window, stride: size and stride on both axes.
      pads: ((top, bottom), (left, right)), filled with minus infinity.
    """
    return functools.reduce(jnp.maximum, _taps(x, window, stride, pads))


def _taps(x, window, stride, pads):
    """Return, for each position in the window in row order, the values there in all windows: [B, H', W', C]."""
    if any(itertools.chain(*pads)):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    spans = [(size - window) // stride * stride + 1 for size in x.shape[1:3]]
    positions = itertools.product(range(window), repeat=2)
    return [x[:, i : i + spans[0] : stride, j : j + spans[1] : stride] for i, j in positions]


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
    """Return the vectors, each [C] float32, unchanged, but make XLA compute them only once.

    XLA would fuse their computation into every loop that uses them and repeat it for each element; it fuses nothing
    into a matrix product. This removes a third of the instructions of a deep network's step, and their compile time.
    """
    return tuple(jnp.eye(len(vectors), dtype=jnp.float32) @ jnp.stack(vectors))


@jax.custom_vjp
def separate_gradient(x):
    """Return x; its gradient is computed and stored once instead of in every loop that reads it.

    In a dense block the gradient of a map is a sum over all later layers, and XLA repeats that sum in the loop of every
    layer: code that grows with the square of the depth and takes minutes to compile. A branch that XLA cannot resolve
    ends the fusion, at the cost of a copy. (`lax.optimization_barrier` is removed before the CPU backend fuses.)
    """
    return x


def _separate(gradient):
    first = gradient.reshape(-1)[0]
    return lax.cond(first == first, lambda g: g, lambda g: g * jnp.nan, gradient)  # both branches give the same value


separate_gradient.defvjp(lambda x: (x, None), lambda _, gradient: (_separate(gradient),))
