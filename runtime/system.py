"""Functions that depend on the operating system; no other file checks which one this is.

Linux has everything; macOS lacks `os.sched_getaffinity`; Windows also lacks `fcntl`, `resource` and `os.pread`.
"""

import contextlib
import os
import sys
import threading
from concurrent import futures
from pathlib import Path

from runtime.errors import UserError, first_line

try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import resource
except ImportError:
    resource = None

LOCK = '.lock'  # the locked file in a folder, on systems that cannot lock the folder itself
READ = os.O_RDONLY | getattr(os, 'O_BINARY', 0)  # flags to open a file for `read_at`
_seek_lock = threading.Lock()


def check_platforms():
    """Raise UserError if JAX cannot start a platform that JAX_PLATFORMS names. Without the variable, JAX chooses."""
    platforms = os.environ.get('JAX_PLATFORMS')
    if platforms in (None, '', 'cpu'):
        return
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that one of the platforms started
        reason = first_line(error).partition(' (set JAX_PLATFORMS')[0] if str(error) else 'there is no such device'
        raise UserError(
            f'JAX_PLATFORMS={platforms}: {reason.rstrip(".")}. Set JAX_PLATFORMS=cpu, or unset it to use what there is'
        ) from None


def cores():
    """Return the number of cores available to this process, or of the machine if that is unknown."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def locked(folder):
    """Lock a folder; the lock is released when the process ends, however it ends.

    On a file system without locks, this does nothing.

    Raises:
      BlockingIOError: another process has locked the folder.
    """
    if fcntl:
        handle = os.open(folder, os.O_RDONLY)
    else:
        handle = os.open(Path(folder, LOCK), os.O_RDWR | os.O_CREAT)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)


def lock(handle):
    """Lock an open file until it is closed; see `locked`."""
    try:
        _lock(handle)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks


def _lock(handle):
    if fcntl:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt  # Windows

    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError from error


def read_at(file, buffers, offset):
    """Fill buffers from an offset in an open file; return the number of bytes read, fewer only at the file's end.

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
    """Return at most `size` bytes from an offset in an open file. Threads may share the file."""
    if hasattr(os, 'pread'):
        return os.pread(file, size, offset)
    with _seek_lock:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, size)


def allow_open_files(count):
    """Raise this process's limit of open files by `count`, as far as permitted."""
    if not resource:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512 if hard == resource.RLIM_INFINITY else min(count + 512, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def in_thread(function, *arguments):
    """Call a function in a daemon thread, so that this one hears signals; return the future of its result."""
    future = futures.Future()

    def call():
        try:
            future.set_result(function(*arguments))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def is_running(process):
    """Return whether a process id of this machine is in use; True where that is unknown."""
    if not fcntl:  # Windows, where signal 0 ends a process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def available_memory():
    """Return the bytes of free memory of the host, or its total memory, or None if both are unknown."""
    path = Path('/proc/meminfo')
    if path.exists():
        (kilobytes,) = (line.split()[1] for line in path.read_text().splitlines() if line.startswith('MemAvailable:'))
        return 1024 * int(kilobytes)
    if hasattr(os, 'sysconf'):
        return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    return None


def require_memory(needed, what, advice):
    """Raise UserError if something needs more bytes than the host has free."""
    available = available_memory()
    if available is not None and needed > available:
        raise UserError(
            f'{what} needs {needed / 1e9:,.1f} GB of memory, and {available / 1e9:,.1f} GB are free: {advice}'
        )


def peak_memory():
    """Return the peak memory of this process in bytes, or None if unknown."""
    if not resource:
        return None
    unit = 1 if sys.platform == 'darwin' else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
