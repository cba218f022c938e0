"""Reads numeric arrays and arrays of structs from MATLAB files (.mat, level 5, since 1996)."""

import math
import struct
import zlib

import numpy as np

from runtime import foreign

_TYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8', 12: 'i8', 13: 'u8'}
_MATRIX, _COMPRESSED = 14, 15  # further types of an element
_NUMERIC = range(6, 16)  # classes of an array: double, single, int8 to uint64
_COMPLEX = 0x800  # a flag of an array
_TEXTS = {1: 'latin-1', 2: 'latin-1', 4: 'utf-16', 16: 'utf-8', 17: 'utf-16'}  # encodings by the type of an element
_STRUCT, _TEXT = 2, 4  # further classes of an array
_HEADER = 128  # bytes
_MAX_BYTES = 4 << 30  # SVHN's largest file has 1.3 GB


def read(path, names):
    """Return {name: array} for those of the names that the file has, with the indices in MATLAB's order.

    Raises:
      UserError: the file is missing, truncated or invalid, or an array is not numeric.
    """
    return dict(_read(path, names, _array))


def read_structs(path, name, fields):
    """Return [{field: number or text}] of an array of structs, for those of its fields.

    Raises:
      UserError: the file is missing, truncated or invalid, or has no such array of structs with these fields.
    """
    structs = dict(_read(path, (name,), lambda body, order: _structs(body, order, fields)))
    with foreign.parsing(path, 'a MATLAB file'):
        return structs[name]


def _read(path, names, convert):
    """Return [(name, convert(rest of the matrix element, byte order))] for those of the names that the file has."""
    with foreign.parsing(path, 'a MATLAB file', 'fetch it again'), foreign.open_regular(path, _MAX_BYTES) as file:
        header = file.read(_HEADER)
        order = {b'IM': '<', b'MI': '>'}.get(header[126:])
        if order is None:
            raise ValueError('it has no header of level 5')
        (version,) = struct.unpack_from(f'{order}H', header, 124)
        if version != 0x100:
            raise ValueError(f'it has version {version >> 8}, not level 5: save it with -v7')
        rest, converted = memoryview(file.read()), []
        while len(rest) and len(converted) < len(names):
            kind, body, rest = _element(rest, order, padded=False)
            if kind == _COMPRESSED:
                kind, body = _inflated(body, order)
            if kind == _MATRIX and (name := _name(body, order)) in names:
                converted.append((name, convert(body, order)))
        return list(foreign.unique(converted).items())


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
    if size > foreign.most_unpacked(len(body)):
        raise ValueError(f'it is truncated, or declares {size:,} bytes in {len(body):,}')
    data = inflate.decompress(inflate.unconsumed_tail, size) if size else b''  # a limit of 0 means no limit
    if len(data) < size:
        raise ValueError('it is truncated')
    return kind, memoryview(data)


def _parts(body, order):
    """Return (class, whether it is complex, shape, name, rest) of a matrix element."""
    _, flags, body = _element(body, order)
    _, shape, body = _element(body, order)
    _, name, body = _element(body, order)
    (flags,) = struct.unpack_from(f'{order}I', flags)
    shape = [int(side) for side in np.frombuffer(shape, f'{order}i4')]
    return flags & 0xFF, bool(flags & _COMPLEX), shape, bytes(name).decode('latin-1'), body


def _name(body, order):
    return _parts(body, order)[3]


def _array(body, order):
    """Return the array of numbers of a matrix element."""
    kind, is_complex, shape, name, body = _parts(body, order)
    if kind not in _NUMERIC or is_complex:
        raise ValueError(f'{name} is not an array of real numbers')
    kind, numbers, _ = _element(body, order)
    if kind not in _TYPES:
        raise ValueError(f'{name} has numbers of type {kind}')
    numbers = np.frombuffer(numbers, order + _TYPES[kind])
    if min(shape, default=-1) < 0 or math.prod(shape) != len(numbers):
        raise ValueError(f'{name} has the shape {shape} but {len(numbers)} numbers')
    return numbers.reshape(foreign.shape_of(shape), order='F')


def _structs(body, order, wanted):
    """Return [{field: number or text}] of a matrix element that is an array of structs."""
    kind, _, shape, name, body = _parts(body, order)
    if kind != _STRUCT:
        raise ValueError(f'{name} is not an array of structs')
    _, length, body = _element(body, order)
    _, names, body = _element(body, order)
    (length,) = struct.unpack(f'{order}i', length)
    names = bytes(names)
    if length < 1 or len(names) % length:
        raise ValueError(f'{name} has field names of {length} bytes')
    fields = [names[at : at + length].split(b'\0')[0].decode() for at in range(0, len(names), length)]
    if missing := set(wanted) - set(fields):
        raise ValueError(f'{name} has no field {min(missing)}')
    count = math.prod(foreign.shape_of(shape))
    if 8 * count * len(fields) > len(body):
        raise ValueError(f'{name} is truncated: it has {count:,} structs')
    structs = []
    for _ in range(count):
        values = []
        for field in fields:
            _, value, body = _element(body, order)
            values.append((field, _scalar(value, order) if field in wanted else None))
        structs.append(foreign.unique(values))
    return structs


def _scalar(body, order):
    """Return the number or the text of a matrix element."""
    kind, _, shape, _, rest = _parts(body, order)
    if kind == _TEXT:
        kind, text, _ = _element(rest, order)
        encoding = _TEXTS[kind]
        if encoding == 'utf-16':
            encoding = {'<': 'utf-16-le', '>': 'utf-16-be'}[order]
        return bytes(text).decode(encoding)
    if math.prod(shape) != 1:
        raise ValueError('a field is not one number')
    return _array(body, order).item()
