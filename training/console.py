"""What a person sees of a run: a live line on a terminal, plain lines in a file, a table of epochs, a summary."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_COLUMNS = (
    ('epoch', '{epoch:>5}'),
    ('step', '{step:>9,}'),
    ('rate', '{learning_rate:>8.2g}'),
    ('train loss', '{train_loss:>10.4f}'),
    ('train err %', '{train_error:>11.2f}'),
    ('test loss', '{test_loss:>9.4f}'),
    ('test err %', '{test_top1_error:>10.2f}'),
)
_PLAIN_SECONDS = 10  # between plain lines of progress


class Display:
    """Progress of a run of `total_steps`; use it in a `with`. Of several processes all but one are `quiet`."""

    def __init__(self, total_steps, quiet=False):
        self.console = Console(highlight=False, soft_wrap=True, quiet=quiet)
        self._live = self.console.is_terminal
        self._progress = Progress(
            TextColumn('step {task.completed:,.0f}/{task.total:,.0f}'),
            BarColumn(),
            TextColumn('{task.percentage:>3.0f}%  {task.fields[status]}  left'),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._progress.add_task('', total=total_steps, status='')
        self._total, self._printed, self._begun = total_steps, time.monotonic(), None

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *_):
        self._progress.stop()

    def say(self, text):
        """Prints a line above the live one."""
        self.console.print(text, markup=False)

    def advance(self, step, images_per_second, loss):
        """Shows where the run is."""
        now = time.monotonic()
        self._begun = self._begun or (now, step)
        status = f'{images_per_second:,.0f} images/s  loss {loss:.4f}'
        self._progress.update(self._task, completed=step, status=status)
        if not self._live and now - self._printed >= _PLAIN_SECONDS:
            self._printed = now
            taken, done = now - self._begun[0], step - self._begun[1]
            left = f'  about {duration(taken / done * (self._total - step))} left' if done else ''
            self.say(f'  step {step:,}/{self._total:,}  {status}{left}')

    def header(self):
        """The head of the table of epochs."""
        self.say('  '.join(title.rjust(len(form.format_map(_Zero()))) for title, form in _COLUMNS))

    def epoch(self, row):
        """A line of the table of epochs, from a line of the log."""
        self.say('  '.join(form.format(**row) for _, form in _COLUMNS))


class _Zero(dict):
    def __missing__(self, key):
        return 0


def duration(seconds):
    """'1:02:03', or '2:03' below an hour."""
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f'{hours}:{minutes:02}:{seconds % 60:02}' if hours else f'{minutes}:{seconds % 60:02}'


def seconds_table(seconds):
    """Where every second went, one line, the largest first; what took none is left out."""
    parts = sorted(((v, k) for k, v in seconds.items() if v >= 0.05), reverse=True)
    return ', '.join(f'{purpose} {value:.1f}' for value, purpose in parts)
