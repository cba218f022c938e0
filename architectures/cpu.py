"""How the CPU backend runs a layer fast.

XLA's CPU backend is slow where the 1998 networks live: small images, a handful of channels. Its convolution
gradients are slower still inside `lax.scan`, and the gradient of `reduce_window` is a scalar loop. The forms below
compute the same numbers from matrix products and elementwise operations. `layers.py` picks them by backend and
shape; nobody else looks in here. `tests/test_layers.py` holds each form against the plain one in value and gradient,
and `benchmark.py lenet5` measures what they are worth.
"""

import jax
import jax.numpy as jnp


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


@jax.custom_vjp
def max_pool_2x2(x):
    """2x2 max pooling with stride 2, [B, H, W, C] -> [B, H/2, W/2, C]; H and W even.

    The gradient goes to the first largest of the four in row order, as in Torch and in XLA's own: after a ReLU ties
    are common, and the gradient of `jnp.max` would split them.
    """
    return jnp.max(_quarters(x), axis=0)


def _quarters(x):
    return jnp.stack([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])


def _max_pool_2x2_forward(x):
    y = jnp.max(_quarters(x), axis=0)
    return y, (x, y)


def _max_pool_2x2_backward(residuals, gradient):
    x, y = residuals
    taken = jnp.zeros(y.shape, bool)
    parts = []
    for quarter in _quarters(x):
        first = (quarter == y) & ~taken
        taken |= first
        parts.append(jnp.where(first, gradient, 0))
    # [2, 2, B, h, w, C] -> [B, h, 2, w, 2, C]
    spread = jnp.stack(parts).reshape(2, 2, *y.shape).transpose(2, 3, 0, 4, 1, 5)
    return (spread.reshape(x.shape),)


max_pool_2x2.defvjp(_max_pool_2x2_forward, _max_pool_2x2_backward)
