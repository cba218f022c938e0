"""Where output goes: one function for every file that is written, whatever the name that the user gave.

Writes are atomic: a reader, or a process restarted after a kill, finds either the old file or the complete new one.
"""

import contextlib
import glob
import os
import platform
import shutil
import stat
import sys
from pathlib import Path

from runtime import system
from runtime.errors import UserError

STDOUT = '-'
_NAME_LIMIT = 255  # bytes of a file's name


@contextlib.contextmanager
def atomic_file(path, mode='w'):
    """Open a file for writing that replaces `path` when the `with` block ends without an error.

    Until then it is a temporary file next to `path`, named after this process and host. It is removed after an error,
    so a full disk does not destroy the old file, and by the next write if the process is killed. The data is flushed to
    disk before the file is renamed.

    Only a regular file is replaced: of a symbolic link it is the target. A device or a FIFO is written to, and so is
    standard output, whose name is `-`, /dev/stdout, or that of the file it is redirected to.

    Args:
      path: the file; its folder must exist.
      mode: 'w' or 'wb'; text is UTF-8, without converting line ends. What UTF-8 lacks (a file name that is not UTF-8)
        is written with escapes.

    Raises:
      OSError: the file cannot be written.
    """
    if _is_stdout(path):
        sys.stdout.flush()
        yield sys.stdout.buffer if 'b' in mode else sys.stdout
        sys.stdout.flush()
        return
    options = {} if 'b' in mode else {'newline': '', 'encoding': 'utf-8', 'errors': 'backslashreplace'}
    if _is_special(path):
        with open(path, mode, **options) as file:
            yield file
        return
    path = os.path.realpath(path)
    partial = _partial(path)
    try:
        with open(partial, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        if error.filename is None:  # a full disk is noticed by a write, which does not know the name
            error.filename = path
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path):
    """Yield a new folder that becomes `path`, missing or empty, when the `with` block ends without an error.

    Until then it has a temporary name next to `path`, as in `atomic_file`.
    """
    path = Path(path).absolute()
    partial = _partial(path)
    partial.mkdir()
    try:
        yield partial
        if path.is_dir():
            path.rmdir()
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial(path):
    """Return the temporary name of a file or folder; remove what processes that were killed have left of it here."""
    host = f'.{platform.node()}-'
    suffix = f'{host}{os.getpid()}.partial'
    folder, name = os.path.split(path)
    stem = os.fsdecode(os.fsencode(name)[: _NAME_LIMIT - len(suffix)])
    for left in Path(folder).glob(f'{glob.escape(stem + host)}*.partial'):
        process = left.name.removeprefix(stem + host).removesuffix('.partial')
        if process.isdecimal() and not system.is_running(int(process)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return Path(folder, stem + suffix)


def write_atomically(path, data):
    """Write text or bytes to a file with `atomic_file`."""
    with atomic_file(path, 'wb' if isinstance(data, bytes) else 'w') as file:
        file.write(data)


def append(path, text):
    """Append text to a file, or write it where `atomic_file` would."""
    if _is_stdout(path) or _is_special(path):
        return write_atomically(path, text)
    with open(path, 'a', encoding='utf-8', errors='backslashreplace') as file:
        file.write(text)


def check(path):
    """Raise UserError if a file cannot be written to a path that the user named; call it before the work."""
    if _is_stdout(path):
        return
    if os.path.isdir(path):
        raise UserError(f'{path} is a folder: name a file')
    target = path if _is_special(path) else os.path.dirname(os.path.realpath(path))
    if not os.access(target, os.W_OK):
        raise UserError(f'{path} cannot be written: its folder does not exist or is not writable')


def _is_stdout(path):
    if os.fspath(path) == STDOUT:
        return True
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:
        return False


def _is_special(path):
    """Return whether a path is a device, a FIFO or the like."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
