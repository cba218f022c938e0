"""Atomic writes: a reader, or a process restarted after a kill, finds either the old file or the complete new one."""

import contextlib
import os
import platform
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path, mode='w'):
    """Open a file for writing that replaces `path` when the `with` block ends without an error.

    Until then it is a temporary file next to `path`, named after this process and host. It is removed after an error,
    so a full disk does not destroy the old file. The data is flushed to disk before the file is renamed.

    Args:
      path: the file; its folder must exist.
      mode: 'w' or 'wb'; text is written without converting line ends.

    Raises:
      OSError: the file cannot be written.
    """
    partial = Path(f'{path}.{platform.node()}-{os.getpid()}.partial')
    try:
        with open(partial, mode, newline=None if 'b' in mode else '') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path, data):
    """Write text or bytes to a file with `atomic_file`."""
    with atomic_file(path, 'wb' if isinstance(data, bytes) else 'w') as file:
        file.write(data)
