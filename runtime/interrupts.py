"""Ctrl-C and SIGTERM, from a script's first line on. It imports next to nothing, so that it can come first.

Python's own answer to Ctrl-C is an exception in whatever runs: within a callback it is printed and lost, and the
program goes on; within an import it can become another error. So until a script has something to save, a signal ends
the process at once. Nothing is lost by it: whatever is written is whole, or nothing, even after a kill.
"""

import contextlib
import os
import signal
import sys
import threading
import time

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_SAME_SIGNAL_SECONDS = 2  # a launcher may send a signal to a process and to the one that waits for it


def listen():
    """From here on Ctrl-C and SIGTERM end the process with a line and exit code 130 or 143."""
    for number in NUMBERS:
        signal.signal(number, _end)


def _end(number, frame):
    # It may be in the midst of writing, or its reader gone.
    with contextlib.suppress(RuntimeError, OSError, ValueError):
        sys.stdout.flush()
    show_cursor = '\x1b[?25h' if os.isatty(2) else ''  # a bar of progress may have hidden it
    line = f'{show_cursor}{os.path.basename(sys.argv[0])}: interrupted\n'
    os.write(2, line.encode())  # not print, which must not be called while it runs
    os._exit(128 + number)


class Raised:
    """Inside the `with`, where there is something to clean up, a first Ctrl-C or SIGTERM raises KeyboardInterrupt.

    `check` raises it again where a callback had swallowed it, and so does the end of the `with` where an import had
    made another error of it. A second signal acts as it did outside. The exception's argument is the signal's number.
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
        """Raises KeyboardInterrupt if a signal has come."""
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
    """A signal ended a run after its state was saved; `signal` is its number."""

    def __init__(self, number):
        super().__init__(f'signal {number}')
        self.signal = number


class Caught:
    """Catches the first SIGTERM or Ctrl-C inside the `with`, into `number`; a second one acts as ever.

    `agreed` is that of all processes together, as of the last `agree`, which all of them call at the same places.
    """

    def __init__(self):
        self.number = self.agreed = 0
        self._came = None

    def agree(self):
        """The signal that any of the processes has caught, or 0."""
        from runtime import distributed

        self.agreed = distributed.largest(self.number)
        return self.agreed

    def __enter__(self):
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread have them
            self._before = {number: signal.signal(number, self._catch) for number in NUMBERS}
        return self

    def _catch(self, number, _):
        if not self.number:
            self.number, self._came = number, time.monotonic()
        elif time.monotonic() - self._came > _SAME_SIGNAL_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def _restore(self):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *_):
        self._restore()
