"""PyTorch's weight files (.pth, .pt), read as data: nothing in them is executed, and Python's pickle is not used.

Such a file is a pickle plus the bytes of the tensors. Of the functions that a pickle may name (`runtime.pickles`), only
those that build a tensor are known, and they are our own. PyTorch need not be installed. Both formats are read: the zip
archive of PyTorch 1.6 and later, and the older one.
"""

import io
import math
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from runtime import foreign, pickles
from runtime.errors import UserError
from runtime.pickles import Broken, Foreign, Global

_DTYPES = {
    'FloatStorage': np.float32,
    'DoubleStorage': np.float64,
    'HalfStorage': np.float16,
    'BFloat16Storage': ml_dtypes.bfloat16,
    'LongStorage': np.int64,
    'IntStorage': np.int32,
    'ShortStorage': np.int16,
    'CharStorage': np.int8,
    'ByteStorage': np.uint8,
    'BoolStorage': np.bool_,
}
_LEGACY = (
    b'\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.'  # the pickled magic number of the format before 1.6
)


class _Storage(NamedTuple):
    """The data of a tensor, identified by its key in the file."""

    key: str
    dtype: np.dtype
    count: int
    start: int = 0


class _Tensor(NamedTuple):
    """A view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple
    strides: tuple


def is_legacy(start):
    """Whether a file with these first bytes has PyTorch's format before 1.6."""
    return start.startswith(_LEGACY)


def read(path):
    """Read what `torch.save` wrote to a file: nested dicts, lists and plain values, with NumPy arrays for tensors.

    Any other object, such as a training program's arguments saved with the weights, is a `Foreign` with its name.

    Args:
      path: path of the file.

    Raises:
      UserError: the file is truncated, or has something that `torch.save` does not write.
    """
    with foreign.parsing(path, 'a torch.save file'), foreign.open_regular(path) as file:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return _read_archive(archive, path)
        file.seek(0)
        return _read_legacy(file, path)


def _read_archive(archive, path):
    infos = foreign.unique((info.filename, info) for info in archive.infolist())
    pickle_names = [name for name in infos if name.endswith('/data.pkl')]
    if len(pickle_names) != 1:
        raise UserError(f'{path} is a zip archive but not a torch.save file: it has no data.pkl')
    folder = pickle_names[0].removesuffix('/data.pkl')
    compressed = [name for name, info in infos.items() if info.compress_type != zipfile.ZIP_STORED]
    if compressed:
        raise UserError(f'{path}: {compressed[0]} is compressed, which torch.save never does; the file is refused')
    if sum(info.file_size for info in infos.values()) > Path(path).stat().st_size:
        raise Broken('its members overlap')
    order = infos.get(f'{folder}/byteorder')
    if order and archive.read(order).strip() != b'little':
        raise UserError(f'{path} was written on a big-endian machine; save it again on a little-endian one')

    def numbers(storage):
        name = f'{folder}/data/{storage.key}'
        if name not in infos:
            raise Broken(f'{name} is missing')
        return archive.read(name)

    tree = _load(io.BytesIO(archive.read(pickle_names[0])), path)
    return _with_arrays(tree, numbers, {}, path)


def _read_legacy(file, path):
    start = file.read(len(_LEGACY))
    if start != _LEGACY:
        raise UserError(f'{path} is not a torch.save file, or from before PyTorch 0.1.10: load and save it again')
    _load(file, path)  # the protocol version
    machine = _load(file, path)
    if not isinstance(machine, dict):
        raise Broken('it does not say which machine wrote it')
    if not machine.get('little_endian', True):
        raise UserError(f'{path} was written on a big-endian machine; save it again on a little-endian one')
    tree, keys = _load(file, path), _load(file, path)
    if not isinstance(keys, list) or not all(type(key) is str for key in keys):
        raise Broken('it has no list of storages')
    dtypes = {}
    _visit(tree, lambda tensor: dtypes.setdefault(tensor.storage.key, np.dtype(tensor.storage.dtype)))
    data = {}
    for key in keys:
        if key in data:
            raise Broken(f'it has storage {key} twice')
        (count,) = struct.unpack('<q', _exactly(file, 8))
        data[key] = _exactly(file, count * dtypes[key].itemsize if key in dtypes else 0)
    if missing := sorted(dtypes.keys() - data.keys()):
        raise Broken(f'storage {missing[0]} is missing')
    return _with_arrays(tree, lambda storage: data[storage.key], {}, path)


def _exactly(file, count):
    """Read exactly `count` bytes; check first that the file has them, before memory is allocated."""
    position = file.tell()
    remaining = file.seek(0, io.SEEK_END) - position
    file.seek(position)
    if not 0 <= count <= remaining:
        raise Broken(f'it ends where {count} bytes of a tensor should be')
    return file.read(count)


# Trees


def _visit(tree, function):
    """Call a function with each tensor of a tree."""
    seen = set()

    def walk(node):
        if isinstance(node, _Tensor):
            function(node)
        elif isinstance(node, dict | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            for child in node.values() if isinstance(node, dict) else node:
                walk(child)

    walk(tree)


def _with_arrays(tree, numbers, known, path):
    """Replace the tensors of a tree by arrays; `known` has the converted containers by id, as trees may be cyclic."""
    arrays = {}

    def array(tensor):
        storage = tensor.storage
        if storage.key not in arrays:
            dtype, content = np.dtype(storage.dtype), numbers(storage)
            if len(content) != storage.count * dtype.itemsize:
                raise Broken(f'storage {storage.key} has {len(content)} bytes, not {storage.count * dtype.itemsize}')
            arrays[storage.key] = np.frombuffer(content, dtype)
        elif arrays[storage.key].dtype != storage.dtype:
            raise Broken(f'storage {storage.key} has two types')
        return _view(arrays[storage.key][storage.start :], tensor)

    def convert(node):
        if isinstance(node, _Tensor):
            return array(node)
        if isinstance(node, _Storage):
            raise UserError(f'{path} has a storage that is not part of a tensor: save only the state dict')
        if isinstance(node, Foreign | Global):
            return Foreign(str(node))
        if not isinstance(node, dict | list | tuple):
            return node
        if id(node) not in known:
            if isinstance(node, tuple):  # nothing but a list or a dict can contain itself
                known[id(node)] = tuple(convert(child) for child in node)
            elif isinstance(node, dict):
                known[id(node)] = converted = {}
                converted.update((key, convert(child)) for key, child in node.items())
            else:
                known[id(node)] = converted = []
                converted.extend(convert(child) for child in node)
        return known[id(node)]

    return convert(tree)


def _view(flat, tensor):
    shape, strides = foreign.shape_of(tensor.shape), foreign.shape_of(tensor.strides)
    if len(shape) != len(strides):
        raise Broken(f'a tensor has shape {shape} and strides {strides}')
    count = math.prod(shape)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count and (last >= len(flat) or count > len(flat)):
        raise Broken(f'a tensor of shape {shape} does not fit its storage of {len(flat)} numbers')
    steps = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)


# The parts of PyTorch that a pickle may name


def _load(file, path):
    """Load one pickle of such a file, with tensors as `_Tensor`."""
    return pickles.load(file, path, _call, _storage)


def _storage(identifier):
    """Build a `_Storage` from PyTorch's ('storage', type, key, device, count[, view])."""
    kind, type_, key, _, count, *view = identifier
    known = isinstance(type_, Global) and type_.module in ('torch', 'torch.cuda') and type_.name in _DTYPES
    if kind != 'storage' or not known or type(key) is not str:
        raise Broken('a storage has no key or no known type')
    start = view[0][1] if view and view[0] is not None else 0
    foreign.shape_of((count, start))
    return _Storage(key, _DTYPES[type_.name], count, start)


def _call(function, arguments):
    """Apply our own version of one of PyTorch's functions; return a `Foreign` for any other function."""
    match str(function), arguments:
        case 'torch._utils._rebuild_tensor_v2' | 'torch._utils._rebuild_tensor', (storage, offset, shape, strides, *_):
            if not isinstance(storage, _Storage):
                raise Broken('a tensor has no storage')
            foreign.shape_of((offset,))
            return _Tensor(storage, offset, shape, strides)
        case 'torch._utils._rebuild_parameter', (tensor, *_):
            return tensor
        case 'torch.Size', (shape,):
            return foreign.shape_of(shape)
        case 'torch.device', (name, *_):
            return name
        case 'collections.OrderedDict', ():
            return {}
        case 'collections.OrderedDict', (pairs,):
            return pickles.dict_of(pairs)
    return Foreign(str(function))
