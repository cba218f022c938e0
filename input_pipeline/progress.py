"""A progress bar; on other outputs than a terminal, plain lines at growing intervals."""

import contextlib
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from runtime.text import duration, printable

_FIRST, _LONGEST = 10, 300  # seconds


class Intervals:
    """When to print a line of progress: after 10 seconds, and each time a half later, up to every 5 minutes."""

    def __init__(self, clock=time.monotonic):
        self._clock, self._seconds = clock, _FIRST
        self._next = clock() + _FIRST

    def are_over(self):
        """Return whether it is time for a line; the next interval starts then."""
        now = self._clock()
        if now < self._next:
            return False
        self._seconds = min(_LONGEST, 1.5 * self._seconds)
        self._next = now + self._seconds
        return True


def console(**options):
    """Return a console for rich; in a notebook it prints plain lines as into a file, since a cell keeps every line."""
    is_notebook = Console().is_jupyter
    return Console(force_jupyter=False, force_terminal=False if is_notebook else None, highlight=False, **options)


@contextlib.contextmanager
def bar(title, total):
    """Show progress on standard error until the end of the block; yields a function that advances it by some amount."""
    output = console(stderr=True)
    if not output.is_terminal:
        yield _plain(title, total)
        return
    columns = (
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        TextColumn('{task.percentage:>3.0f}%  left'),
    )
    with Progress(*columns, TimeRemainingColumn(), console=output, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda amount=1: progress.update(task, advance=amount)


def _plain(title, total):
    """Return a function that advances the progress and prints it now and then."""
    intervals, begin, done = Intervals(), time.monotonic(), 0

    def advance(amount=1):
        nonlocal done
        done += amount
        if intervals.are_over() and done:
            left = duration((time.monotonic() - begin) / done * (total - done))
            print(f'{printable(title)}: {done:,} of {total:,}, about {left} left', file=sys.stderr, flush=True)

    return advance
