"""What operating systems do in different ways, or not at all: the one file that asks which of them this is.

Linux has all of it; macOS lacks `os.sched_getaffinity`; Windows also lacks `fcntl`, `resource` and `os.pread`.
"""

import contextlib
import os
import sys
import threading
from pathlib import Path

try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import resource
except ImportError:
    resource = None

LOCK = '.lock'  # the file in a locked folder, where a folder itself cannot be locked
READ = os.O_RDONLY | getattr(os, 'O_BINARY', 0)  # how a file is opened for `read_at`
_seeking = threading.Lock()


def cores():
    """How many cores this process may run on; of the machine, where that is not told."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def locked(folder):
    """Holds a folder for this process; the lock goes with the process, however it ends.

    Where a file system has no locks, nothing is held.

    Raises:
      BlockingIOError: another process holds it.
    """
    if fcntl:
        handle = os.open(folder, os.O_RDONLY)
    else:
        handle = os.open(Path(folder, LOCK), os.O_RDWR | os.O_CREAT)
    try:
        try:
            _lock(handle)
        except BlockingIOError:
            raise
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


def _lock(handle):
    if fcntl:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt  # of Windows

    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError from error


def read_at(file, buffers, offset):
    """Fills buffers one after another from a place in an open file; the bytes read, fewer only at its end.

    Threads may share the file.
    """
    if hasattr(os, 'preadv'):
        return os.preadv(file, buffers, offset)
    total = 0
    for buffer in buffers:
        data = pread(file, len(buffer), offset + total)
        memoryview(buffer).cast('B')[: len(data)] = data
        total += len(data)
        if len(data) < len(buffer):
            break
    return total


def pread(file, size, offset):
    """At most `size` bytes from a place in an open file. Threads may share the file."""
    if hasattr(os, 'pread'):
        return os.pread(file, size, offset)
    with _seeking:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)


def allow_open_files(count):
    """Raises this process's limit of open files, where it may, so that so many more can stay open."""
    if not resource:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512 if hard == resource.RLIM_INFINITY else min(count + 512, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def available_memory():
    """Bytes of memory that the host has left, or all that it has where that is not told; None where neither is."""
    path = Path('/proc/meminfo')
    if path.exists():
        (kilobytes,) = (line.split()[1] for line in path.read_text().splitlines() if line.startswith('MemAvailable:'))
        return 1024 * int(kilobytes)
    if hasattr(os, 'sysconf'):
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return None


def peak_memory():
    """The most bytes that this process has held so far; None where that is not told."""
    if not resource:
        return None
    unit = 1 if sys.platform == 'darwin' else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
