"""The layers that the families share, and `Layers`, the methods with which a family file calls them.

This module decides, by backend, how to run each convolution, pooling and normalization. The CPU's faster forms are in
`cpu.py`; family files do not depend on them.
"""

import contextlib
import contextvars
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from architectures import cpu
from runtime.errors import UserError, nearest

# How layers are run

_PLAIN = contextvars.ContextVar('plain', default=False)
_LAYERS = contextvars.ContextVar('layers', default=None)


def plain_forms():
    """Context manager: layers run as plain XLA operations on every backend, the reference for the tuned forms."""
    return _within(_PLAIN, True)


def layers_from(kind):
    """Context manager: networks take their layers from `kind`, a subclass of `Layers`.

    For code that replaces some layers of a network: `figures.deconvnet` overrides `activate` and `lrn` to give them
    another gradient.
    """
    return _within(_LAYERS, kind)


@contextlib.contextmanager
def _within(variable, value):
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def on_call(visit):
    """Context manager: call `visit(module, arguments, output)` after each call of a module, inner modules first.

    For code that reads a network module by module: paths, parameters, inputs and outputs.
    """

    def intercept(call, arguments, options, context):
        output = call(*arguments, **options)
        if context.method_name == '__call__':
            visit(context.module, arguments, output)
        return output

    return nn.intercept_methods(intercept)


def _tuned():
    return jax.default_backend() == 'cpu' and not _PLAIN.get()


def compiler_options():
    """Return the `compiler_options` of `jax.jit` for this backend."""
    return cpu.compiler_options() if jax.default_backend() == 'cpu' else {}


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

    Arguments and result are those of `lax.conv_general_dilated`. Flax's `nn.Conv` calls it (see `Conv`).
    """
    strides = tuple(window_strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
    pads = tuple(map(tuple, padding))
    dilated = set(lhs_dilation or (1,)) | set(rhs_dilation or (1,)) != {1}
    if not dilated and not any(map(any, pads)) and feature_group_count == 1 and lhs.shape[1:3] == rhs.shape[:2]:
        product = jnp.dot(lhs.reshape(lhs.shape[0], -1), rhs.reshape(-1, rhs.shape[-1]), precision=precision)
        return product.reshape(lhs.shape[0], 1, 1, -1)  # the kernel covers the image: a fully connected layer
    if _tuned() and not dilated and precision is None:
        return cpu.convolution(lhs, rhs, strides, pads, feature_group_count)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        strides,
        pads,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers or cpu.DIMENSIONS,
        feature_group_count=feature_group_count,
        precision=precision,
    )


class Window(nn.Conv):
    """A fully connected layer that reads a window of a map, run and stored as a convolution."""


Conv, FullyConnected = (
    functools.partial(kind, padding='VALID', conv_general_dilated=convolution) for kind in (nn.Conv, Window)
)


def _pads(x, window, stride, padding, ceil):
    """Return ((top, bottom), (left, right)): `padding` on each side and, with `ceil`, more to fill the last window.

    `ceil` is False, True (round sizes up, as in cuda-convnet and Caffe) or 'same' (size/stride, rounded up).
    """
    overhang = [0, 0]
    if ceil == 'same':
        overhang = [(-(-size // stride) - 1) * stride + window - size - 2 * padding for size in x.shape[1:3]]
    elif ceil:
        overhang = [-(size + 2 * padding - window) % stride for size in x.shape[1:3]]
    return tuple((padding, padding + more) for more in overhang)


# `jax.named_call` gives layers that are not modules a name in profiles and in `dataflow`.


@jax.named_call
def max_pool(x, window, stride, padding=0, ceil=False):
    """Max pooling of [B, H, W, C]; the gradient goes to the first of equal values.

    `ceil` rounds the output's size up, as in cuda-convnet and Caffe: the last window hangs over the bottom and right.
    'same' makes the output's size size/stride, rounded up.
    """
    pads = _pads(x, window, stride, padding, ceil)
    if _tuned() and window <= 3:
        return cpu.max_pool(x, window, stride, pads)
    return _reduce_windows(x, -jnp.inf, lax.max, (window, window), stride, pads)


@jax.named_call
def average_pool(x, window, stride, padding=0):
    """Average pooling of [B, H, W, C]; every window divides by its full size, padding included.

    The sum is float32 and is rounded once, whatever the type of x: in bfloat16, a sum of 49 values is off by 2%.
    """
    wide, pads = x.astype(jnp.promote_types(x.dtype, jnp.float32)), _pads(x, window, stride, padding, ceil=False)
    if _tuned() and window <= 3:
        return cpu.average_pool(wide, window, stride, pads).astype(x.dtype)
    return (_reduce_windows(wide, 0.0, lax.add, (window, window), stride, pads) / window**2).astype(x.dtype)


def _reduce_windows(x, start, function, window, stride=1, pads=((0, 0), (0, 0))):
    """Reduce every window (height, width) of [B, H, W, C] with a function; padding counts as `start`."""
    padding = ((0, 0), *pads, (0, 0))
    return lax.reduce_window(x, start, function, (1, *window, 1), (1, stride, stride, 1), padding)


def max_pool_at_offsets(x, window):
    """Non-overlapping max pooling from each of window x window offsets (Sermanet et al. 2014, section 3.3).

    Args:
      x: [B, H, W, C].

    Returns:
      [window^2 B, n, m, C], offset by offset in row order; n and m are the windows that fit from every offset.
    """
    rows, columns = ((side - window + 1) // window * window for side in x.shape[1:3])
    offsets = [(top, left) for top in range(window) for left in range(window)]
    shifted = [x[:, top : top + rows, left : left + columns] for top, left in offsets]
    return max_pool(jnp.concatenate(shifted), window, window)


def interleave(maps, window):
    """Interleave the maps of `max_pool_at_offsets`: [window^2 B, n, m, K] -> [B, window n, window m, K]."""
    _, rows, columns, classes = maps.shape
    maps = maps.reshape(window, window, -1, rows, columns, classes)
    return maps.transpose(2, 3, 0, 4, 1, 5).reshape(-1, rows * window, columns * window, classes)


def separate_gradient(x):
    """Return x; on CPU, keep XLA from fusing the backward pass across this point (see `cpu.separate_gradient`)."""
    return cpu.separate_gradient(x) if _tuned() else x


@jax.named_call
def global_average(x):
    """Average over space, [B, H, W, C] -> [B, 1, 1, C]."""
    return jnp.mean(x, (1, 2), keepdims=True)


def sum_pool_2x2(x):
    """Sum each 2x2 block, [B, H, W, C] -> [B, H/2, W/2, C]; a last odd row or column is dropped."""
    return sum(strided(x, 2, top, left, x.shape[1] // 2 * 2, x.shape[2] // 2 * 2) for top in (0, 1) for left in (0, 1))


@jax.named_call
def strided(x, stride, top=0, left=0, bottom=None, right=None):
    """Take every stride-th row and column of [B, H, W, C], from (top, left) to (bottom, right)."""
    rows = lax.slice_in_dim(x, top, bottom, stride, axis=1)
    return lax.slice_in_dim(rows, left, right, stride, axis=2)


def per_map(values):
    """Reshape [C] to [1, 1, 1, C], to broadcast with [B, H, W, C]."""
    return values[None, None, None]


# {reading of local response normalization: (function of (alpha, n) that gives the factor of the sum, k)}.
LRN_READINGS = {
    'paper': (lambda alpha, n: alpha, 2.0),
    'cuda_convnet': (lambda alpha, n: alpha / n, 2.0),
    'caffe': (lambda alpha, n: alpha / n, 1.0),
}


@jax.named_call
def local_response_norm(x, reading='paper', n=5, alpha=1e-4, beta=0.75):
    """Normalization across channels: x_c / (k + a * sum of x_j^2 over the n channels around c)^beta.

    Krizhevsky et al. 2012, section 3.3. The window is truncated at the first and the last channel. There are three
    readings: the paper prints a = alpha and k = 2; the author's cuda-convnet has a = alpha / n; Caffe has that and
    k = 1.

    Args:
      x: [..., C].
      reading: 'paper', 'cuda_convnet' or 'caffe'.
    """
    choose('lrn', reading, LRN_READINGS)
    factor, k = LRN_READINGS[reading]
    wide = x.astype(jnp.float32)
    channels, half = x.shape[-1], n // 2
    squares = jnp.pad(wide * wide, [(0, 0)] * (x.ndim - 1) + [(half, half)])
    total = sum(lax.slice_in_dim(squares, shift, shift + channels, axis=x.ndim - 1) for shift in range(n))
    return (wide * (k + factor(alpha, n) * total) ** -beta).astype(x.dtype)


@jax.named_call
def spatial_pyramid(x, levels, height, width):
    """Spatial pyramid pooling of every height x width window of a map (He et al. 2014, section 2.3 and appendix A).

    Level n max-pools a window into n x n bins. On a side of `a` cells, bin i is [floor(i a / n), ceil((i + 1) a / n)),
    as in the appendix: the bins cover the window, and neighbors overlap if n does not divide a. (Section 2.3 prints
    bins of ceil(a / n) cells at a stride of floor(a / n). On its 13x13 maps they are the same; on 14x14 maps level 3
    would miss the last row and column.)

    Args:
      x: [B, H, W, C].
      levels: bins per side of each level. The output has the levels in this order, bins row by row.
      height, width: size of a window in cells: that of the map at the training size, or H and W for the whole map.

    Returns:
      [B, H - height + 1, W - width + 1, sum of levels^2 * C].
    """
    rows, columns = x.shape[1] - height + 1, x.shape[2] - width + 1
    bins = []
    for level in levels:
        if height == width and height % level == 0 and rows == columns == 1:  # equivalent, in one operation
            bins.append(max_pool(x, height // level, height // level).reshape(x.shape[0], 1, 1, -1))
            continue
        for top, bottom in _pyramid_bins(height, level):
            strip = lax.slice_in_dim(x, top, bottom + rows - 1, axis=1)
            for left, right in _pyramid_bins(width, level):
                region = lax.slice_in_dim(strip, left, right + columns - 1, axis=2)
                bins.append(_reduce_windows(region, -jnp.inf, lax.max, (bottom - top, right - left)))
    return jnp.concatenate(bins, axis=-1)


def _pyramid_bins(side, level):
    """Return [(first, end)] of the bins along one side of a window."""
    return [(i * side // level, -(-(i + 1) * side // level)) for i in range(level)]


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe and Szegedy 2015, algorithms 1 and 2).

    In training, each group of `group_size` images is normalized separately, as on the papers' GPUs (0: the whole
    batch). The running statistics are moving averages with decay `momentum`, of the unbiased variance. If `frozen`,
    training normalizes by them and does not update them.
    """

    group_size: int = 0
    frozen: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, train):
        channels = (x.shape[-1],)
        scale = self.param('scale', nn.initializers.ones, channels, self.param_dtype)
        bias = self.param('bias', nn.initializers.zeros, channels, self.param_dtype)
        mean = self.variable('batch_stats', 'mean', jnp.zeros, channels)
        var = self.variable('batch_stats', 'var', jnp.ones, channels)
        x = x.astype(self.dtype)
        if not train or self.frozen:
            slope = lax.rsqrt(var.value + self.epsilon) * scale
            y = (x.astype(jnp.float32) - per_map(mean.value)) * per_map(slope) + per_map(bias)
            return y.astype(self.dtype)
        size = min(self.group_size or len(x), len(x))
        if len(x) % size:
            raise UserError(f'a batch of {len(x)} images is not a multiple of group_size={self.group_size}')
        count = x.size // channels[0] * size // len(x)
        if count == 1 and not self.is_initializing():
            raise UserError(
                f'{"/".join(self.path)}: batch norm over a single value always returns its bias: its map is 1x1 and '
                f'{size} image is normalized at a time; use more images at a time (batch_size, accumulate, '
                'architecture_options.group_size) or larger images'
            )
        normalize = functools.partial(batch_norm, epsilon=self.epsilon)
        if size == len(x):
            y, batch_mean, batch_var = normalize(x, scale, bias)
        else:
            groups = x.reshape(len(x) // size, size, *x.shape[1:])
            y, means, variances = jax.vmap(normalize, in_axes=(0, None, None))(groups, scale, bias)
            y, batch_mean, batch_var = y.reshape(x.shape), means.mean(0), variances.mean(0)
        if not self.is_initializing():
            keep, take = self.momentum, 1 - self.momentum
            mean.value = keep * mean.value + take * batch_mean
            var.value = keep * var.value + take * batch_var * (count / max(count - 1, 1))
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def batch_norm(x, scale, bias, epsilon):
    """Batch normalization with its gradient in closed form, on CPU 2.4 to 3.7 times as fast as with autodiff.

    Mean and variance come from one pass over x - shift. Without the shift, E[x^2] - E[x]^2 cancels if a channel's mean
    is large: at a mean of 1,000 standard deviations, one digit of the variance remains. The shift is the mean of the
    middle rows of all maps. As a mean of 1/H of the values, it is within sqrt(H) standard deviations of the mean for
    any x, so the relative error of the variance is at most about H times that of a sum of all values.

    Args:
      x: [B, H, W, C].
      scale, bias: [C].

    Returns:
      y with x's shape and type, mean [C], biased variance [C]. No gradient flows through the last two.
    """
    return _batch_norm_forward(x, scale, bias, epsilon)[0]


def _batch_norm_forward(x, scale, bias, epsilon):
    wide, axes = x.astype(jnp.float32), tuple(range(x.ndim - 1))
    shift = wide[:, x.shape[1] // 2].mean((0, 1))
    for_mean, for_variance, for_y = _shifted(wide, shift, 3)
    mean = for_mean.mean(axes)
    variance = jnp.maximum((for_variance * for_variance).mean(axes) - mean * mean, 0)
    factor = lax.rsqrt(variance + epsilon)
    slope, intercept = _settled(factor * scale, bias - mean * factor * scale)
    y = for_y * per_map(slope) + per_map(intercept)
    return (y.astype(x.dtype), shift + mean, variance), (x, shift, mean, factor, scale)


def _batch_norm_backward(epsilon, residuals, gradients):
    x, shift, mean, factor, scale = residuals
    g, axes = gradients[0].astype(jnp.float32), tuple(range(x.ndim - 1))
    for_along, for_x = _shifted(x.astype(jnp.float32), shift, 2)
    total = g.sum(axes)
    along = ((g * for_along).sum(axes) - total * mean) * factor  # sum of g times the normalized x
    slope, count = factor * scale, x.size // x.shape[-1]
    # slope * (g - total/N - normalized * along/N), as one multiple of g and one of x - shift
    per_x = -slope * factor * along / count
    constant = -slope * total / count - per_x * mean
    slope, per_x, constant = map(per_map, _settled(slope, per_x, constant))
    to_x = g * slope + for_x * per_x + constant
    return to_x.astype(x.dtype), along.astype(scale.dtype), total.astype(scale.dtype)


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _shifted(x, shift, readers):
    """Return `readers` copies of x - shift; on CPU each is computed in its reader's loop, not stored once for all."""
    return [x - per_map(copy) for copy in _settled(*[shift] * readers)]


def _settled(*vectors):
    """Return the vectors, each [C]; on CPU, make XLA compute them only once."""
    return cpu.settled(*vectors) if _tuned() else vectors


# Activations and initializers


@jax.named_call
def scaled_tanh(x):
    """Compute f(a) = 1.7159 tanh(2a/3), the squashing function of LeNet-5 (LeCun et al. 1998, Eq. 6 and appendix A).

    f(1) = 1 and f(-1) = -1; its curvature is largest there.
    """
    return 1.7159 * jnp.tanh(x * (2 / 3))


class PReLU(nn.Module):
    """max(0, x) + a min(0, x), a learned for each channel and initialized to 0.25 (He et al. 2015, section 2.1)."""

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):
        slope = self.param('slope', nn.initializers.constant(0.25), (x.shape[-1],), self.param_dtype)
        return jnp.where(x >= 0, x, slope.astype(x.dtype).reshape((1,) * (x.ndim - 1) + (-1,)) * x)


_ACTIVATIONS = {
    'relu': nn.relu,
    'leaky_relu': nn.leaky_relu,
    'prelu': None,  # has parameters: `PReLU`
    'tanh': jnp.tanh,
    'scaled_tanh': scaled_tanh,
    'sigmoid': nn.sigmoid,
}


def activation(name):
    """Return the activation function of that name; UserError if it is unknown."""
    if name not in _ACTIVATIONS:
        raise UserError(f'no activation {name!r}{nearest(name, _ACTIVATIONS)} Known: {", ".join(_ACTIVATIONS)}.')
    return _ACTIVATIONS[name]


def uniform_fan_in(scale=2.4, power=1.0, fan_in=None):
    """Return an initializer that is uniform in [-scale/F^power, scale/F^power], F the number of inputs of a unit.

    2.4 and 1 are LeNet-5's (LeCun et al. 1998, appendix A). F is the product of all axes of the kernel but the last,
    or `fan_in`, an array that broadcasts with the kernel.
    """

    def init(key, shape, dtype=jnp.float32):
        f = np.prod(shape[:-1]) if fan_in is None else fan_in
        return jax.random.uniform(key, shape, dtype, -1, 1) * jnp.asarray(scale / f**power, dtype)

    return init


_scaled = nn.initializers.variance_scaling
_INITIALIZERS = {
    'lecun_uniform': uniform_fan_in(2.4),  # +-2.4/fan_in: LeCun et al. 1998
    'xavier': _scaled(1.0, 'fan_avg', 'uniform'),  # Glorot and Bengio 2010
    'caffe_xavier': _scaled(1.0, 'fan_in', 'uniform'),  # +-sqrt(3/fan_in): Caffe's "xavier" filler
    'he_fan_in': _scaled(2.0, 'fan_in', 'normal'),  # He et al. 2015, Eq. 10
    'he_fan_out': _scaled(2.0, 'fan_out', 'normal'),  # Eq. 14, which the authors used
    'he_uniform': _scaled(2.0, 'fan_in', 'uniform'),
    'torch': _scaled(1 / 3, 'fan_in', 'uniform'),  # +-1/sqrt(fan_in): Torch's default
}


def initializer(name):
    """Return the initializer of that name; 'gaussian_STD' is normal. UserError if the name is unknown."""
    if name.startswith('gaussian_'):
        with contextlib.suppress(ValueError):
            return nn.initializers.normal(float(name.removeprefix('gaussian_')))
    if name not in _INITIALIZERS:
        known = (*_INITIALIZERS, 'gaussian_0.01')
        raise UserError(f'no initializer {name!r}{nearest(name, known)} Known: {", ".join(known)} (any STD).')
    return _INITIALIZERS[name]


def choose(option, value, known):
    """Raise UserError unless `value`, the value of `option`, is one of `known`."""
    if value not in known:
        raise UserError(f'{option} must be one of {", ".join(map(str, known))}, not {value!r}')


# What family files use


class Unit(nn.Module):
    """The base of networks and their blocks, with the options of their layers.

    Options:
      activation: 'relu', 'leaky_relu', 'prelu', 'tanh', 'scaled_tanh' or 'sigmoid'.
      initializer: initializer of the weights: 'gaussian_STD', 'xavier', 'caffe_xavier', 'he_fan_in', 'he_fan_out', ...
      batch_norm: whether batch norm follows each convolution (in pre-activation networks: precedes).
      group_size: images that batch norm normalizes together; 0 is the whole batch.
      frozen_norm: in training, batch norm uses its running statistics and does not update them (for fine-tuning).
      dtype: type of the computation: float32 or bfloat16.
      param_dtype: type of the parameters.
    """

    activation: str = 'relu'
    initializer: str = 'he_fan_out'
    batch_norm: bool = False
    group_size: int = 0
    frozen_norm: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @property
    def shared(self):
        """These options, to pass to a block of this network."""
        names = [field.name for field in dataclasses.fields(Unit) if field.name not in ('parent', 'name')]
        return {name: getattr(self, name) for name in names}

    def layers(self, train, initializer=None):
        """Return the layers of this unit: `net = self.layers(train)`, `net.conv('conv1', x, 96, 11, stride=4)`, ..."""
        return (_LAYERS.get() or Layers)(self, train, initializer or self.initializer)


class Network(Unit):
    """A network: `module.apply(variables, images, train=False, dense=False)`.

    Images are float [B, H, W, C]; the result is logits [B, num_classes] in `dtype`. With `dense` the network is applied
    as a convolution: the result is a map of class scores [B, H', W', num_classes], one for each position of an image of
    the training size on the network's grid. A fully connected layer slides as a convolution, and a final average slides
    over windows of the last map's training size. At the training size the map is one cell, the logits. OverFeat and
    the PReLU-nets also have `dense='fine'` and `dense='whole'`.

    In training, auxiliary heads store their logits in the collection 'auxiliary', which `training.step` weighs. The
    activations that the paper names are stored in 'activations' (`architectures.activations` returns them).
    """

    num_classes: int = 1000

    readings = ()  # further values of `dense`


class Block(Unit):
    """A repeated part of a network; `train` is set when it is created."""

    train: bool = False


@dataclasses.dataclass(frozen=True)
class Layers:
    """The layers of one unit, with the unit's options. Each method adds a layer and returns its output.

    In a network (not in its blocks) the output of a named layer is also stored as an activation.
    """

    unit: Unit
    train: bool
    initializer: str

    def named(self, name, x, collection='activations'):
        """Store x as an activation under the paper's name; return x."""
        unit = self.unit
        if isinstance(unit, Network) and unit.is_mutable_collection(collection) and not unit.is_initializing():
            unit.put_variable(collection, name, x)
        return x

    def auxiliary(self, name, logits):
        """Store the logits of an auxiliary head for the loss."""
        self.named(name, logits, 'auxiliary')

    def conv(
        self, name, x, features, kernel, stride=1, padding=0, groups=1, bias=0.0, linear=False, ceil=False, norm=None
    ):
        """Convolution, then batch norm where the unit has it, then the activation.

        Args:
          name: name of the layer.
          x: [B, H, W, C].
          kernel: side of the kernel.
          padding: zeros on every side.
          bias: initial bias; None is no bias if the unit has batch norm, and 0 otherwise.
          linear: whether to leave out the activation function.
          ceil: whether to fill the last window with zeros at the bottom and right, as in cuda-convnet.
          norm: overrides the unit's `batch_norm`.
        """
        unit, pads = self.unit, _pads(x, kernel, stride, padding, ceil)
        norm = unit.batch_norm if norm is None else norm
        self._check_input(name, x, kernel, pads, groups)
        x = Conv(
            features,
            (kernel, kernel),
            strides=(stride, stride),
            padding=pads,
            feature_group_count=groups,
            use_bias=bias is not None or not unit.batch_norm,
            bias_init=nn.initializers.constant(bias or 0.0),
            kernel_init=initializer(self.initializer),
            dtype=unit.dtype,
            param_dtype=unit.param_dtype,
            name=name,
        )(x)
        if norm:
            x = self.norm(f'{name}_bn', x)
        return self.named(name, x if linear else self.activate(name, x))

    def fc(self, name, x, features, window=1, bias=0.0, linear=False, init=None):
        """A fully connected layer on every window x window part of [B, H, W, C]."""
        unit = self.unit
        self.check_size(x, window)
        options = {
            'kernel_init': initializer(init or self.initializer),
            'bias_init': nn.initializers.constant(bias),
            'dtype': unit.dtype,
            'param_dtype': unit.param_dtype,
            'name': name,
        }
        layer = nn.Dense(features, **options) if window == 1 else FullyConnected(features, (window, window), **options)
        x = layer(x)
        return self.named(name, x if linear else self.activate(name, x))

    def logits(self, name, x, dense, window=1, init=None):
        """The last layer: [B, num_classes], or a map of scores if dense."""
        x = self.fc(name, x, self.unit.num_classes, window, linear=True, init=init)
        return x if dense else self.one_cell(x)

    def one_cell(self, x):
        """Reshape a map of one cell to logits [B, num_classes]; UserError if the map is larger."""
        if x.shape[1:3] != (1, 1):
            raise UserError(
                f'{type(self.unit).__name__}: the images are larger than its training size and give a map of '
                f'{x.shape[1]}x{x.shape[2]} scores: use its own size (or dense=True in Python, for the map)'
            )
        return x.reshape(x.shape[0], x.shape[3])

    def average(self, name, x, window, dense):
        """Average over space, or, if dense, over every window of the map's training size."""
        if dense:
            self.check_size(x, window)
        return self.named(name, average_pool(x, window, 1) if dense else global_average(x))

    def check_size(self, x, window):
        """Raise UserError if a map is smaller than a window."""
        if min(x.shape[1:3]) < window:
            raise UserError(
                f'{type(self.unit).__name__}: the images are smaller than its training size: they give a map of '
                f'{x.shape[1]}x{x.shape[2]}, and it needs {window}x{window}'
            )

    def _check_input(self, name, x, window, pads, groups=1):
        """Raise UserError if no window of a layer fits its input, or a convolution's weights are of other channels."""
        unit = self.unit
        if min(size + sum(pad) for size, pad in zip(x.shape[1:3], pads, strict=True)) < window:
            raise UserError(
                f'the images are too small: the input of {name} is {x.shape[1]}x{x.shape[2]}, and its windows are '
                f'{window}x{window}'
            )
        if isinstance(unit, Network) and unit.has_variable('params', name):
            channels = unit.get_variable('params', name)['kernel'].shape[-2] * groups
            if channels != x.shape[-1]:
                raise UserError(
                    f'{type(unit).__name__}: {name} reads {channels} channels, and its input is {x.shape}: images are '
                    '[B, H, W, C], with the channels last'
                )

    def norm(self, name, x):
        """Batch norm, if the unit has it."""
        unit = self.unit
        if not unit.batch_norm:
            return x
        options = {'frozen': unit.frozen_norm, 'dtype': unit.dtype, 'param_dtype': unit.param_dtype}
        return BatchNorm(unit.group_size, **options, name=name)(x, self.train)

    def activate(self, name, x):
        """The unit's activation function; the slopes of a PReLU are named after the layer."""
        function = activation(self.unit.activation)
        return function(x) if function else PReLU(self.unit.param_dtype, name=f'{name}_prelu')(x)

    def max_pool(self, name, x, window, stride, padding=0, ceil=False):
        """Max pooling."""
        self._check_input(name, x, window, _pads(x, window, stride, padding, ceil))
        return self.named(name, max_pool(x, window, stride, padding, ceil))

    def lrn(self, x):
        """Local response normalization as read by the unit's `lrn`; 'none' leaves it out."""
        return x if self.unit.lrn == 'none' else local_response_norm(x, self.unit.lrn)

    def dropout(self, x, rate):
        """Dropout in training; the remaining values are scaled up."""
        return nn.Dropout(rate, deterministic=not self.train)(x)
