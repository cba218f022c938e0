"""Receptive fields: the part of the image that an activation sees, found by tracing the network."""

import math
from typing import NamedTuple

from architectures import graph


class Field(NamedTuple):
    """Row r of a map sees the rows of the image from `first + r * stride` to below `last + r * stride`.

    Rows above and below the image are its zero padding. A global average sees from minus to plus infinity.
    """

    first: float
    last: float
    stride: int

    @property
    def size(self):
        """The number of image rows that one row of the map sees."""
        return self.last - self.first

    def window(self, size, stride, padding, dilation=1):
        """Return the field of a window of `size` rows that slides over this map."""
        first = self.first - padding * self.stride
        last = self.last + ((size - 1) * dilation - padding) * self.stride
        return Field(first, last, self.stride * stride)


IMAGE = Field(0, 1, 1)


def fields(jaxpr, inputs):
    """Return the receptive field of each output of a jaxpr.

    Maps are [B, H, W, ...] and windows are square, so rows stand for columns, too. Where branches meet, the union
    counts. The exception is a vector that sees the whole image and is broadcast over a larger map, such as the gate of
    a squeeze-and-excitation block: it is ignored, or every map after the first gate would see the whole image.

    Args:
      jaxpr: jaxpr of a network traced within `layers.plain_forms`.
      inputs: the `Field` of each input; None if it is not part of the image.

    Returns:
      The `Field` of each output, or None.

    Raises:
      UserError: an operation has no rule, or changes the size of a map in an unknown way.
    """
    return graph.walk(_RULES, jaxpr, inputs)


def _rule(operation, *operands):
    """Return the union of the operands' fields, seen through the operation's window if it has one."""
    name, params, rows = operation.name, operation.params, _rows(operation.outputs[0])
    pairs = [(x, _rows(shaped)) for x, shaped in zip(operands, operation.inputs, strict=True) if isinstance(x, Field)]
    pairs = [(field, height) for field, height in pairs if not (field.size == math.inf and height == 1 < rows)]
    if not pairs:
        return None
    firsts, lasts, strides = zip(*(field for field, _ in pairs), strict=True)
    union = Field(min(firsts), max(lasts), max(strides))
    if name in _REDUCTIONS and {1, 2} <= set(params['axes']):
        return Field(-math.inf, math.inf, union.stride)
    if name in _WINDOWS and len(operation.inputs[0].shape) > 2 and (name != 'reshape' or rows == 1):
        return union.window(*_WINDOWS[name](params, *operation.inputs))
    return union if all(height == rows for _, height in pairs) else NotImplemented


def _rows(shaped):
    """Return the height of a map; 1 for anything else."""
    return shaped.shape[1] if len(shaped.shape) > 2 else 1


def _pool(params, x):
    return params['window_dimensions'][1], params['window_strides'][1], params['padding'][1][0]


def _convolution(params, x, kernel):
    size = kernel.shape[params['dimension_numbers'].rhs_spec[2]]
    return size, params['window_strides'][0], params['padding'][0][0], params['rhs_dilation'][0]


_WINDOWS = {  # the arguments of `Field.window`
    'conv_general_dilated': _convolution,
    'reduce_window_max': _pool,
    'reduce_window_sum': _pool,
    'slice': lambda params, x: (1, params['strides'][1] if params['strides'] else 1, -params['start_indices'][1]),
    'pad': lambda params, x, value: (1, 1, params['padding_config'][1][0]),
    'reshape': lambda params, x: (_rows(x), 1, 0),  # flattened: a vector sees the whole map
}
_REDUCTIONS = ('reduce_max', 'reduce_sum')
_SAME_PLACE = """
    abs add broadcast_in_dim ceil clamp concatenate convert_element_type copy cos div dot_general eq erf erfc exp exp2
    expand_dims expm1 floor gather ge gt integer_pow is_finite le log log1p logistic lt max min mul ne neg not and or
    optimization_barrier pow reduce_precision rem round rsqrt select_n sign sin split sqrt square squeeze stop_gradient
    sub tanh transpose xor
"""
_RULES = graph.Rules(
    'receptive field (architectures/receptive_field.py)',
    follows=Field,
    table=dict.fromkeys((*_WINDOWS, *_REDUCTIONS, *_SAME_PLACE.split()), _rule),
)
