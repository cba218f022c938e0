"""Readers of weight files; all return {name: array}."""

import hashlib
import math
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import msgspec
import numpy as np

from runtime import foreign
from runtime.errors import UserError
from weights import caffe_file, torch_file

PREFIXES = ('module.', '_orig_mod.', 'model.')  # of DataParallel, torch.compile, Lightning
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'net', 'model_ema', 'state_dict_ema', 'ema_state_dict')
_LFS = b'version https://git-lfs.github.com/spec/'
_UNPACKED = 64  # MiB that any archive may unpack to; beyond that, _RATIO times its size
_RATIO = 20

_TORCH = '.pth', '.pt', '.th', '.bin', '.tar', '.ckpt'
SUFFIXES = '.safetensors', '.npz', '.caffemodel', *_TORCH
LARGEST = 4 << 30  # bytes of a file; the largest network has 0.6 GB, and its optimizer may have as much twice


class Weights(NamedTuple):
    """The tensors of a file.

    Fields:
      tensors: {name: float32 array}.
      kind: 'safetensors', 'torch', 'npz' or 'caffemodel'.
      notes: sentences on what was changed.
      metadata: the file's own metadata, {str: str}.
    """

    tensors: dict
    kind: str
    notes: tuple
    metadata: dict


def read(path):
    """Read the tensors of a file of any known kind, without PyTorch's counters of batches.

    Args:
      path: .safetensors, .pth, .pt, .th, .bin, .tar, .ckpt, .npz or .caffemodel.

    Raises:
      UserError: the file is missing, truncated or of another kind, or its state dict holds more than tensors.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise UserError(f'{path} {"is a folder" if path.is_dir() else "does not exist"}: --source takes a weight file')
    readers = {
        '.safetensors': _safetensors,
        '.npz': _npz,
        '.caffemodel': lambda path: ('caffemodel', caffe_file.read_net(path), {}),
        **dict.fromkeys(_TORCH, _torch),
    }
    with foreign.open_regular(path, LARGEST) as file:
        if file.read(len(_LFS)) == _LFS:
            raise UserError(f'{path} is a Git LFS pointer, not the file: get it with `git lfs pull`')
    if path.suffix not in readers:
        raise UserError(f'{path}: cannot read {path.suffix or "a file without suffix"}; known: {", ".join(readers)}')
    notes = []
    with foreign.parsing(path, 'a weight file'):
        kind, tree, metadata = readers[path.suffix](path)
        flat = _unwrapped(tree, path, notes)
    flat = {name: value for name, value in flat.items() if not name.endswith('num_batches_tracked')}
    _check_size(sum(4 * value.size for value in flat.values()), path)  # many tensors may view the same data
    tensors, other_types = {}, set()
    for name, value in flat.items():
        if value.dtype.kind not in 'biuf' and value.dtype != ml_dtypes.bfloat16:
            raise UserError(f'{path}: {name} is an array of {value.dtype}, not of numbers')
        if value.dtype.itemsize != 4 or value.dtype.kind != 'f':
            other_types.add(str(value.dtype))
        with np.errstate(all='ignore'):
            tensors[name] = np.asarray(value, np.float32)
        if not np.all(np.isfinite(tensors[name])):
            raise UserError(f'{path}: {name} has NaN or infinite values: the file is damaged')
    if other_types:
        notes.append(f'tensors of {", ".join(sorted(other_types))} are converted to float32')
    return Weights(tensors, kind, tuple(notes), metadata)


def sha256(path):
    """Return the SHA-256 of a file, in hexadecimal."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


_DTYPES = {
    **{'F64': np.float64, 'F32': np.float32, 'F16': np.float16, 'BF16': ml_dtypes.bfloat16, 'BOOL': np.bool_},
    **{f'{kind}{8 * size}': np.dtype(f'<{kind.lower()}{size}') for kind in 'IU' for size in (1, 2, 4, 8)},
}


class _Entry(msgspec.Struct):
    """An entry of a safetensors file's header."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def _safetensors(path):
    content = foreign.read_regular(path)
    (length,) = struct.unpack('<Q', content[:8])
    if length > len(content) - 8:
        raise UserError(f'{path} is truncated or not a safetensors file')
    header = foreign.parse_json(content[8 : 8 + length], dict[str, dict], path, 'a safetensors file')
    metadata = msgspec.convert(header.pop('__metadata__', {}), dict[str, str])
    data, end, tensors = memoryview(content)[8 + length :], 0, {}
    for name, entry in sorted(msgspec.convert(header, dict[str, _Entry]).items(), key=lambda x: x[1].data_offsets):
        if entry.dtype not in _DTYPES:
            raise UserError(f'{path}: {name} has the type {entry.dtype}; known: {", ".join(_DTYPES)}')
        start, stop = entry.data_offsets
        shape, dtype = foreign.shape_of(entry.shape), np.dtype(_DTYPES[entry.dtype])
        if start != end or not start <= stop <= len(data) or stop - start != math.prod(shape) * dtype.itemsize:
            raise UserError(f'{path} is truncated or not a safetensors file: {name} is not where its header says')
        tensors[name], end = np.frombuffer(data[start:stop], dtype).reshape(shape), stop
    if end != len(data):
        raise UserError(f'{path} is not a safetensors file: it has {len(data) - end:,} bytes that belong to no tensor')
    return 'safetensors', {name: tensors[name] for name in header}, metadata


def _torch(path):
    with foreign.open_regular(path) as file:
        start = file.read(16)
    if not start.startswith(b'PK') and not torch_file.is_legacy(start + b'....'):
        raise UserError(f'{path} is not a torch.save file: it begins with {start[:4]!r}')
    return 'torch', torch_file.read(path), {}


def _npz(path):
    """Read an archive of plain arrays; an array of objects is a pickle and is refused."""
    with foreign.parsing(path, 'an .npz file'), foreign.open_regular(path) as file, zipfile.ZipFile(file) as archive:
        _check_size(sum(info.file_size for info in archive.infolist()), path)
        arrays = []
        for info in archive.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f'{path}: {info.filename} is compressed by a method that NumPy does not write')
            with archive.open(info) as member:
                arrays.append((info.filename.removesuffix('.npy'), _npy(member, info, path)))
        return 'npz', foreign.unique(arrays), {}


def _npy(member, info, path):
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise UserError(f'{path}: {info.filename} has an unknown version of the .npy format')
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings(action='ignore'):  # of a header of Python 2, or of a damaged one
        shape, fortran, dtype = read_header(member)
    if dtype.hasobject:
        raise UserError(
            f'{path}: {info.filename} is an array of Python objects, a pickle, which is refused; nothing was executed'
        )
    count = math.prod(foreign.shape_of(shape))
    if count * dtype.itemsize > info.file_size:  # before memory is allocated
        raise UserError(f'{path}: {info.filename} claims {count} numbers, more than the archive has')
    data = np.frombuffer(member.read(count * dtype.itemsize), dtype)
    if member.read(1):
        raise UserError(f'{path}: {info.filename} is longer than its {count} numbers')
    return data.reshape(shape[::-1]).T if fortran else data.reshape(shape)


def _check_size(total, path):
    if total > max(_UNPACKED << 20, _RATIO * Path(path).stat().st_size):
        raise UserError(
            f'{path} would unpack to {total >> 20:,} MiB, more than {_RATIO} times its size, and is refused: weights '
            'do not compress that well'
        )


_SAVE_WEIGHTS = 'nothing was executed. Save only the weights: torch.save(model.state_dict(), FILE)'


def _unwrapped(tree, path, notes):
    """Return the state dict {name: array} of a checkpoint, without the prefixes of PyTorch's wrappers."""
    if isinstance(tree, torch_file.Foreign):
        raise UserError(f'{path} holds {tree.name}, not a state dict; {_SAVE_WEIGHTS}')
    if not isinstance(tree, dict):
        raise UserError(f'{path} holds a {type(tree).__name__}, not a state dict')
    wrapped = [name for name in WRAPPERS if isinstance(tree.get(name), dict)]
    if wrapped:
        ignored = f'; ignored: {", ".join(wrapped[1:])}' if wrapped[1:] else ''
        notes.append(f'the state dict is {wrapped[0]!r} of the checkpoint{ignored}')
        skipped = [f'{key} ({value.name})' for key, value in tree.items() if isinstance(value, torch_file.Foreign)]
        if skipped:
            notes.append(f'skipped without executing it: {", ".join(skipped)}')
        return _unwrapped(tree[wrapped[0]], path, notes)
    invalid = [name for name, value in tree.items() if not isinstance(value, np.ndarray) or not isinstance(name, str)]
    if invalid and isinstance(tree[invalid[0]], torch_file.Foreign):
        raise UserError(f'{path}: {invalid[0]!r} is {tree[invalid[0]].name}, not a tensor; {_SAVE_WEIGHTS}')
    if invalid or not tree:
        why = f'{invalid[0]!r}, a {type(tree[invalid[0]]).__name__}, is not a tensor' if invalid else 'it is empty'
        raise UserError(f'{path} has no state dict: {why}')
    prefix, inside = '', tree
    while more := [more for more in PREFIXES if any(name.startswith(more) for name in inside)]:
        prefix += more[0]
        inside = {name.removeprefix(more[0]): value for name, value in inside.items() if name.startswith(more[0])}
    if prefix:
        dropped = [name for name in tree if not name.startswith(prefix)]
        notes.append(f'the prefix {prefix!r} is removed' + f'; left out: {", ".join(dropped)}' * bool(dropped))
        tree = inside
    return {_name(name): value for name, value in _as_torchvision(tree).items()}


def _name(name):
    """Return a later name of a tensor: torchvision's oldest DenseNet files have denselayer1.norm.1, others norm1."""
    return re.sub(r'(denselayer\d+\.(?:norm|conv))\.([12])\.', r'\1\2.', name)


_TIMM_VGG = {'pre_logits.fc1': 'classifier.0', 'pre_logits.fc2': 'classifier.3', 'head.fc': 'classifier.6'}


def _as_torchvision(tensors):
    """Return the tensors of a VGG as torchvision has them; timm's fully connected layers are convolutions."""
    if 'pre_logits.fc1.weight' not in tensors:
        return tensors
    renamed = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition('.')
        matrix = value.reshape(len(value), -1) if layer in _TIMM_VGG and value.ndim == 4 else value
        renamed[f'{_TIMM_VGG.get(layer, layer)}.{leaf}'] = matrix
    return renamed
