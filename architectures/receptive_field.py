"""What of the image an activation sees, found in the operations that a network is traced to."""

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
        """Rows seen by one row."""
        return self.last - self.first

    def window(self, size, stride, padding, dilation=1):
        """The field of a window of `size` rows that slides over this map."""
        first = self.first - padding * self.stride
        last = self.last + ((size - 1) * dilation - padding) * self.stride
        return Field(first, last, self.stride * stride)


IMAGE = Field(0, 1, 1)


def fields(jaxpr, inputs):
    """What each output of a jaxpr sees.

    Maps are [B, H, W, ...] and windows square: rows stand for columns, too. Where operations meet, the widest counts,
    with one exception: a vector that has seen the whole image and is spread over a larger map, as the gate of a
    squeeze-and-excitation block is, does not, or nothing behind the first gate would have a size.

    Args:
      jaxpr: of a network traced within `layers.plain_forms`.
      inputs: the `Field` of each input; None for what is no part of the image.

    Returns:
      The `Field` of each output, or None.

    Raises:
      UserError: an operation has no rule, or changes the size of a map in a way that is not known.
    """
    return graph.walk(_RULES, jaxpr, inputs)


def _rule(sees):
    """A rule: `sees` makes a `Field` of (parameters, what the operands see, operation); None: it sees the same."""

    def rule(operation, *operands):
        rows = _rows(operation.outputs[0])
        seen = zip(operands, map(_rows, operation.inputs), strict=True)
        seen = [
            (x, height) for x, height in seen if isinstance(x, Field) and (x.size < math.inf or height > 1 or rows == 1)
        ]
        if not seen:
            return None
        firsts, lasts, strides = zip(*(field for field, _ in seen), strict=True)
        union = Field(min(firsts), max(lasts), max(strides))
        found = sees(operation.params, union, operation)
        if not found and any(height != rows for _, height in seen):
            return NotImplemented  # it changes the size of a map
        return found or union

    return rule


def _rows(shaped):
    """The height of a map; of anything else 1."""
    return shaped.shape[1] if len(shaped.shape) > 2 else 1


def _convolution(of, union, operation):
    size = operation.inputs[1].shape[of['dimension_numbers'].rhs_spec[2]]
    return union.window(size, of['window_strides'][0], of['padding'][0][0], of['rhs_dilation'][0])


def _pool(of, union, operation):
    return union.window(of['window_dimensions'][1], of['window_strides'][1], of['padding'][1][0])


def _reduction(of, union, operation):
    return Field(-math.inf, math.inf, union.stride) if {1, 2} <= set(of['axes']) else None


def _slice(of, union, operation):
    if _rows(operation.inputs[0]) == 1:
        return None
    return union.window(1, of['strides'][1] if of['strides'] else 1, -of['start_indices'][1])


def _pad(of, union, operation):
    return union.window(1, 1, of['padding_config'][1][0]) if _rows(operation.inputs[0]) > 1 else None


def _reshape(of, union, operation):  # a map becomes a vector, which reads all of it
    return union.window(_rows(operation.inputs[0]), 1, 0) if _rows(operation.outputs[0]) == 1 else None


_SAME_PLACE = """
    abs add broadcast_in_dim ceil clamp concatenate convert_element_type copy cos div dot_general eq erf erfc exp exp2
    expand_dims expm1 floor gather ge gt integer_pow is_finite le log log1p logistic lt max min mul ne neg not and or
    optimization_barrier pow reduce_precision rem round rsqrt select_n sign sin split sqrt square squeeze stop_gradient
    sub tanh transpose xor
"""
_SEES = {
    **dict.fromkeys(_SAME_PLACE.split(), lambda *_: None),
    **dict.fromkeys(('reduce_window_max', 'reduce_window_sum'), _pool),
    **dict.fromkeys(('reduce_max', 'reduce_sum'), _reduction),
    **{'conv_general_dilated': _convolution, 'slice': _slice, 'pad': _pad, 'reshape': _reshape},
}
_RULES = graph.Rules(
    'receptive field (architectures/receptive_field.py)', Field, {name: _rule(sees) for name, sees in _SEES.items()}
)
