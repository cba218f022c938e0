"""The layers that the families share.

One way to run a convolution and one way to pool: how they run is decided here, by backend and shape. The CPU's faster
forms are in `cpu.py`, and a family file never meets them.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from architectures import cpu
from errors import UserError, nearest


def scaled_tanh(x):
    """f(a) = 1.7159 tanh(2a/3), the squashing function of LeNet-5 (LeCun et al. 1998, Eq. 6 and appendix A).

    f(1) = 1 and f(-1) = -1, where its curvature is largest.
    """
    return 1.7159 * jnp.tanh(x * (2 / 3))


_ACTIVATIONS = {'relu': nn.relu, 'tanh': jnp.tanh, 'scaled_tanh': scaled_tanh, 'sigmoid': nn.sigmoid}


def activation(name):
    """The activation of that name; UserError for an unknown one."""
    if name not in _ACTIVATIONS:
        raise UserError(f'no activation {name!r}{nearest(name, _ACTIVATIONS)} There are: {", ".join(_ACTIVATIONS)}.')
    return _ACTIVATIONS[name]


def choose(option, value, known):
    """Raises UserError unless `value`, given for `option`, is one of the known."""
    if value not in known:
        raise UserError(f'{option} is one of {", ".join(known)}, not {value!r}')


def uniform_fan_in(scale=2.4, power=1.0, fan_in=None):
    """Uniform in [-scale/F^power, scale/F^power], F the number of inputs of the unit.

    With 2.4 and 1 it is LeNet-5's (LeCun et al. 1998, appendix A). F is the product of the kernel's axes but the last,
    or `fan_in`, an array that goes with the kernel.
    """

    def init(key, shape, dtype=jnp.float32):
        f = np.prod(shape[:-1]) if fan_in is None else fan_in
        return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(scale / f**power, dtype)

    return init


def convolution(
    lhs,
    rhs,
    window_strides,
    padding,
    lhs_dilation=None,
    rhs_dilation=None,
    dimension_numbers=None,
    feature_group_count=1,
    precision=None,
):
    """`lax.conv_general_dilated` for NHWC images and HWIO kernels, run in the fastest exact form.

    Arguments and result are those of `lax.conv_general_dilated`; Flax's `nn.Conv` calls it (see `Conv`).
    """
    plain = (
        padding == 'VALID'
        and set(window_strides) == {1}
        and feature_group_count == 1
        and set(lhs_dilation or (1,)) == set(rhs_dilation or (1,)) == {1}
    )
    if plain and lhs.shape[1:3] == rhs.shape[:2]:  # the kernel covers the image: a fully connected layer
        product = jnp.dot(lhs.reshape(len(lhs), -1), rhs.reshape(-1, rhs.shape[-1]), precision=precision)
        return product.reshape(len(lhs), 1, 1, -1)
    if plain and jax.default_backend() == 'cpu' and cpu.is_tiny(lhs.shape, rhs.shape):
        return cpu.toeplitz_convolution(lhs, rhs)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        precision=precision,
    )


Conv = functools.partial(nn.Conv, padding='VALID', conv_general_dilated=convolution)


def max_pool(x, window, stride):
    """Max pooling of [B, H, W, C] without padding; the gradient goes to the first of equal values."""
    even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    if window == stride == 2 and even and jax.default_backend() == 'cpu':
        return cpu.max_pool_2x2(x)
    return nn.max_pool(x, (window, window), (stride, stride))


def per_map(values):
    """[C] as [1, 1, 1, C], to go with [B, H, W, C]."""
    return values[None, None, None]


def sum_pool_2x2(x):
    """The sum of each 2x2 block, [B, H, W, C] -> [B, H/2, W/2, C]."""
    return x[:, 0::2, 0::2] + x[:, 0::2, 1::2] + x[:, 1::2, 0::2] + x[:, 1::2, 1::2]
