"""`train.py --check`: can the run start, how long will it take, and what limits its speed? Nothing is written.

The run's own programs are compiled and run for a few seconds: the report is measured, not estimated.
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
from runtime.text import printable
from training import memory, series, trackers
from training import workdir as folders
from training.console import duration
from training.run import Run, check, test_batch_size

SECONDS = 3  # duration of each measurement
_SAMPLES = 8  # images of each split to read
_ROWS = 16  # batch size for timing the loader: small batches arrive evenly
_AHEAD = 3  # batches waiting on the device during a training step, see `loader.stream`


def check_run(config, workdir, say=print):
    """Check a run, or each run of a series.

    Args:
      config: the config of a run, or of a series (`configs/series.py`).
      workdir: the run's folder, which is neither created nor changed.
      say: prints a line.

    Returns:
      The expected duration in seconds.

    Raises:
      UserError: the data is missing or broken, the run does not fit in memory, or the folder contains another run.
    """
    if 'members' not in config:
        return _check_one(config, Path(workdir), say)
    total = 0.0
    for number, name in enumerate(config.order, start=1):
        member = series.member(config, name, Path(workdir))
        folder = Path(workdir) / name
        say(f'\n{number} of {len(config.order)}: {name}')
        if folders.is_finished(folder) and folders.contains_run_of(folder, member):
            say(f'already finished, in {folder}')
            continue
        if config.members[name].init_from in config.members:
            member.init_from = ''  # the weights of an earlier member, which may not exist yet
        try:
            total += _check_one(member, folder, say)
        except UserError as error:
            raise UserError(f'{name}: {error}') from None
        jax.clear_caches()
    say(f'\nall {len(config.order)}: {duration(total)}')
    return total


def _check_one(config, workdir, say):
    check(config)
    trackers.check(config.tracker)
    available = memory.available()  # before the data set is loaded
    devices = jax.devices()
    say(
        f'devices: {len(devices)} {devices[0].device_kind} ({jax.default_backend()}), '
        f'{_count(jax.process_count(), "process", "es")}'
    )
    run = Run(config)
    resumes = bool(folders.resume_point(workdir, run.source, run.test_source, config.on_bad_image))
    changes = folders.changes(workdir, config, has_checkpoint=resumes)
    for key, (before, after) in changes.items():
        say(f'note: {key} is {before!r} in {workdir} and changes to {after!r} at its last checkpoint')
    examples = _read_samples(run, say)
    with _memory_errors():
        train, test, compiling = _compile(run, workdir)
        _check_memory(run, train, test, available, say)
        rates = _network_rates(run, train, test, examples)
    say(
        f'network: {_rate(rates["train"])} in training, {_rate(rates["test"])} in a test '
        f'(compiled in {compiling:.0f} s)'
    )
    rates['input'] = _input_rate(run, say)
    return _report_time(run, rates, workdir, say)


def _read_samples(run, say):
    """Read a few images of each split with the loader; return those of the training split as a batch."""
    config, examples = run.config, None
    for split, source, form in (
        (config.test_split, run.test_source, run.test_form),
        (config.train_split, run.source, run.form),
    ):
        numbers = np.unique(np.linspace(0, len(source) - 1, _SAMPLES, dtype=np.int32))

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
        say(f'note: {printable(note)}')
    return examples


def _statistics(run, workdir):
    """Return the run's statistics of the data, or zeros if it has not measured them yet."""
    config = run.config
    if not _must_measure(run, workdir):
        return statistics.of_run(config, workdir)
    return statistics.blank(config)


def _must_measure(run, workdir):
    config = run.config
    return statistics.needed(config) and not config.statistics and not (workdir / statistics.NAME).exists()


def _compile(run, workdir):
    """Compile the run's programs; return (training step, test step, seconds)."""
    state, begin = run.abstract_state(), time.perf_counter()
    programs = run.compiled(_statistics(run, workdir), state)
    batch = run.abstract_batch(test_batch_size(run.config, run.mesh.size, len(run.test_source)))
    return programs.advance, programs.count.lower(state.deployed, batch).compile(), time.perf_counter() - begin


def _check_memory(run, train, test, available, say):
    """Compare the memory that the run needs on each device with the available memory.

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
    in_test = memory.of_program(test) + state - deployed + data + ahead  # the training state stays in memory
    parts = [f'the state {memory.text(state)}']
    parts += [f'the data set {memory.text(data)}'] if data else []
    parts += [f'prefetched batches {memory.text(ahead)}'] if ahead else []
    say(
        f'memory, each device: {memory.text(in_training)} in training ({", ".join(parts)}), {memory.text(in_test)} in '
        f'a test; available: {memory.text(available)}'
    )
    for phase, needed, key in (('training step', in_training, 'batch_size'), ('test', in_test, 'test_batch_size')):
        if needed > available:
            alternative = ', or --config.accumulate=PARTS' if key == 'batch_size' else ''
            raise UserError(
                f'does not fit in memory: a {phase} needs {memory.text(needed)} on each device, and '
                f'{memory.text(available)} are available; set --config.{key} below {run.config[key]}{alternative}'
            )


def _bytes(tree):
    """Return the bytes of a tree of arrays on each device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


@contextlib.contextmanager
def _memory_errors():
    """Turn an accelerator's error that its memory is too small into a UserError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise UserError(
            'does not fit in memory: the device has no memory left for this step; set a smaller --config.batch_size, '
            'or --config.accumulate=PARTS'
        ) from None


def _network_rates(run, train, test, examples):
    """Return the images per second of the compiled steps, for batches on the devices."""
    state, first = run.first_state(), 0 if run.resident else run.total_steps - 1  # a stream of one batch is enough
    with contextlib.closing(run.batches(first, lambda at: run.total_steps)) as batches:
        end, batch = next(batches)

    def advance():
        nonlocal state
        state = train(state, *batch)
        jax.device_get(state.window)

    seconds = {'train': _seconds(advance)}
    size = test_batch_size(run.config, run.mesh.size, len(run.test_source))
    images = {key: np.resize(x, (size, *x.shape[1:])) for key, x in examples.items()}
    images = mesh.put(images, run.batch_sharding)
    seconds['test'] = _seconds(lambda: jax.device_get(test(state.deployed, images)))
    return {'train': (end - first) * run.config.batch_size / seconds['train'], 'test': size / seconds['test']}


def _seconds(call):
    """Return the mean duration of a call over `SECONDS`, without the first call unless it alone takes as long."""
    begin = time.perf_counter()
    call()
    first, calls, begin = time.perf_counter() - begin, 0, time.perf_counter()
    if first >= SECONDS:
        return first
    while time.perf_counter() - begin < SECONDS:
        call()
        calls += 1
    return (time.perf_counter() - begin) / calls


def _input_rate(run, say):
    """Return the images per second that all hosts load, infinity if the data is stored on the device."""
    if run.resident:
        say('input: the data is stored on the device')
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
    say(f'input: {_rate(_ROWS / seconds)} from this host' + (f', one of {hosts}' if hosts > 1 else ''))
    return hosts * _ROWS / seconds


def _report_time(run, rates, workdir, say):
    """Report how long an epoch and the run take and what limits them; return the run's seconds."""
    config = run.config
    # Input and network overlap on an accelerator; on the CPU they compete for the same cores.
    combined = _in_turn if jax.default_backend() == 'cpu' else min
    training, testing = (combined(rates['input'], rates[phase]) for phase in ('train', 'test'))
    epoch, test = run.num_examples / training, len(run.test_source) / testing
    seconds = run.total_steps * config.batch_size / training
    epochs = math.ceil(run.total_steps * config.batch_size / run.num_examples)
    seconds += epochs * test
    if _must_measure(run, workdir):
        measuring = run.num_examples / rates['input']
        seconds += measuring
        say(f'before training: measuring the images, {duration(measuring)}')
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
    """Return the rate of two processes that take turns."""
    return 1 / (1 / a + 1 / b)


def _rate(images_per_second):
    return f'{images_per_second:,.{0 if images_per_second >= 10 else 1}f} images/s'


def _count(number, noun, plural='s'):
    return f'{number:,} {noun}{plural if number != 1 else ""}'
