"""A network as an ONNX graph, with a rule for each of the few operations that these networks use.

The operations are those of the traced network (its jaxpr). Images stay [batch, H, W, C]: ONNX's convolutions and pools
are channels first, so each is placed between two transpositions, which a runtime cancels where they meet. jax2onnx
supports many more operations, but up to version 0.17 it pools over the wrong axes of such images.
"""

import functools
import math

import jax
import numpy as np
from jax import export as jax_export
from jax import lax

from architectures import graph
from runtime.errors import UserError

OPSET = 18
_TO_CHANNELS_FIRST, _BACK = (0, 3, 1, 2), (0, 2, 3, 1)
_LONGEST = np.iinfo(np.int64).max
_MORE = 1, 2, 4, 8, 16  # pixels, added to the images
_SMALL = 1_000  # numbers: longer constants are weights, whatever the size of the images


def write(path, function, image_shape, name):
    """Write a function of images as an ONNX file, with input 'images' [batch, H, W, C] and output 'logits'.

    The batch has any size, and the images do if the graph is the same for all of a few sizes.

    Args:
      path: path of the file.
      function: images -> logits, with its weights as constants.
      image_shape: (H, W, C).
      name: name of the graph.

    Returns:
      Whether the graph takes images of any size.

    Raises:
      UserError: the package onnx is missing, or an operation has no rule.
    """
    try:
        import onnx
    except ImportError:
        raise UserError('writing ONNX needs another package: pip install onnx') from None
    (out, logits), helper = _trace(onnx, function, image_shape), onnx.helper
    any_size = _fits_other_sizes(out, onnx, function, image_shape)
    sides = ('height', 'width', image_shape[2]) if any_size else image_shape
    ends = [
        helper.make_tensor_value_info(label, onnx.TensorProto.FLOAT, ['batch', *shape])
        for label, shape in (('images', sides), ('logits', logits.shape[1:]))
    ]
    onnx_graph = helper.make_graph(out.nodes, name, ends[:1], ends[1:], out.initializers)
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return any_size


def _trace(onnx, function, image_shape):
    """Return the `_Graph` of a function of images of one size, and the abstract value of its result."""
    (batch,) = jax_export.symbolic_shape('batch')
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *image_shape), 'float32'))
    out = _Graph(onnx)
    table = {operation: functools.partial(rule, out) for operation, rule in _RULES.items()}
    rules = graph.Rules('ONNX (weights/onnx_file.py)', follows=str, table=table, computes=True)
    (result,) = graph.walk(rules, closed, ['images'])
    out.node('Identity', result, name='logits')
    out.remove_unread()
    return out, closed.out_avals[0]


def _fits_other_sizes(out, onnx, function, image_shape):
    """Return whether the graph is the same for larger images, of every remainder by the strides of a network."""
    rows, columns, channels = image_shape
    for more in _MORE:
        try:
            other, _ = _trace(onnx, function, (rows + more, columns + 2 * more + 1, channels))
        except (UserError, TypeError, ValueError, ZeroDivisionError):  # raised by a network for a wrong shape
            return False
        if out.digest() != other.digest():
            return False
    return True


class _Graph:
    """The nodes and weights so far. A value is a tensor's name, or an array if it does not depend on the images."""

    def __init__(self, onnx):
        self.onnx, self.nodes, self.initializers, self.count = onnx, [], [], 0
        self.sums = {}  # name of a sum: (what is summed, its axes, how many numbers)

    def node(self, kind, *inputs, name=None, **attributes):
        """Add a node; return the name of its output."""
        self.count += 1
        name = name or f'{kind.lower()}_{self.count}'
        inputs = [self.named(x) for x in inputs]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def named(self, value):
        """Return the name of a value; an array becomes a weight of the graph."""
        if isinstance(value, str):
            return value
        self.count += 1
        name = f'constant_{self.count}'
        self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def remove_unread(self):
        """Remove the nodes and constants that the logits do not depend on."""
        read, nodes = {'logits'}, []
        for node in reversed(self.nodes):
            if read & {*node.output}:
                nodes.append(node)
                read |= {*node.input}
        self.nodes = nodes[::-1]
        self.initializers = [tensor for tensor in self.initializers if tensor.name in read]

    def digest(self):
        """Return a list that is equal for graphs that compute the same, given the same weights."""
        constants = [
            (tensor.name, tensor.dims[:], tensor.raw_data if np.prod(tensor.dims) <= _SMALL else b'')
            for tensor in self.initializers
        ]
        return [node.SerializeToString(deterministic=True) for node in self.nodes] + constants

    def integers(self, kind, x, *numbers, **attributes):
        """Add a node that reads x and lists of integers."""
        return self.node(kind, x, *(np.array(row, np.int64) for row in numbers), **attributes)

    def channels_first(self, kind, x, *more, **attributes):
        """Add a node that takes channels first, for x [B, H, W, C]."""
        x = self.node('Transpose', x, perm=_TO_CHANNELS_FIRST)
        return self.node('Transpose', self.node(kind, x, *more, **attributes), perm=_BACK)


# The rules: (graph, operation, *operands) -> name of the result


def _convolution(out, operation, x, kernel):
    params = operation.params
    assert params['dimension_numbers'] == lax.ConvDimensionNumbers(_TO_CHANNELS_FIRST, (3, 2, 0, 1), _TO_CHANNELS_FIRST)
    assert set(params['lhs_dilation']) == {1} and not isinstance(kernel, str)
    kernel, pads = np.asarray(kernel).transpose(3, 2, 0, 1), _pads(params['padding'])
    sizes = {'strides': params['window_strides'], 'dilations': params['rhs_dilation'], 'pads': pads}
    return out.channels_first('Conv', x, kernel, group=params['feature_group_count'], **sizes)


def _pool(kind, out, operation, x, **attributes):
    window, strides, padding = (operation.params[key] for key in ('window_dimensions', 'window_strides', 'padding'))
    assert (window[0], window[3], strides[0], strides[3]) == (1, 1, 1, 1)
    sizes = {'kernel_shape': window[1:3], 'strides': strides[1:3], 'pads': _pads(padding[1:3])}
    return out.channels_first(kind, x, **sizes, **attributes)


def _max_pool(out, operation, x):
    """A window that hangs over the end is said by a mode, not by a padding, which depends on the size."""
    window, strides, padding = (
        operation.params[key][1:3] for key in ('window_dimensions', 'window_strides', 'padding')
    )
    sizes = operation.inputs[0].shape[1:3]
    overhang = [(0, -(size - side) % step) for size, side, step in zip(sizes, window, strides, strict=True)]
    if [tuple(pads) for pads in padding] != overhang:
        return _pool('MaxPool', out, operation, x)
    return out.channels_first('MaxPool', x, kernel_shape=window, strides=strides, ceil_mode=1)


def _sum_pool(out, operation, x):
    mean = _pool('AveragePool', out, operation, x, count_include_pad=1)
    return out.node('Mul', mean, np.float32(np.prod(operation.params['window_dimensions'])))


def _pads(padding):
    """Convert ((top, bottom), (left, right)) to ONNX's order: (top, left, bottom, right)."""
    return [before for before, _ in padding] + [after for _, after in padding]


def _product(out, operation, x, y):
    last = len(operation.inputs[0].shape) - 1
    (left, right), batch = operation.params['dimension_numbers']
    assert (tuple(left), tuple(right), batch) == ((last,), (0,), ((), ()))
    return out.node('MatMul', x, y)


def _reshape(out, operation, x, sides=None):
    sides = sides or operation.outputs[0].shape  # of which one may be symbolic
    result = out.integers('Reshape', x, [n if isinstance(n, int) else -1 for n in sides])
    if x in out.sums:
        out.sums[result] = out.sums[x]
    return result


def _reduce_sum(out, operation, x):
    axes = operation.params['axes']
    result = out.integers('ReduceSum', x, axes, keepdims=0)
    out.sums[result] = x, axes, math.prod(operation.inputs[0].shape[axis] for axis in axes)
    return result


def _divide(out, operation, x, y):
    """A sum over all of a map divided by its size is its mean, whatever the size."""
    if isinstance(x, str) and x in out.sums and not isinstance(y, str) and np.size(y) == 1:
        summed, axes, count = out.sums[x]
        if float(np.asarray(y).item()) == count:
            return _reshape(out, operation, out.integers('ReduceMean', summed, axes, keepdims=0))
    return out.node('Div', x, y)


def _broadcast(out, operation, x):
    """Insert axes of size 1; ONNX broadcasts them with the other operand, as NumPy does."""
    sides = dict(zip(operation.params['broadcast_dimensions'], operation.inputs[0].shape, strict=True))
    return _reshape(out, operation, x, [sides.get(axis, 1) for axis in range(len(operation.outputs[0].shape))])


def _pad(out, operation, x, value):
    lows, highs, between = zip(*operation.params['padding_config'], strict=True)
    assert min(lows + highs) >= 0 and not any(between)
    return out.node('Pad', x, np.array(lows + highs, np.int64), np.asarray(value, np.float32))


def _slice(out, operation, x):
    params = operation.params
    limits = zip(params['limit_indices'], operation.inputs[0].shape, strict=True)
    ends = [n if isinstance(n, int) and n != side else _LONGEST for n, side in limits]
    axes, steps = range(len(ends)), params['strides'] or [1] * len(ends)
    return out.integers('Slice', x, params['start_indices'], ends, axes, steps)


def _cast(out, operation, x):
    dtype = np.dtype(operation.params['new_dtype'])
    return out.node('Cast', x, to=out.onnx.helper.np_dtype_to_tensor_dtype(dtype))


def _node(kind):
    return lambda out, operation, *inputs: out.node(kind, *inputs)


_RULES = {
    **{'add': _node('Add'), 'sub': _node('Sub'), 'mul': _node('Mul'), 'div': _divide, 'neg': _node('Neg')},
    **{'max': _node('Max'), 'min': _node('Min'), 'abs': _node('Abs'), 'pow': _node('Pow'), 'sqrt': _node('Sqrt')},
    **{'exp': _node('Exp'), 'log': _node('Log'), 'tanh': _node('Tanh'), 'logistic': _node('Sigmoid')},
    **{'ge': _node('GreaterOrEqual'), 'gt': _node('Greater'), 'le': _node('LessOrEqual'), 'lt': _node('Less')},
    'rsqrt': lambda out, operation, x: out.node('Reciprocal', out.node('Sqrt', x)),
    'square': lambda out, operation, x: out.node('Mul', x, x),
    'integer_pow': lambda out, operation, x: out.node('Pow', x, np.float32(operation.params['y'])),
    'select_n': lambda out, operation, which, no, yes: out.node('Where', which, yes, no),
    'conv_general_dilated': _convolution,
    'dot_general': _product,
    'reduce_window_max': _max_pool,
    'reduce_window_sum': _sum_pool,
    'reduce_sum': _reduce_sum,
    **dict.fromkeys(('reshape', 'squeeze', 'expand_dims'), _reshape),
    'broadcast_in_dim': _broadcast,
    'transpose': lambda out, operation, x: out.node('Transpose', x, perm=operation.params['permutation']),
    'concatenate': lambda out, operation, *inputs: out.node('Concat', *inputs, axis=operation.params['dimension']),
    'pad': _pad,
    'slice': _slice,
    'convert_element_type': _cast,
    **dict.fromkeys(('copy', 'stop_gradient', 'optimization_barrier'), lambda out, operation, x: x),
}
