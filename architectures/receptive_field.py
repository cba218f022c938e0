"""What of the image an activation sees, found in the operations that a network is traced to."""

import math
from typing import NamedTuple


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
      NotImplementedError: an operation that is not known changes the size of a map.
    """
    held = dict(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        operands = [None if hasattr(atom, 'val') else held.get(atom) for atom in equation.invars]  # val: a literal's
        if any(operands):
            held.update(zip(equation.outvars, _outputs(equation, operands), strict=True))
    return [held.get(atom) for atom in jaxpr.outvars]


def _outputs(equation, operands):
    """The fields of an operation's outputs."""
    name, of, rows = equation.primitive.name, equation.params, _rows(equation.outvars[0])
    if inner := of.get('call_jaxpr') or (of.get('jaxpr') if 'jit' in name else None):
        return fields(getattr(inner, 'jaxpr', inner), operands)
    seen = [(field, _rows(atom)) for field, atom in zip(operands, equation.invars, strict=True) if field]
    seen = [(field, height) for field, height in seen if not (field.size == math.inf and height == 1 < rows)]
    if not seen:
        return [None]
    firsts, lasts, strides = zip(*(field for field, _ in seen), strict=True)
    union, heights = Field(min(firsts), max(lasts), max(strides)), {height for _, height in seen}
    if name == 'conv_general_dilated':
        size = equation.invars[1].aval.shape[of['dimension_numbers'].rhs_spec[2]]
        return [union.window(size, of['window_strides'][0], of['padding'][0][0], of['rhs_dilation'][0])]
    if name.startswith('reduce_window'):
        return [union.window(of['window_dimensions'][1], of['window_strides'][1], of['padding'][1][0])]
    if name.startswith('reduce_') and {1, 2} <= set(of['axes']):
        return [Field(-math.inf, math.inf, union.stride)]
    if name == 'slice' and heights != {1}:
        return [union.window(1, of['strides'][1] if of['strides'] else 1, -of['start_indices'][1])]
    if name == 'pad' and heights != {1}:
        return [union.window(1, 1, of['padding_config'][1][0])]
    if name == 'reshape' and rows == 1:  # a map becomes a vector, which reads all of it
        return [union.window(max(heights), 1, 0)]
    if heights != {rows}:
        raise NotImplementedError(f'what {name} sees')
    return [union] * len(equation.outvars)


def _rows(atom):
    """The height of a map; of anything else 1."""
    return atom.aval.shape[1] if len(atom.aval.shape) > 2 else 1
