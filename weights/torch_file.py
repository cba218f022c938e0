"""PyTorch's files of tensors (.pth, .pt), read as data: nothing in them is executed, and no pickle is loaded.

Such a file is a pickle and beside it the bytes of the tensors. Of the functions that a pickle may name
(`runtime.pickles`) only those that put a tensor together are known, as our own. PyTorch need not be installed. Both
forms are read: the zip archive of PyTorch 1.6 and later, and the one before.
"""

import io
import math
import struct
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from runtime import pickles
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
    b'\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.'  # the magic number of the form before 1.6, pickled
)


class _Storage(NamedTuple):
    """The numbers under a tensor, by their key in the file."""

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
    """Whether a file with these first bytes is PyTorch's form before 1.6."""
    return start.startswith(_LEGACY)


def read(path):
    """What `torch.save` wrote to a file: nested dicts, lists and plain values, with NumPy arrays for tensors.

    Anything else, as the arguments that a training program saves beside the weights, is a `Foreign` with its name.

    Args:
      path: of the file.

    Raises:
      UserError: a file that is truncated, or asks for what no `torch.save` writes.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return _read_archive(archive, path)
        with open(path, 'rb') as file:
            return _read_legacy(file, path)
    except (Broken, zipfile.BadZipFile, EOFError, UnicodeDecodeError, struct.error) as error:
        raise UserError(f'{path} is truncated, or no file of torch.save ({error})') from None


def _read_archive(archive, path):
    infos = {info.filename: info for info in archive.infolist()}
    programs = [name for name in infos if name.endswith('/data.pkl')]
    if len(programs) != 1:
        raise UserError(f'{path} is a zip archive, and not one of torch.save: it has no data.pkl')
    folder = programs[0].removesuffix('/data.pkl')
    packed = [name for name, info in infos.items() if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise UserError(f'{path}: {packed[0]} is compressed, which torch.save never does; it is not unpacked')
    order = infos.get(f'{folder}/byteorder')
    if order and archive.read(order).strip() != b'little':
        raise UserError(f'{path} was written on a big-endian machine; save it anew on a little-endian one')

    def numbers(storage):
        name = f'{folder}/data/{storage.key}'
        if name not in infos:
            raise Broken(f'{name} is missing')
        return archive.read(name)

    tree = _load(io.BytesIO(archive.read(programs[0])), path)
    return _with_arrays(tree, numbers, {}, path)


def _read_legacy(file, path):
    start = file.read(len(_LEGACY))
    if start != _LEGACY:
        raise UserError(f'{path} is no file of torch.save (nor one of before PyTorch 0.1.10: load and save it anew)')
    _load(file, path)  # the version of the protocol
    machine = _load(file, path)
    if not machine.get('little_endian', True):
        raise UserError(f'{path} was written on a big-endian machine; save it anew on a little-endian one')
    tree, keys = _load(file, path), _load(file, path)
    dtypes = {}
    _visit(tree, lambda tensor: dtypes.setdefault(tensor.storage.key, np.dtype(tensor.storage.dtype)))
    data = {}
    for key in keys:
        (count,) = struct.unpack('<q', _exactly(file, 8))
        data[key] = _exactly(file, count * dtypes[key].itemsize if key in dtypes else 0)
    return _with_arrays(tree, lambda storage: data[storage.key], {}, path)


def _exactly(file, count):
    """So many bytes, no memory asked for that the file does not fill."""
    here = file.tell()
    left = file.seek(0, io.SEEK_END) - here
    file.seek(here)
    if not 0 <= count <= left:
        raise Broken(f'it ends where {count} bytes of a tensor should be')
    return file.read(count)


# Trees


def _visit(tree, function):
    """Calls a function with each tensor of a tree."""
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
    """The tree with arrays in place of tensors; `known` are the containers already done, which may hold each other."""
    arrays = {}

    def array(tensor):
        storage = tensor.storage
        if storage.key not in arrays:
            dtype, there = np.dtype(storage.dtype), numbers(storage)
            if len(there) != storage.count * dtype.itemsize:
                raise Broken(f'storage {storage.key} has {len(there)} bytes, not {storage.count * dtype.itemsize}')
            arrays[storage.key] = np.frombuffer(there, dtype)
        return _view(arrays[storage.key][storage.start :], tensor)

    def convert(node):
        if isinstance(node, _Tensor):
            return array(node)
        if isinstance(node, _Storage):
            raise UserError(f'{path} holds a bare storage, which is no tensor: save the state dict alone')
        if isinstance(node, Foreign | Global):
            return Foreign(str(node))
        if isinstance(node, tuple):
            return tuple(convert(child) for child in node)
        if not isinstance(node, dict | list):
            return node
        if id(node) not in known:
            if isinstance(node, dict):
                known[id(node)] = made = {}
                made.update((key, convert(child)) for key, child in node.items())
            else:
                known[id(node)] = made = []
                made.extend(convert(child) for child in node)
        return known[id(node)]

    return convert(tree)


def _view(flat, tensor):
    shape, strides = tensor.shape, tensor.strides
    sizes = (*shape, *strides, tensor.offset)
    if len(shape) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise Broken(f'a tensor has the shape {shape} and the strides {strides}')
    count = math.prod(shape)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count and (last >= len(flat) or count > len(flat)):
        raise Broken(f'a tensor of shape {shape} does not fit its storage of {len(flat)} numbers')
    steps = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)


# What of PyTorch a pickle may name


def _load(file, path):
    """What one pickle of such a file holds, tensors as `_Tensor`."""
    return pickles.load(file, path, _call, _storage)


def _storage(identifier):
    """('storage', type, key, device, count[, view]) of PyTorch."""
    kind, what, key, _, count, *view = identifier
    known = isinstance(what, Global) and what.module in ('torch', 'torch.cuda') and what.name in _DTYPES
    if kind != 'storage' or not known or not isinstance(count, int):
        raise Broken(f'a storage is of {what}')
    start = 0
    if view and view[0] is not None:
        _, start, _ = view[0]
    return _Storage(str(key), _DTYPES[what.name], count, start)


def _call(function, arguments):
    """What one of PyTorch's own functions makes, by our own code; `Foreign` for every other."""
    match str(function), arguments:
        case 'torch._utils._rebuild_tensor_v2' | 'torch._utils._rebuild_tensor', (storage, offset, shape, strides, *_):
            if not isinstance(storage, _Storage):
                raise Broken('a tensor has no storage')
            return _Tensor(storage, offset, tuple(shape), tuple(strides))
        case 'torch._utils._rebuild_parameter', (tensor, *_):
            return tensor
        case 'torch.Size', (shape,):
            return tuple(shape)
        case 'torch.device', (name, *_):
            return name
        case 'collections.OrderedDict', ():
            return {}
        case 'collections.OrderedDict', (pairs,):
            return dict(pairs)
    return Foreign(str(function))
