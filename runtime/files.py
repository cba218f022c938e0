"""Files that are whole at any moment: a reader, or the next start after a kill, meets the old one or the new one."""

import contextlib
import os
import platform
from pathlib import Path


@contextlib.contextmanager
def whole_file(path, mode='w'):
    """Opens a file to write, which takes the place of `path` when the `with` ends without an error.

    Until then it lies beside `path` under a name of this process and host, and is removed when something fails: a full
    disk costs nothing that was there. The data is on the disk before the name is.

    Args:
      path: of the file; its folder must exist.
      mode: 'w' or 'wb'; text is written as it is, without translated line ends.

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


def write_whole(path, data):
    """Writes text or bytes to a file by `whole_file`."""
    with whole_file(path, 'wb' if isinstance(data, bytes) else 'w') as file:
        file.write(data)
