"""Signals and output streams from a script's first line. Imports almost nothing, so that it can be imported first.

Python raises an exception at Ctrl-C wherever the program is: in a callback it is printed and lost, and the program
continues; in an import it can turn into another error. So until a script has something to save, a signal ends the
process immediately. That is safe because all files are written atomically.

The output never decides over the work: a terminal, a pipe or a disk that takes no more of it (`| head`) ends no run.
"""

import contextlib
import errno
import io
import os
import signal
import sys
import threading
import time

_advice = ''
_SAME_SIGNAL_SECONDS = 2  # `timeout` signals a process and its group, a launcher also a parent, which forwards it


def runs_as_module(package):
    """Return whether this is the import of a package of which `python -m` runs a module, before that module."""
    return sys.argv[:1] == ['-m'] and sys.orig_argv[-len(sys.argv)].partition('.')[0] == package


def numbers():
    """Return the signals that end a process: Ctrl-C, SIGTERM, and a closed terminal unless `nohup` ignores that."""
    hang_up = getattr(signal, 'SIGHUP', None)  # Windows has none
    is_ignored = hang_up is None or signal.getsignal(hang_up) == signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM) if is_ignored else (signal.SIGINT, signal.SIGTERM, hang_up)


def listen(purpose='result'):
    """Let a signal end the process with a one-line message and the exit code 128 + its number, and guard the output.

    Text that the output's encoding lacks is written with escapes. After a failed write, the output is left out and the
    process goes on.

    Args:
      purpose: of the output. 'result': a failure is a line on standard error and `output_failed`, but it is none if
        nobody reads the output any more (`| head`). 'progress' of a run, whose results are in files: each is a line,
        none is a failure. 'list': as 'result', but without a reader the process ends, since it only prints.
    """
    for number in numbers():
        signal.signal(number, _end)
    for number in range(3):  # a file that is opened later must not get the number of a stream closed by `>&-`
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _stream(sys.stdout, 1, purpose), _stream(sys.stderr, 2, purpose)


class _Output(io.FileIO):
    """A standard stream, which leads nowhere after a failed write; see `listen`."""

    failed = False

    def __init__(self, number, purpose):
        super().__init__(number, 'w', closefd=False)
        self._purpose = purpose

    def write(self, data):
        try:
            return super().write(data)
        except OSError as error:
            self._lose(error)
            return len(data)

    def _lose(self, error):
        is_pipe = error.errno == errno.EPIPE
        if is_pipe and self._purpose == 'list':
            os._exit(0)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        self.failed = not is_pipe and self._purpose != 'progress'
        if self.fileno() == 1 and (self.failed or self._purpose == 'progress'):
            _tell(f'the output cannot be written ({error.strerror}) and is left out from here on')


def _stream(old, number, purpose):
    if isinstance(getattr(getattr(old, 'buffer', None), 'raw', None), _Output):
        return old
    raw = _Output(number, purpose)
    encoding = old.encoding if old else 'utf-8'
    is_line_buffered = number == 2 or bool(old and old.line_buffering)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, 'backslashreplace', line_buffering=is_line_buffered,
        write_through=bool(old and old.write_through),
    )  # fmt: skip


def advise(advice):
    """Say what to do after a signal, in the line that says so: 'the same command resumes'."""
    global _advice
    _advice = f'; {advice}'


def interrupted():
    """Return the line for a signal."""
    return f'interrupted{_advice}'


def output_failed():
    """Return whether results are lost, because standard output could not be written to; see `listen`."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, 'buffer', None), 'raw', None)
    return isinstance(raw, _Output) and raw.failed


def _tell(text):
    with contextlib.suppress(OSError):  # nobody reads it either
        os.write(2, f'{os.path.basename(sys.argv[0])}: {text}\n'.encode(errors='backslashreplace'))


def _end(number, frame):
    # The stream may be in use, or its reader may be gone.
    with contextlib.suppress(RuntimeError, OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, b'\x1b[?25h' if os.isatty(2) else b'')  # a progress bar may have hidden the cursor
    _tell(interrupted())  # print is not reentrant
    os._exit(128 + number)


class Raised:
    """A context manager inside which the first signal raises KeyboardInterrupt, to allow cleaning up.

    `check` raises it again if a callback swallowed it, and so does the end of the `with` if an import turned it into
    another error. A later signal is handled as outside. The exception's argument is the signal's number.
    """

    def __enter__(self):
        self._number = 0
        self._before = {number: signal.signal(number, self._raise) for number in numbers()}
        return self

    def _raise(self, number, frame):
        if not self._number:
            self._number, self._received = number, time.monotonic()
            raise KeyboardInterrupt(number)
        if time.monotonic() - self._received > _SAME_SIGNAL_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def check(self):
        """Raise KeyboardInterrupt if a signal has been received."""
        if self._number:
            raise KeyboardInterrupt(self._number)

    def _restore(self):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, kind, error, trace):
        self._restore()
        if isinstance(error, Exception) and self._number:
            raise KeyboardInterrupt(self._number) from None


class Interrupted(Exception):
    """A signal, whose number is `signal`, ended a run after its state was saved."""

    def __init__(self, number):
        super().__init__(f'signal {number}')
        self.signal = number


class Caught:
    """A context manager that records the first signal in `number`; a later one is handled as outside.

    `agreed` is the signal that any process had received at the last `agree`, which all processes call in step.
    `largest` returns the largest of the numbers that the processes call it with; by default there is one process.
    """

    def __init__(self, largest=lambda number: number):
        self._largest = largest
        self.number = self.agreed = 0
        self._received = None

    def agree(self):
        """Return the signal that any of the processes has received, or 0."""
        self.agreed = self._largest(self.number)
        return self.agreed

    def __enter__(self):
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
            self._before = {number: signal.signal(number, self._catch) for number in numbers()}
        return self

    def _catch(self, number, _):
        if not self.number:
            self.number, self._received = number, time.monotonic()
        elif time.monotonic() - self._received > _SAME_SIGNAL_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *_):
        self._restore()
