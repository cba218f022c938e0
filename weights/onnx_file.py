"""A network as an ONNX graph: the few operations that the decade needs, each by its ONNX form.

The operations are those of the traced network (its jaxpr). Images stay [batch, H, W, C]: ONNX's convolutions and pools
want channels first, so that each stands between two transpositions, which a runtime cancels where they meet. jax2onnx,
which knows many more operations, is not used: up to its version 0.17 it pools over the wrong axes of such images.
"""

import jax
import numpy as np
from jax import export as jax_export
from jax import lax
from jax.extend import core

from runtime.errors import UserError

OPSET = 18
_TO_CHANNELS_FIRST, _BACK = (0, 3, 1, 2), (0, 2, 3, 1)
_LONGEST = np.iinfo(np.int64).max
ELEMENTWISE = {
    **{'add': 'Add', 'sub': 'Sub', 'mul': 'Mul', 'div': 'Div', 'max': 'Max', 'min': 'Min', 'pow': 'Pow'},
    **{'exp': 'Exp', 'log': 'Log', 'tanh': 'Tanh', 'logistic': 'Sigmoid', 'sqrt': 'Sqrt', 'neg': 'Neg', 'abs': 'Abs'},
    **{'ge': 'GreaterOrEqual', 'gt': 'Greater', 'le': 'LessOrEqual', 'lt': 'Less'},
}
_CALLS = ('jit', 'pjit', 'closed_call', 'core_call', 'custom_jvp_call', 'custom_vjp_call', 'remat')


def write(path, function, image_shape, name):
    """Writes a function of images as an ONNX file; input 'images' [batch, H, W, C], output 'logits'.

    Args:
      path: of the file.
      function: images -> logits, its weights inside.
      image_shape: (H, W, C).
      name: of the graph.

    Raises:
      UserError: the package onnx is missing, or an operation has no form here.
    """
    try:
        import onnx
        from onnx import helper
    except ImportError:
        raise UserError('writing ONNX needs a package more: pip install onnx') from None
    (batch,) = jax_export.symbolic_shape('batch')
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((batch, *image_shape), 'float32'))
    graph = _Graph()
    (result,) = graph.run(closed.jaxpr, closed.consts, ['images'])
    graph.node('Identity', result, name='logits')
    (out,) = closed.out_avals
    ends = [
        helper.make_tensor_value_info(label, onnx.TensorProto.FLOAT, ['batch', *shape])
        for label, shape in (('images', image_shape), ('logits', out.shape[1:]))
    ]
    made = helper.make_graph(graph.nodes, name, ends[:1], ends[1:], graph.initializers)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)


class _Graph:
    """Nodes and weights so far. A value is the name of a tensor, or an array while nothing depends on the images."""

    def __init__(self):
        self.nodes, self.initializers, self.count = [], [], 0

    def run(self, jaxpr, constants, arguments):
        """The values that a jaxpr puts out."""
        values = dict(zip(jaxpr.constvars, constants, strict=True)) | dict(zip(jaxpr.invars, arguments, strict=True))

        def read(atom):
            return atom.val if isinstance(atom, core.Literal) else values[atom]

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            values.update(zip(equation.outvars, self.equation(equation, inputs), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation, inputs):
        """The outputs of one equation."""
        name, params = equation.primitive.name, equation.params
        if name in _CALLS:
            inner = params.get('jaxpr') or params['call_jaxpr']
            closed = inner if hasattr(inner, 'consts') else core.ClosedJaxpr(inner, ())
            return self.run(closed.jaxpr, closed.consts, inputs)
        if not any(isinstance(value, str) for value in inputs):
            found = equation.primitive.bind(*inputs, **params)
            return found if equation.primitive.multiple_results else [found]
        if name in ELEMENTWISE:
            return [self.node(ELEMENTWISE[name], *inputs)]
        form = getattr(self, f'on_{name}', None)
        if form is None:
            raise UserError(f'ONNX: the network has an operation {name}, which has no form here (weights/onnx_file.py)')
        return [form(equation, *inputs, **params)]

    def node(self, kind, *inputs, name=None, **attributes):
        """Adds a node; returns the name of what it puts out."""
        from onnx import helper

        self.count += 1
        name = name or f'{kind.lower()}_{self.count}'
        self.nodes.append(helper.make_node(kind, [self.named(x) for x in inputs], [name], name, **attributes))
        return name

    def named(self, value):
        """The name of a value; an array becomes a weight of the graph."""
        from onnx import numpy_helper

        if isinstance(value, str):
            return value
        self.count += 1
        name = f'constant_{self.count}'
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def reshaped(self, x, shape):
        """x in another shape, of which one side may be symbolic."""
        return self.node('Reshape', x, np.array([n if isinstance(n, int) else -1 for n in shape], np.int64))

    def channels_first(self, kind, x, *more, **attributes):
        """A node that wants channels first, for [B, H, W, C]."""
        x = self.node('Transpose', x, perm=_TO_CHANNELS_FIRST)
        return self.node('Transpose', self.node(kind, x, *more, **attributes), perm=_BACK)

    # One operation each: on_NAME(equation, inputs, parameters)

    def on_conv_general_dilated(
        self, equation, x, kernel, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
        feature_group_count, **_,
    ):  # fmt: skip
        assert dimension_numbers == lax.ConvDimensionNumbers(_TO_CHANNELS_FIRST, (3, 2, 0, 1), _TO_CHANNELS_FIRST)
        assert set(lhs_dilation) == {1} and not isinstance(kernel, str)
        kernel = np.asarray(kernel).transpose(3, 2, 0, 1)
        attributes = {'strides': window_strides, 'dilations': rhs_dilation, 'group': feature_group_count}
        return self.channels_first('Conv', x, kernel, pads=_pads(padding), **attributes)

    def on_reduce_window_max(self, equation, x, window_dimensions, window_strides, padding, **_):
        return self.pool('MaxPool', x, window_dimensions, window_strides, padding)

    def on_reduce_window_sum(self, equation, x, window_dimensions, window_strides, padding, **_):
        mean = self.pool('AveragePool', x, window_dimensions, window_strides, padding, count_include_pad=1)
        return self.node('Mul', mean, np.float32(np.prod(window_dimensions)))

    def pool(self, kind, x, window, strides, padding, **attributes):
        assert (window[0], window[3], strides[0], strides[3]) == (1, 1, 1, 1)
        sizes = {'kernel_shape': window[1:3], 'strides': strides[1:3], 'pads': _pads(padding[1:3])}
        return self.channels_first(kind, x, **sizes, **attributes)

    def on_dot_general(self, equation, x, y, dimension_numbers, **_):
        (left, right), batch = dimension_numbers
        assert (tuple(left), tuple(right), batch) == ((equation.invars[0].aval.ndim - 1,), (0,), ((), ()))
        return self.node('MatMul', x, y)

    def on_reshape(self, equation, x, **_):
        return self.reshaped(x, equation.outvars[0].aval.shape)

    on_squeeze = on_expand_dims = on_reshape

    def on_broadcast_in_dim(self, equation, x, shape, broadcast_dimensions, **_):
        """New sides of 1: what it is joined with stretches them, in ONNX as in NumPy."""
        there = equation.invars[0].aval.shape
        sides = [
            there[broadcast_dimensions.index(axis)] if axis in broadcast_dimensions else 1 for axis in range(len(shape))
        ]
        return self.reshaped(x, sides)

    def on_transpose(self, equation, x, permutation):
        return self.node('Transpose', x, perm=permutation)

    def on_concatenate(self, equation, *inputs, dimension):
        return self.node('Concat', *inputs, axis=dimension)

    def on_pad(self, equation, x, value, padding_config):
        assert all(low >= 0 and high >= 0 and interior == 0 for low, high, interior in padding_config)
        sides = [low for low, _, _ in padding_config] + [high for _, high, _ in padding_config]
        return self.node('Pad', x, np.array(sides, np.int64), np.asarray(value, np.float32))

    def on_slice(self, equation, x, start_indices, limit_indices, strides):
        ends = [n if isinstance(n, int) else _LONGEST for n in limit_indices]
        axes, steps = range(len(ends)), strides or [1] * len(ends)
        return self.node('Slice', x, *(np.array(n, np.int64) for n in (start_indices, ends, axes, steps)))

    def on_reduce_sum(self, equation, x, axes, **_):
        return self.node('ReduceSum', x, np.array(axes, np.int64), keepdims=0)

    def on_rsqrt(self, equation, x, **_):
        return self.node('Reciprocal', self.node('Sqrt', x))

    def on_square(self, equation, x):
        return self.node('Mul', x, x)

    def on_integer_pow(self, equation, x, y):
        return self.node('Pow', x, np.float32(y))

    def on_select_n(self, equation, which, *cases):
        return self.node('Where', which, cases[1], cases[0])

    def on_convert_element_type(self, equation, x, new_dtype, **_):
        from onnx import helper

        return self.node('Cast', x, to=helper.np_dtype_to_tensor_dtype(np.dtype(new_dtype)))

    def on_copy(self, equation, x, **_):
        return x

    on_stop_gradient = on_optimization_barrier = on_copy


def _pads(padding):
    """((top, bottom), (left, right)) as ONNX has it: all befores, then all afters."""
    return [before for before, _ in padding] + [after for _, after in padding]
