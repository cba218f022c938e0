"""`train.py --check`: can the run go, how long will it take, and what will it wait for? Nothing is written.

The very programs of the run are compiled, and run for a few seconds: what it says is measured, not reckoned.
"""

import contextlib
import math
import time
from pathlib import Path

import jax
import numpy as np

from input_pipeline import loader, statistics
from runtime import mesh
from runtime.errors import UserError
from training import loop, memory, series
from training import workdir as folders
from training.console import duration
from training.run import Run, check, test_batch_size

SECONDS = 3  # of each measurement
_HANDFUL = 8  # images of each split that are looked at
_ROWS = 16  # a batch, where the loader is timed: small ones come evenly
_AHEAD = 3  # batches that wait on the device while another is trained on: `loader.stream`


def look(config, workdir, say=print):
    """Checks a run, or each of a series.

    Args:
      config: of the run, or of a series (`configs/series.py`).
      workdir: its folder; neither made nor changed.
      say: prints a line.

    Returns:
      The expected seconds.

    Raises:
      UserError: it cannot run: its data is missing or broken, it does not fit in memory, the folder is another run's.
    """
    if 'members' not in config:
        return _look_at_run(config, Path(workdir), say)
    total = 0.0
    for number, name in enumerate(config.order, start=1):
        member = series.member(config, name, Path(workdir))
        here = Path(workdir) / name
        say(f'\n{number} of {len(config.order)}: {name}')
        if loop.is_finished(here) and folders.holds(here, member):
            say(f'finished before, in {here}')
            continue
        if config.members[name].init_from in config.members:
            member.init_from = ''  # the weights of a member before it, which need not be there yet
        try:
            total += _look_at_run(member, here, say)
        except UserError as error:
            raise UserError(f'{name}: {error}') from None
        jax.clear_caches()
    say(f'\nall {len(config.order)}: {duration(total)}')
    return total


def _look_at_run(config, workdir, say):
    check(config)
    there = memory.available()  # before the data takes its part
    devices = jax.devices()
    say(
        f'devices: {len(devices)} {devices[0].device_kind} ({jax.default_backend()}), '
        f'{_count(jax.process_count(), "process", "es")}'
    )
    run = Run(config)
    changes = folders.changes(workdir, config, begun=bool(folders.resume_point(workdir, run.source)))
    for key, (before, after) in changes.items():
        say(f'note: {key} is {before!r} in {workdir}, and will be {after!r} from its last checkpoint on')
    examples = _look_at_data(run, say)
    with _memory_is_the_users():
        train, test, compiling = _compile(run, workdir)
        _look_at_memory(run, train, test, there, say)
        rates = _network_rates(run, train, test, examples)
    say(
        f'network: {_rate(rates["train"])} in training, {_rate(rates["test"])} in a test '
        f'(compiled in {compiling:.0f} s)'
    )
    rates['input'] = _look_at_input(run, say)
    return _look_at_time(run, rates, workdir, say)


def _look_at_data(run, say):
    """Reads a few images of each split by the loader; returns a batch of them."""
    config, examples = run.config, None
    for split, source, form in (
        (config.test_split, run.test_source, run.test_form),
        (config.train_split, run.source, run.form),
    ):
        numbers = np.unique(np.linspace(0, len(source) - 1, _HANDFUL, dtype=np.int32))

        def order(start, stop, numbers=numbers):
            return numbers[start:stop], np.zeros(stop - start, np.int32)

        batches = loader.stream(
            source, form, order, 1, len(numbers), seed=run.pixels.seed,
            on_bad_image=config.on_bad_image, replace=False,
        )  # fmt: skip
        (examples,) = batches
        if examples['bad'].all():
            raise UserError(f'{source.name}: none of {len(numbers)} images of the split {split!r} can be read')
        bad = f', {examples["bad"].sum()} of them broken' if examples['bad'].any() else ''
        say(f'data: {config.dataset}, {split}: {_count(len(source), "image")}, {len(numbers)} read{bad}')
    for note in dict.fromkeys((*run.source.notes, *run.test_source.notes)):
        say(f'note: {note}')
    return examples


def _statistics(run, workdir):
    """Those of the run; zeros of their shapes where it has yet to measure them."""
    config = run.config
    if not _must_measure(run, workdir):
        return statistics.of_run(config, workdir)
    return statistics.blank(config)


def _must_measure(run, workdir):
    config = run.config
    return statistics.needed(config) and not config.statistics and not (workdir / statistics.NAME).exists()


def _compile(run, workdir):
    """(the training step, the test step, seconds): the programs of the run."""
    state, begin = run.abstract_state(), time.perf_counter()
    programs = run.compiled(_statistics(run, workdir), state)
    batch = run.abstract_batch(test_batch_size(run.config, run.mesh.size))
    return programs.advance, programs.count.lower(state.deployed, batch).compile(), time.perf_counter() - begin


def _look_at_memory(run, train, test, there, say):
    """Compares what the run needs on a device with what there is.

    Raises:
      UserError: it does not fit.
    """
    state, deployed = _bytes(run.abstract_state()), _bytes(run.abstract_state().deployed)
    data = _bytes(run.data) if run.resident else 0
    ahead = (
        0
        if run.resident
        else _AHEAD * run.config.batch_size * run.form.size**2 * run.form.channels // run.mesh.shape['data']
    )
    in_training = memory.of_program(train) + ahead
    in_test = memory.of_program(test) + state - deployed + data + ahead  # all that training holds stays there
    parts = [f'the state {memory.text(state)}']
    parts += [f'the data set {memory.text(data)}'] if data else []
    parts += [f'batches made ahead {memory.text(ahead)}'] if ahead else []
    say(
        f'memory, each device: {memory.text(in_training)} in training ({", ".join(parts)}), {memory.text(in_test)} in '
        f'a test; there are {memory.text(there)}'
    )
    for what, needed, key in (('training step', in_training, 'batch_size'), ('test', in_test, 'test_batch_size')):
        if needed > there:
            parts = ', or --config.accumulate=PARTS' if key == 'batch_size' else ''
            raise UserError(
                f'does not fit in memory: a {what} needs {memory.text(needed)} on each device, and there are '
                f'{memory.text(there)}; take a --config.{key} below {run.config[key]}{parts}'
            )


def _bytes(tree):
    """Of arrays, on each device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


@contextlib.contextmanager
def _memory_is_the_users():
    """An accelerator may find only as it compiles or runs that its memory is too small."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise UserError(
            'does not fit in memory: the device has none left for this step; take a smaller --config.batch_size, or '
            '--config.accumulate=PARTS'
        ) from None


def _network_rates(run, train, test, examples):
    """Images a second of the compiled steps, on batches that lie on the devices."""
    state, first = run.first_state(), 0 if run.resident else run.total_steps - 1  # of a stream its last, which is one
    with contextlib.closing(run.batches(first, lambda at: run.total_steps)) as batches:
        end, batch = next(batches)

    def advance():
        nonlocal state
        state = train(state, *batch)
        jax.device_get(state.window)

    seconds = {'train': _seconds(advance)}
    size = test_batch_size(run.config, run.mesh.size)
    images = {key: np.resize(x, (size, *x.shape[1:])) for key, x in examples.items()}
    images = mesh.put(images, run.batch_sharding)
    seconds['test'] = _seconds(lambda: jax.device_get(test(state.deployed, images)))
    return {'train': (end - first) * run.config.batch_size / seconds['train'], 'test': size / seconds['test']}


def _seconds(call):
    """Of a call, the mean over `SECONDS`. The first warms up, and counts where it alone takes as long."""
    begin = time.perf_counter()
    call()
    first, calls, begin = time.perf_counter() - begin, 0, time.perf_counter()
    if first >= SECONDS:
        return first
    while time.perf_counter() - begin < SECONDS:
        call()
        calls += 1
    return (time.perf_counter() - begin) / calls


def _look_at_input(run, say):
    """Images a second that all hosts make, or infinity where the device holds them."""
    if run.resident:
        say('input: the data lies on the device')
        return math.inf
    config, hosts = run.config, jax.process_count()
    batches = loader.stream(
        run.source, run.form, run.pixels.order, 10**6, _ROWS * hosts,
        part=(jax.process_index(), hosts), seed=run.pixels.seed, on_bad_image=config.on_bad_image,
        workers=config.workers,
    )  # fmt: skip
    with contextlib.closing(batches):
        next(batches)
        seconds = _seconds(lambda: next(batches))
    say(f'input: {_rate(_ROWS / seconds)} from this host' + (f', of {hosts}' if hosts > 1 else ''))
    return hosts * _ROWS / seconds


def _look_at_time(run, rates, workdir, say):
    """Says how long an epoch and the run take and what they wait for; returns the run's seconds."""
    config = run.config
    # The input works while an accelerator does; on the CPU both want the same cores, one after the other.
    together = _in_turn if jax.default_backend() == 'cpu' else min
    training, testing = (together(rates['input'], rates[phase]) for phase in ('train', 'test'))
    epoch, test = run.num_examples / training, len(run.test_source) / testing
    seconds = run.total_steps * config.batch_size / training
    epochs = math.ceil(run.total_steps * config.batch_size / run.num_examples)
    seconds += epochs * test
    if _must_measure(run, workdir):
        measuring = run.num_examples / rates['input']
        seconds += measuring
        say(f'first the run measures its images once, {duration(measuring)}')
    at_most = 'at most ' if config.schedule == 'plateau' else ''
    say(
        f'time: an epoch {duration(epoch + test)} (its test {duration(test)}), the run of {run.total_steps:,} steps '
        f'{at_most}{duration(seconds)}'
    )
    if rates['input'] < rates['train']:
        say(f'limit: the input, {rates["train"] / rates["input"]:.1f} times slower than the network')
    else:
        slower = '' if run.resident else f', {rates["input"] / rates["train"]:.1f} times slower than the input'
        say(f'limit: the network{slower}')
    return seconds


def _in_turn(a, b):
    return 1 / (1 / a + 1 / b)


def _rate(images_per_second):
    return f'{images_per_second:,.{0 if images_per_second >= 10 else 1}f} images/s'


def _count(number, noun, plural='s'):
    return f'{number:,} {noun}{plural if number != 1 else ""}'
