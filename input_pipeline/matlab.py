"""MATLAB's files of arrays (.mat, level 5, since 1996), read as data: the numeric arrays, and nothing else of them."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from runtime.errors import UserError, first_line

_TYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8', 12: 'i8', 13: 'u8'}
_MATRIX, _COMPRESSED = 14, 15  # types of an element, besides
_NUMERIC = range(6, 16)  # classes of an array: double, single, int8 to uint64
_COMPLEX = 0x800  # a flag of an array
_HEADER = 128  # bytes


def read(path, names):
    """The arrays of these names, {name: array} in MATLAB's order of indices; those that are not there are left out.

    Raises:
      UserError: no such file, or one that is cut short or no numeric array.
    """
    try:
        return _arrays(Path(path).read_bytes(), names)
    except (OSError, ValueError, struct.error, zlib.error, OverflowError) as error:
        raise UserError(f'{path} cannot be read as a MATLAB file ({first_line(error)}); fetch it again') from None


def _arrays(data, names):
    order = {b'IM': '<', b'MI': '>'}.get(data[126:_HEADER])
    if order is None:
        raise ValueError('it has no header of level 5')
    (version,) = struct.unpack_from(f'{order}H', data, 124)
    if version != 0x100:
        raise ValueError(f'it is of version {version >> 8}, not level 5: save it with -v7')
    rest, found = memoryview(data)[_HEADER:], {}
    while len(rest) and len(found) < len(names):
        kind, body, rest = _element(rest, order, padded=False)
        if kind == _COMPRESSED:
            kind, body = _inflated(body, order)
        if kind == _MATRIX:
            name, array = _array(body, order, names)
            found |= {name: array} if name in names else {}
    return found


def _element(data, order, padded=True):
    """(type, bytes, what follows) of the element at the start."""
    kind, size = struct.unpack_from(f'{order}II', data)
    if kind >> 16:  # a small one: its size beside its type, its bytes where else the size is
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError('it has an element that makes no sense')
        return kind, data[4 : 4 + size], data[8:]
    end = 8 + size
    if len(data) < end:
        raise ValueError('it is cut short')
    return kind, data[8:end], data[end + (-size % 8 if padded else 0) :]


def _inflated(body, order):
    """The element that is compressed in another, no more of it than it says: (type, bytes)."""
    inflate = zlib.decompressobj()
    kind, size = struct.unpack(f'{order}II', inflate.decompress(body, 8))
    data = inflate.decompress(inflate.unconsumed_tail, size) if size else b''  # 0 would be no limit
    if len(data) < size:
        raise ValueError('it is cut short')
    return kind, memoryview(data)


def _array(body, order, names):
    """(name, array) of a matrix element; None in place of an array that is not among the names."""
    _, flags, body = _element(body, order)
    _, shape, body = _element(body, order)
    _, name, body = _element(body, order)
    name = bytes(name).decode('latin-1')
    if name not in names:
        return name, None
    (flags,) = struct.unpack_from(f'{order}I', flags)
    if flags & 0xFF not in _NUMERIC or flags & _COMPLEX:
        raise ValueError(f'{name} is no array of real numbers')
    shape = [int(side) for side in np.frombuffer(shape, f'{order}i4')]
    kind, numbers, _ = _element(body, order)
    if kind not in _TYPES:
        raise ValueError(f'{name} has numbers of type {kind}')
    numbers = np.frombuffer(numbers, order + _TYPES[kind])
    if min(shape, default=-1) < 0 or math.prod(shape) != len(numbers):
        raise ValueError(f'{name} has the shape {shape} and {len(numbers)} numbers')
    return name, numbers.reshape(shape, order='F')
