"""PyTorch's files of tensors (.pth, .pt), read as data: nothing in them is executed, and no pickle is loaded.

Such a file is a pickle, a program for a small stack machine, and beside it the bytes of the tensors. Here the program
is read opcode by opcode, and of the functions that it may name only those that put a tensor together are known, as our
own. PyTorch need not be installed. Both forms are read: the zip archive of PyTorch 1.6 and later, and the one before.
"""

import io
import math
import pickletools
import struct
import zipfile
from typing import NamedTuple

import ml_dtypes
import numpy as np

from runtime.errors import UserError

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


class _Broken(Exception):
    """The program does not make sense; its message says where."""


class _Global(NamedTuple):
    """A name that the pickle refers to; nothing is imported."""

    module: str
    name: str

    def __str__(self):
        return f'{self.module}.{self.name}'


class Foreign(NamedTuple):
    """An object of a class or function that puts no tensor together. It was not made: nothing was run."""

    name: str


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
    except (_Broken, zipfile.BadZipFile, EOFError, UnicodeDecodeError, struct.error) as error:
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
            raise _Broken(f'{name} is missing')
        return archive.read(name)

    tree = _run(io.BytesIO(archive.read(programs[0])), path)
    return _with_arrays(tree, numbers, {}, path)


def _read_legacy(file, path):
    start = file.read(len(_LEGACY))
    if start != _LEGACY:
        raise UserError(f'{path} is no file of torch.save (nor one of before PyTorch 0.1.10: load and save it anew)')
    _run(file, path)  # the version of the protocol
    machine = _run(file, path)
    if not machine.get('little_endian', True):
        raise UserError(f'{path} was written on a big-endian machine; save it anew on a little-endian one')
    tree, keys = _run(file, path), _run(file, path)
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
        raise _Broken(f'it ends where {count} bytes of a tensor should be')
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
                raise _Broken(f'storage {storage.key} has {len(there)} bytes, not {storage.count * dtype.itemsize}')
            arrays[storage.key] = np.frombuffer(there, dtype)
        return _view(arrays[storage.key][storage.start :], tensor)

    def convert(node):
        if isinstance(node, _Tensor):
            return array(node)
        if isinstance(node, _Storage):
            raise UserError(f'{path} holds a bare storage, which is no tensor: save the state dict alone')
        if isinstance(node, Foreign | _Global):
            return Foreign(str(node) if isinstance(node, _Global) else node.name)
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
        raise _Broken(f'a tensor has the shape {shape} and the strides {strides}')
    count = math.prod(shape)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count and (last >= len(flat) or count > len(flat)):
        raise _Broken(f'a tensor of shape {shape} does not fit its storage of {len(flat)} numbers')
    steps = [stride * flat.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)


# The stack machine


def _run(file, path):
    """What one pickled program leaves on its stack."""
    stack, marks, memo = [], [], {}

    def pop_mark():
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    try:
        for opcode, argument, _ in pickletools.genops(file):
            name = opcode.name
            if name in _VALUES:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            elif name in ('PROTO', 'FRAME'):
                pass
            elif name == 'MARK':
                marks.append(len(stack))
            elif name in ('BINPUT', 'LONG_BINPUT', 'PUT'):
                memo[argument] = stack[-1]
            elif name == 'MEMOIZE':
                memo[len(memo)] = stack[-1]
            elif name in ('BINGET', 'LONG_BINGET', 'GET'):
                stack.append(memo[argument])
            elif name in ('TUPLE1', 'TUPLE2', 'TUPLE3'):
                count = int(name[-1])
                stack[-count:] = [tuple(stack[-count:])]
            elif name == 'TUPLE':
                stack.append(tuple(pop_mark()))
            elif name == 'LIST':
                stack.append(pop_mark())
            elif name == 'DICT':
                items = pop_mark()
                stack.append(dict(zip(items[::2], items[1::2], strict=True)))
            elif name in ('APPEND', 'APPENDS'):
                items = [stack.pop()] if name == 'APPEND' else pop_mark()
                if not isinstance(stack[-1], Foreign):
                    _of(list, stack[-1]).extend(items)
            elif name in ('SETITEM', 'SETITEMS'):
                items = [stack.pop(), stack.pop()][::-1] if name == 'SETITEM' else pop_mark()
                if not isinstance(stack[-1], Foreign):
                    _of(dict, stack[-1]).update(zip(items[::2], items[1::2], strict=True))
            elif name == 'EMPTY_SET':
                stack.append(Foreign('set'))
            elif name == 'FROZENSET':
                pop_mark()
                stack.append(Foreign('frozenset'))
            elif name == 'ADDITEMS':
                pop_mark()
            elif name == 'GLOBAL':
                stack.append(_Global(*argument.split(' ', 1)))
            elif name == 'STACK_GLOBAL':
                stack[-2:] = [_Global(*stack[-2:])]
            elif name == 'BINPERSID':
                stack.append(_storage(stack.pop()))
            elif name in ('REDUCE', 'NEWOBJ', 'NEWOBJ_EX'):
                if name == 'NEWOBJ_EX':
                    stack.pop()
                arguments = stack.pop()
                stack.append(_call(stack.pop(), arguments))
            elif name == 'BUILD':  # attributes: of an OrderedDict a state dict's versions
                if not isinstance(stack[-2], Foreign):
                    _of(dict, stack[-2])
                stack.pop()
            elif name == 'POP':
                stack.pop()
            elif name == 'STOP':
                return stack.pop()
            else:
                raise UserError(
                    f'{path} asks for {name}, which no file of tensors does; it is refused, nothing was run'
                )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise _Broken(f'its pickle makes no sense: {error}') from None
    raise _Broken('its pickle has no end')


_VALUES = (
    'BININT', 'BININT1', 'BININT2', 'LONG1', 'LONG4', 'INT', 'LONG', 'BINFLOAT', 'FLOAT', 'BINUNICODE',
    'SHORT_BINUNICODE', 'BINUNICODE8', 'UNICODE', 'SHORT_BINSTRING', 'BINSTRING', 'SHORT_BINBYTES', 'BINBYTES',
)  # fmt: skip
_CONSTANTS = {
    'NONE': lambda: None,
    'NEWTRUE': lambda: True,
    'NEWFALSE': lambda: False,
    'EMPTY_DICT': dict,
    'EMPTY_LIST': list,
    'EMPTY_TUPLE': tuple,
}


def _of(kind, value):
    if not isinstance(value, kind):
        raise _Broken(f'its pickle fills a {type(value).__name__} as if it were a {kind.__name__}')
    return value


def _storage(identifier):
    """('storage', type, key, device, count[, view]) of PyTorch."""
    kind, what, key, _, count, *view = identifier
    known = isinstance(what, _Global) and what.module in ('torch', 'torch.cuda') and what.name in _DTYPES
    if kind != 'storage' or not known or not isinstance(count, int):
        raise _Broken(f'a storage is of {what}')
    start = 0
    if view and view[0] is not None:
        _, start, _ = view[0]
    return _Storage(str(key), _DTYPES[what.name], count, start)


def _call(function, arguments):
    """What one of PyTorch's own functions makes, by our own code; `Foreign` for every other."""
    match str(function), arguments:
        case 'torch._utils._rebuild_tensor_v2' | 'torch._utils._rebuild_tensor', (storage, offset, shape, strides, *_):
            if not isinstance(storage, _Storage):
                raise _Broken('a tensor has no storage')
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
    return Foreign(function.name if isinstance(function, Foreign) else str(function))
