"""Handling of Ctrl-C and SIGTERM from a script's first line. Imports almost nothing, so that it can be imported first.

Python raises an exception at Ctrl-C wherever the program is: in a callback it is printed and lost, and the program
continues; in an import it can turn into another error. So until a script has something to save, a signal ends the
process immediately. That is safe because all files are written atomically.
"""

import contextlib
import os
import signal
import sys
import threading
import time

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_SAME_SIGNAL_SECONDS = 2  # a launcher may signal both a process and its parent, which forwards it


def listen():
    """Let Ctrl-C and SIGTERM end the process with a one-line message and exit code 130 or 143."""
    for number in NUMBERS:
        signal.signal(number, _end)


def _end(number, frame):
    # The stream may be in use, or its reader may be gone.
    with contextlib.suppress(RuntimeError, OSError, ValueError):
        sys.stdout.flush()
    show_cursor = '\x1b[?25h' if os.isatty(2) else ''  # a progress bar may have hidden it
    line = f'{show_cursor}{os.path.basename(sys.argv[0])}: interrupted\n'
    os.write(2, line.encode())  # print is not reentrant
    os._exit(128 + number)


class Raised:
    """A context manager inside which the first Ctrl-C or SIGTERM raises KeyboardInterrupt, to allow cleaning up.

    `check` raises it again if a callback swallowed it, and so does the end of the `with` if an import turned it into
    another error. A second signal is handled as outside. The exception's argument is the signal's number.
    """

    def __enter__(self):
        self._number = 0
        self._before = {number: signal.signal(number, self._raise) for number in NUMBERS}
        return self

    def _raise(self, number, frame):
        self._number = number
        self._restore()
        raise KeyboardInterrupt(number)

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
    """A context manager that records the first SIGTERM or Ctrl-C in `number`; a second one is handled as outside.

    `agreed` is the signal that any process had received at the last `agree`, which all processes call in step.
    """

    def __init__(self):
        self.number = self.agreed = 0
        self._received = None

    def agree(self):
        """Return the signal that any of the processes has received, or 0."""
        from runtime import distributed

        self.agreed = distributed.largest(self.number)
        return self.agreed

    def __enter__(self):
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
            self._before = {number: signal.signal(number, self._catch) for number in NUMBERS}
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
