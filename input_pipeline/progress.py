"""A bar of progress on a terminal; nothing elsewhere."""

import contextlib

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def bar(title, total):
    """Gives a function that counts on by so many of `total`; the bar is on standard error, and vanishes at the end."""
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        TextColumn('{task.percentage:>3.0f}%  left'),
    )
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(title, total=total)
        yield lambda amount=1: progress.update(task, advance=amount)
