"""The layouts of tensors in other programs and in ours, for all networks.

| | ours | PyTorch, Caffe |
| --- | --- | --- |
| convolution | [k, k', in / groups, out] | [out, in / groups, k, k'] |
| fully connected | [in, out] | [out, in], or a 1x1 convolution [out, in, 1, 1] |
| fully connected, reading a map | [k, k', in, out] | [out, in * k * k']: by channel, row, column |
| batch norm | scale, bias, mean, var | PyTorch's the same; in Caffe two layers, see `caffe_file.py` |
| first convolution, Caffe | red, green, blue | blue, green, red |
"""

import numpy as np

TORCH = {'kernel': 'weight', 'bias': 'bias', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
CAFFE = {'kernel': 'weights', 'bias': 'bias', 'scale': 'weights', 'mean': 'mean', 'var': 'var'}


def torch_name(path, table):
    """Return PyTorch's name of one of our variables: ('params', 'conv1', 'kernel') -> 'features.0.weight'."""
    _, *layer, leaf = path
    return f'{table(*layer)}.{TORCH[leaf]}'


def caffe_name(path, table):
    """Return the name of one of our variables in `caffe_file.read_net`: 'conv1/weights', 'bn_conv1/mean'."""
    _, *layer, leaf = path
    name = table(*layer)
    if isinstance(name, tuple):  # a batch norm: the layer that normalizes, and the one that scales
        name = name[leaf in ('scale', 'bias')]
    return f'{name}/{CAFFE[leaf]}'


def their_shape(path, shape, matrices, convolutions):
    """Return the shape that one of our variables has in the other program.

    Args:
      path: path of the variable.
      shape: shape of our variable.
      matrices: names of our layers that read a map and are a matrix there.
      convolutions: names of our fully connected layers that are 1x1 convolutions there.
    """
    if path[-1] != 'kernel':
        return shape
    if path[-2] in matrices:
        return shape[3], int(np.prod(shape[:3]))
    if len(shape) == 4:
        return shape[3], shape[2], *shape[:2]
    return (shape[1], shape[0], 1, 1) if path[-2] in convolutions else shape[::-1]


def to_ours(value, shape):
    """Convert one of their tensors to our layout and shape."""
    if len(shape) == 4:
        return value.reshape(shape[3], shape[2], *shape[:2]).transpose(2, 3, 1, 0)
    return value.reshape(shape[::-1]).T


def to_theirs(value, shape):
    """Convert one of our tensors to their layout and shape: the inverse of `to_ours`."""
    value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    return np.ascontiguousarray(value.reshape(shape))


def swap_channels(kernel):
    """Swap the kernel [k, k', 3, out] of a first layer between blue, green, red and red, green, blue."""
    return kernel[:, :, ::-1]
