"""Files of weights: any of them as {name: array}."""

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
_BOMB = 64  # MiB that any archive may unpack to; more only within this many times its size
_RATIO = 20


class Weights(NamedTuple):
    """Tensors of a file.

    Fields:
      tensors: {name: float32 array}.
      kind: 'safetensors', 'torch', 'npz' or 'caffemodel'.
      notes: what was done on the way, in sentences.
      metadata: what the file says of itself: {str: str}.
    """

    tensors: dict
    kind: str
    notes: tuple
    metadata: dict


def read(path):
    """The tensors of a file, whatever of the known kinds it is; counters of batches are left out.

    Args:
      path: .safetensors, .pth, .pt, .th, .bin, .tar, .ckpt, .npz or .caffemodel.

    Raises:
      UserError: no such file, a truncated one, one of another kind, or a state dict that holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'{path} {"is a folder" if path.is_dir() else "is not there"}: --source is a file of weights')
    readers = {
        '.safetensors': _safetensors,
        '.npz': _npz,
        '.caffemodel': lambda path: ('caffemodel', caffe_file.read_net(path), {}),
        **dict.fromkeys(('.pth', '.pt', '.th', '.bin', '.tar', '.ckpt'), _torch),
    }
    with open(path, 'rb') as file:
        if file.read(len(_LFS)) == _LFS:
            raise UserError(f'{path} is a pointer of Git LFS, not the file: get the file with `git lfs pull`')
    if path.suffix not in readers:
        raise UserError(f'{path}: no reader of {path.suffix or "a file without suffix"}; known: {", ".join(readers)}')
    kind, tree, metadata = readers[path.suffix](path)
    notes = []
    flat = _unwrapped(tree, path, notes)
    flat = {name: value for name, value in flat.items() if not name.endswith('num_batches_tracked')}
    tensors, narrow = {}, set()
    for name, value in flat.items():
        if value.dtype.itemsize != 4 or value.dtype.kind != 'f':
            narrow.add(str(value.dtype))
        tensors[name] = np.asarray(value, np.float32)
        if not np.all(np.isfinite(tensors[name])):
            raise UserError(f'{path}: {name} holds numbers that are not finite: the file is damaged')
    if narrow:
        notes.append(f'tensors of {", ".join(sorted(narrow))} become float32')
    return Weights(tensors, kind, tuple(notes), metadata)


def sha256(path):
    """Of a file, in hexadecimal."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _safetensors(path):
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise UserError('reading .safetensors needs a package more: pip install safetensors') from None
    try:
        with safe_open(path, 'numpy') as file:
            return 'safetensors', {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f'{path} is truncated, or no safetensors file ({first_line(error)})') from None


def _torch(path):
    with open(path, 'rb') as file:
        start = file.read(16)
    if not start.startswith(b'PK') and not torch_file.is_legacy(start + b'....'):
        raise UserError(f'{path} is no file of torch.save: it begins with {start[:4]!r}')
    return 'torch', torch_file.read(path), {}


def _npz(path):
    """An archive of plain arrays; an array of objects is a pickle, and refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path)
            arrays = {}
            for info in archive.infolist():
                with archive.open(info) as member:
                    arrays[info.filename.removesuffix('.npy')] = _npy(member, info, path)
            return 'npz', arrays, {}
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise UserError(f'{path} is truncated, or no .npz file ({first_line(error)})') from None


def _npy(member, info, path):
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise UserError(f'{path}: {info.filename} is of an unknown version of .npy')
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(member)
    if dtype.hasobject:
        raise UserError(
            f'{path}: {info.filename} is an array of Python objects, a pickle; it is refused, nothing was run'
        )
    count = math.prod(shape)
    if count * dtype.itemsize > info.file_size:  # before any memory is asked for
        raise UserError(f'{path}: {info.filename} claims {count} numbers, more than the archive holds')
    data = np.frombuffer(member.read(count * dtype.itemsize), dtype)
    return data.reshape(shape[::-1]).T if fortran else data.reshape(shape)


def _check_size(archive, path):
    total = sum(info.file_size for info in archive.infolist())
    if total > max(_BOMB << 20, _RATIO * Path(path).stat().st_size):
        raise UserError(
            f'{path} would unpack to {total >> 20:,} MiB, more than {_RATIO} times its size: weights do not compress '
            'like that; it is not unpacked'
        )


_ALONE = 'nothing of it was run. Save the weights alone: torch.save(model.state_dict(), FILE)'


def _unwrapped(tree, path, notes):
    """{name: array} of a state dict, out of the checkpoint around it and without the prefixes of PyTorch's wrappers."""
    if isinstance(tree, torch_file.Foreign):
        raise UserError(f'{path} holds {tree.name}, not a state dict; {_ALONE}')
    if not isinstance(tree, dict):
        raise UserError(f'{path} holds a {type(tree).__name__}, not a state dict')
    wrapped = [name for name in WRAPPERS if isinstance(tree.get(name), dict)]
    if wrapped:
        others = f'; {", ".join(wrapped[1:])} left alone' if wrapped[1:] else ''
        notes.append(f'the state dict is {wrapped[0]!r} of a checkpoint{others}')
        skipped = [f'{key} ({value.name})' for key, value in tree.items() if isinstance(value, torch_file.Foreign)]
        if skipped:
            notes.append(f'skipped, nothing of it was run: {", ".join(skipped)}')
        return _unwrapped(tree[wrapped[0]], path, notes)
    odd = [name for name, value in tree.items() if not isinstance(value, np.ndarray) or not isinstance(name, str)]
    if odd and isinstance(tree[odd[0]], torch_file.Foreign):
        raise UserError(f'{path}: {odd[0]!r} is {tree[odd[0]].name}, not a tensor; {_ALONE}')
    if odd or not tree:
        what = f'{odd[0]!r}, a {type(tree[odd[0]]).__name__}, is no tensor' if odd else 'it is empty'
        raise UserError(f'{path} holds no state dict: {what}')
    prefix, inside = '', tree
    while more := [more for more in PREFIXES if any(name.startswith(more) for name in inside)]:
        prefix += more[0]
        inside = {name.removeprefix(more[0]): value for name, value in inside.items() if name.startswith(more[0])}
    if prefix:
        others = [name for name in tree if not name.startswith(prefix)]
        notes.append(f'the prefix {prefix!r} is taken off' + f'; left out: {", ".join(others)}' * bool(others))
        tree = inside
    # torchvision's oldest DenseNets: denselayer1.norm.1 for what is called denselayer1.norm1 since.
    return {re.sub(r'(denselayer\d+\.(?:norm|conv))\.([12])\.', r'\1\2.', name): value for name, value in tree.items()}
