"""Reads numeric arrays from MATLAB files (.mat, level 5, since 1996); anything else in them is ignored."""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from runtime.errors import UserError, first_line

_TYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8', 12: 'i8', 13: 'u8'}
_MATRIX, _COMPRESSED = 14, 15  # further types of an element
_NUMERIC = range(6, 16)  # classes of an array: double, single, int8 to uint64
_COMPLEX = 0x800  # a flag of an array
_HEADER = 128  # bytes


def read(path, names):
    """Return {name: array} for those of the names that the file has, with the indices in MATLAB's order.

    Raises:
      UserError: the file is missing, truncated or invalid, or an array is not numeric.
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
        raise ValueError(f'it has version {version >> 8}, not level 5: save it with -v7')
    rest, arrays = memoryview(data)[_HEADER:], {}
    while len(rest) and len(arrays) < len(names):
        kind, body, rest = _element(rest, order, padded=False)
        if kind == _COMPRESSED:
            kind, body = _inflated(body, order)
        if kind == _MATRIX:
            name, array = _array(body, order, names)
            arrays |= {name: array} if name in names else {}
    return arrays


def _element(data, order, padded=True):
    """Return (type, bytes, rest of the data) of the element at the start."""
    kind, size = struct.unpack_from(f'{order}II', data)
    if kind >> 16:  # a small element: the size shares a word with the type, and the bytes take the place of the size
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise ValueError('it has an invalid element')
        return kind, data[4 : 4 + size], data[8:]
    end = 8 + size
    if len(data) < end:
        raise ValueError('it is truncated')
    return kind, data[8:end], data[end + (-size % 8 if padded else 0) :]


def _inflated(body, order):
    """Return (type, bytes) of the element inside a compressed one, and decompress no more than its stated size."""
    inflate = zlib.decompressobj()
    kind, size = struct.unpack(f'{order}II', inflate.decompress(body, 8))
    data = inflate.decompress(inflate.unconsumed_tail, size) if size else b''  # a limit of 0 means no limit
    if len(data) < size:
        raise ValueError('it is truncated')
    return kind, memoryview(data)


def _array(body, order, names):
    """Return (name, array) of a matrix element; the array is None if its name is not in `names`."""
    _, flags, body = _element(body, order)
    _, shape, body = _element(body, order)
    _, name, body = _element(body, order)
    name = bytes(name).decode('latin-1')
    if name not in names:
        return name, None
    (flags,) = struct.unpack_from(f'{order}I', flags)
    if flags & 0xFF not in _NUMERIC or flags & _COMPLEX:
        raise ValueError(f'{name} is not an array of real numbers')
    shape = [int(side) for side in np.frombuffer(shape, f'{order}i4')]
    kind, numbers, _ = _element(body, order)
    if kind not in _TYPES:
        raise ValueError(f'{name} has numbers of type {kind}')
    numbers = np.frombuffer(numbers, order + _TYPES[kind])
    if min(shape, default=-1) < 0 or math.prod(shape) != len(numbers):
        raise ValueError(f'{name} has the shape {shape} but {len(numbers)} numbers')
    return name, numbers.reshape(shape, order='F')
