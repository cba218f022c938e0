"""A progress bar, shown only on a terminal."""

import contextlib

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


@contextlib.contextmanager
def bar(title, total):
    """Show a bar on standard error until the end of the block; yields a function that advances it by some amount."""
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
