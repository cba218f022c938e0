"""The output of a run: a live line on a terminal or plain lines in a file, a table of epochs, a summary."""

import contextlib
import time

import jax
import numpy as np
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from input_pipeline.progress import Intervals, console
from runtime.text import duration, printable
from training import memory

_COLUMNS = (
    ('epoch', '{epoch:>5}'),
    ('step', '{step:>9,}'),
    ('rate', '{learning_rate:>8.2g}'),
    ('train loss', '{train_loss:>10.4f}'),
    ('train err %', '{train_error:>11.2f}'),
    ('test loss', '{test_loss:>9.4f}'),
    ('test err %', '{test_top1_error:>10.2f}'),
)
_CLASSES = 20  # of a user's own images, that are listed
_IMBALANCED = 3  # how many times as many images the largest class has as the smallest


class _Status(ProgressColumn):
    """What the run does, and for how long if it counts no steps yet."""

    def render(self, task):
        since = task.fields['since']
        return Text(task.fields['status'] + (f', {duration(time.monotonic() - since)}' if since else ''))


class Display:
    """The progress of a run of `total_steps`, a context manager. Of several processes, all but one are `quiet`."""

    def __init__(self, total_steps, quiet=False):
        self.console = console(markup=False, emoji=False, quiet=quiet)
        self._live = self.console.is_terminal
        self.console.soft_wrap = not self._live  # a terminal's lines are broken between words
        self._progress = Progress(
            TextColumn('step {task.completed:,.0f}/{task.total:,.0f}'),
            BarColumn(10 if self.console.width < 100 else 40),
            TextColumn('{task.percentage:>3.0f}% '),
            _Status(),
            TextColumn(' left'),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._progress.add_task('', total=total_steps, status='', since=None)
        self._total, self._intervals, self._start = total_steps, Intervals(), None

    def __enter__(self):
        self._progress.start()
        return self

    def __exit__(self, *_):
        self._progress.stop()

    def say(self, text):
        """Print a line above the live one."""
        self.console.print(printable(text))

    @contextlib.contextmanager
    def compiling(self):
        """Show that the run compiles its programs, inside the `with`, and then how long that took."""
        begin = time.monotonic()
        self._progress.update(self._task, status='compiling', since=begin)
        yield
        self._progress.update(self._task, status='', since=None)
        self.say(f'  compiled in {time.monotonic() - begin:.0f} s')

    def advance(self, step, images_per_second, loss):
        """Show the progress."""
        now = time.monotonic()
        self._start = self._start or (now, step)
        status = f'{images_per_second:,.0f} images/s  loss {loss:.4f}'
        self._progress.update(self._task, completed=step, status=status)
        if not self._live and self._intervals.are_over():
            seconds, steps = now - self._start[0], step - self._start[1]
            left = f'  about {duration(seconds / steps * (self._total - step))} left' if steps else ''
            self.say(f'  step {step:,}/{self._total:,}  {status}{left}')

    def header(self):
        """Print the header of the table of epochs."""
        self.say('  '.join(title.rjust(len(form.format_map(_Zero()))) for title, form in _COLUMNS))

    def epoch(self, row):
        """Print a row of the log as a row of the table of epochs."""
        self.say('  '.join(form.format(**row) for _, form in _COLUMNS))


class _Zero(dict):
    def __missing__(self, key):
        return 0


def seconds_table(seconds):
    """Format {purpose: seconds} in one line, in descending order, without purposes that took no time."""
    parts = sorted(((v, k) for k, v in seconds.items() if v >= 0.05), reverse=True)
    return ', '.join(f'{purpose} {value:.1f}' for value, purpose in parts)


def describe(loop):
    """Print a description of the run that is about to start, a `training.loop.Loop`."""
    run, say, at = loop.run, loop.display.say, loop.at
    config = run.config
    parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(run.initial_state).params))
    say(
        f'data: {config.dataset}, {run.num_examples:,} training and {len(run.test_source):,} test images, '
        f'{config.num_classes:,} classes, {"on the device" if run.resident else "streamed"}'
    )
    for line in class_lines(config, run.source, run.test_source):
        say(line)
    if config.batch_size > run.num_examples:
        say(
            f'warning: a batch has {config.batch_size:,} images, and the data set only {run.num_examples:,}: pass '
            '--config.batch_size=N'
        )
    size = config.image_size
    say(f'model: {config.architecture}, {parameters:,} parameters, images of {size}x{size}')
    device = run.mesh.devices.flat[0]
    several = f' of {jax.process_count()} processes' if jax.process_count() > 1 else ''
    steps = f'{run.total_steps:,} step{"s" * (run.total_steps != 1)}'
    images = f'{config.batch_size:,} image{"s" * (config.batch_size != 1)}'
    say(
        f'run: {steps} of {images}, {config.optimizer}, seed {config.seed}, on {run.mesh.size} {device.device_kind} '
        f'device{"s" * (run.mesh.size > 1)}{several}, in {loop.workdir}'
    )
    if loop.log.tracker:
        say(f'tracker: {config.tracker}, run {loop.log.tracker.run_id}, in {loop.log.tracker.where}')
    if config.mesh.model > 1:
        sharded = sum(not sharding.is_fully_replicated for sharding in jax.tree.leaves(run.state_sharding.params))
        say(f'{sharded} large parameters and their momentum are sharded over {config.mesh.model} devices')
    if config.scale_lr:
        say(
            f'learning rates: multiplied by {run.scale:g}, for a batch of {config.batch_size} instead of the '
            f"recipe's {config.reference_batch_size}"
        )
    if config.accumulate > 1:
        say(f'each batch goes through the network in {config.accumulate} parts')
    for note in run.initial_weights.notes if run.initial_weights else ():
        say(note)
    if run.finished(at, loop.controller):
        say('nothing to do: this run is finished')
    elif at >= run.total_steps:
        say(f'nothing to do: stop_at_step={config.stop_at_step} is reached; raise it to resume')
    elif at:
        epoch, example = divmod(run.position(at), run.num_examples)
        say(f'resuming at step {at:,}: example {example:,} of epoch {epoch + 1}')
    for note in dict.fromkeys((*run.source.notes, *run.test_source.notes)):
        say(f'note: {note}')


def class_lines(config, source, test_source):
    """Return lines on the classes of a user's own images: their names, how many images they have, and what is odd."""
    labels, test_labels = getattr(source, 'labels', None), getattr(test_source, 'labels', None)
    if config.dataset not in ('folder', 'flat') or labels is None or test_labels is None:
        return []
    names = source.class_names
    counts, tests = (np.bincount(each, minlength=len(names)) for each in (labels, test_labels))
    listed = [f'{name} {count:,} + {test:,}' for name, count, test in zip(names, counts, tests, strict=True)]
    more = f' and {len(names) - _CLASSES:,} more' if len(names) > _CLASSES else ''
    lines = [f'classes (training + test images): {", ".join(listed[:_CLASSES])}{more}']
    most, least = np.argmax(counts), np.argmin(counts)
    if counts[most] >= _IMBALANCED * counts[least]:
        share = 100 * (1 - tests[most] / max(tests.sum(), 1))
        lines.append(
            f'warning: {names[most]} has {counts[most]:,} training images and {names[least]} {counts[least]:,}: '
            f'answering {names[most]} to every test image is an error of {share:.2f}%'
        )
    if untested := [name for name, test in zip(names, tests, strict=True) if not test]:
        lines.append(f'warning: no test images of {", ".join(untested[:_CLASSES])}')
    return lines


def summarize(loop):
    """Print how a run ended and what its time was spent on."""
    run, say, at, clock = loop.run, loop.display.say, loop.at, loop.clock
    finished = next((row['time'] for row in reversed(loop.log.rows) if row['kind'] == 'finished'), {})
    last, best = loop.log.last_epoch(), loop.log.best_epoch()
    say(f'{"finished" if run.finished(at, loop.controller) else "stopped by stop_at_step"} at step {at:,}')
    if last:
        say(
            f'test error: {last["test_top1_error"]:.2f}% at step {last["step"]:,} ({last["test_wrong_top1"]} of '
            f'{last["test_num_examples"]:,} wrong); the best was {best["test_top1_error"]:.2f}% at step '
            f'{best["step"]:,} (epoch {best["epoch"]:g})'
        )
        if 'moving_test_top1_error' in last:
            say(
                f"batch norm's statistics were recomputed over {run.config.recompute_batch_stats} batches; with its "
                f'moving averages the test error is {last["moving_test_top1_error"]:.2f}%'
            )
        for split, effect in (('train', 'replaced in'), ('test', 'left out of')):
            if f'{split}_bad_images' in last:
                say(f'{effect} {split} in the last epoch: {last[f"{split}_bad_images"]} images that cannot be read')
    seconds = finished.get('seconds') or clock.seconds()
    if seconds['step'] > 0:
        images = run.position(at)
        say(f'throughput: {images / seconds["step"]:,.0f} images/s in the training step')
    say(f'seconds, restarts included: {sum(seconds.values()):.1f} = {seconds_table(seconds)}')
    if loop.programs:
        peak, owner = memory.peak()
        say(f'peak memory: {memory.text(peak)} of the {owner}')
    say(f'results: {loop.workdir}')
