"""Readers of weight files; all return {name: array}."""

import hashlib
import math
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from runtime.errors import UserError, first_line
from weights import caffe_file, torch_file

PREFIXES = ('module.', '_orig_mod.', 'model.')  # of DataParallel, torch.compile, Lightning
WRAPPERS = ('state_dict', 'model', 'model_state_dict', 'net', 'model_ema', 'state_dict_ema', 'ema_state_dict')
_LFS = b'version https://git-lfs.github.com/spec/'
_UNPACKED = 64  # MiB that any archive may unpack to; beyond that, _RATIO times its size
_RATIO = 20


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
    if not path.is_file():
        raise UserError(f'{path} {"is a folder" if path.is_dir() else "does not exist"}: --source takes a weight file')
    readers = {
        '.safetensors': _safetensors,
        '.npz': _npz,
        '.caffemodel': lambda path: ('caffemodel', caffe_file.read_net(path), {}),
        **dict.fromkeys(('.pth', '.pt', '.th', '.bin', '.tar', '.ckpt'), _torch),
    }
    with open(path, 'rb') as file:
        if file.read(len(_LFS)) == _LFS:
            raise UserError(f'{path} is a Git LFS pointer, not the file: get it with `git lfs pull`')
    if path.suffix not in readers:
        raise UserError(f'{path}: cannot read {path.suffix or "a file without suffix"}; known: {", ".join(readers)}')
    kind, tree, metadata = readers[path.suffix](path)
    notes = []
    flat = _unwrapped(tree, path, notes)
    flat = {name: value for name, value in flat.items() if not name.endswith('num_batches_tracked')}
    tensors, other_types = {}, set()
    for name, value in flat.items():
        if value.dtype.itemsize != 4 or value.dtype.kind != 'f':
            other_types.add(str(value.dtype))
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


def _safetensors(path):
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise UserError('reading .safetensors needs another package: pip install safetensors') from None
    try:
        with safe_open(path, 'numpy') as file:
            return 'safetensors', {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f'{path} is truncated or not a safetensors file ({first_line(error)})') from None


def _torch(path):
    with open(path, 'rb') as file:
        start = file.read(16)
    if not start.startswith(b'PK') and not torch_file.is_legacy(start + b'....'):
        raise UserError(f'{path} is not a torch.save file: it begins with {start[:4]!r}')
    return 'torch', torch_file.read(path), {}


def _npz(path):
    """Read an archive of plain arrays; an array of objects is a pickle and is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path)
            arrays = {}
            for info in archive.infolist():
                with archive.open(info) as member:
                    arrays[info.filename.removesuffix('.npy')] = _npy(member, info, path)
            return 'npz', arrays, {}
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise UserError(f'{path} is truncated or not an .npz file ({first_line(error)})') from None


def _npy(member, info, path):
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise UserError(f'{path}: {info.filename} has an unknown version of the .npy format')
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(member)
    if dtype.hasobject:
        raise UserError(
            f'{path}: {info.filename} is an array of Python objects, a pickle, which is refused; nothing was executed'
        )
    count = math.prod(shape)
    if count * dtype.itemsize > info.file_size:  # before memory is allocated
        raise UserError(f'{path}: {info.filename} claims {count} numbers, more than the archive has')
    data = np.frombuffer(member.read(count * dtype.itemsize), dtype)
    return data.reshape(shape[::-1]).T if fortran else data.reshape(shape)


def _check_size(archive, path):
    total = sum(info.file_size for info in archive.infolist())
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
    # torchvision's oldest DenseNet files have denselayer1.norm.1, later ones denselayer1.norm1.
    return {re.sub(r'(denselayer\d+\.(?:norm|conv))\.([12])\.', r'\1\2.', name): value for name, value in tree.items()}
