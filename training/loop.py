"""The loop: it counts, logs, evaluates, saves, stops. The only impure file of this room."""

import contextlib
import functools
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline import classes, datasets, loader, statistics
from runtime import distributed, interrupts, mesh
from runtime.errors import UserError
from training import checkpoints, console, controllers, memory, profile, stall, transfer
from training.clock import Clock
from training.log import RunLog, read
from training.metrics import count_split
from training.run import Run, check
from training.state import add_totals, nonfinite_step, zero_totals
from training.workdir import claimed, is_finished, open_place, send, write_config


class Interrupted(Exception):
    """A signal ended the run after its state was saved; `signal` is its number."""

    def __init__(self, number):
        super().__init__(f'signal {number}')
        self.signal = number


def train(config, workdir, started=None):
    """Trains what the config says in `workdir`, from its last checkpoint where there is one.

    Args:
      config: an ml_collections config with the keys of `configs/base.py`.
      workdir: the run's folder; it will hold config.json, metrics.jsonl, TensorBoard events and checkpoints/.
      started: `time.time()` of the process's start, for the account of time.

    Returns:
      The last epoch's line of the log (`log.RunLog`), or None where no epoch was finished.

    Raises:
      UserError: something the user can mend; the workdir keeps what it held.
      Interrupted: SIGTERM or Ctrl-C; the state was saved.
    """
    clock = Clock(started or time.time())
    check(config)
    workdir, place = open_place(workdir)
    splits = datasets.open_splits(config)
    run = Run(config, splits=splits, **resume_point(place, splits[0]))
    with contextlib.ExitStack() as stack:
        changes = {}
        with distributed.Together() as first:
            if first:
                changes = stack.enter_context(claimed(workdir, config, begun=run.start != (0, 0)))
                _check_length(run, changes)
                statistics.of_run(config, workdir, run.source)
        measured = statistics.of_run(config, workdir)
        copy = functools.partial(send, workdir, place) if distributed.is_first() else lambda: None
        kept = stack.enter_context(checkpoints.Checkpoints(place / checkpoints.FOLDER, after_save=copy))
        current, log = _begin(run, workdir, kept, clock)
        stack.callback(log.close)
        stop = stack.enter_context(_Signals())
        display = stack.enter_context(console.Display(run.total_steps, quiet=not distributed.is_first()))
        trace = stack.enter_context(profile.Trace(config.profile_steps, workdir, display.say))
        at, controller = int(current.step), jax.device_get(current.controller)
        run.describe(display, workdir, at, controller)
        for key, (there, here) in changes.items():
            decision = f'{key} is {here!r} from here on, by hand; it was {there!r}'
            _decide(log, display, clock, at, decision, float(run.rate(at, controller)), by_hand=key)
        if changes:
            write_config(workdir, config)
        clock.start_up_ends()
        if (at < run.total_steps and not run.finished(at, controller)) or _untested(run, log, at):
            current = _epochs(run, measured, current, kept, log, display, clock, stop, trace, stack)
        with clock.time('checkpoint'):
            kept.wait()
        at, controller = int(current.step), jax.device_get(current.controller)
        if run.finished(at, controller) and not is_finished(workdir):
            log.write('finished', at, {'total': clock.total()})
        copy()
        _summary(run, workdir, log, display, clock, at, controller)
        return log.last_epoch()


def _check_length(run, changes):
    """Raises UserError where a run would end, by a change, at a step that it has passed."""
    key = next((key for key in ('steps', 'num_epochs') if key in changes), None)
    if key and run.start[0] >= run.last_step:
        raise UserError(
            f'{key}={run.config[key]:g} ends at step {run.last_step:,}, and the run is at step {run.start[0]:,}: take '
            f'a larger one, or the old {changes[key][0]:g} to resume'
        )


def resume_point(place, source):
    """What `Run` takes of the last checkpoint: its `start` and `average_start`; {} where there is none.

    Args:
      place: of the checkpoints' folder.
      source: the training images; among others the next example would be another.

    Raises:
      UserError: the run was on other images, by their number, or on other classes, by their names.
    """
    if not (place / checkpoints.FOLDER).is_dir():
        return {}
    with checkpoints.Checkpoints(place / checkpoints.FOLDER, read_only=True) as kept:
        latest = kept.latest()
        if latest is None:
            return {}
        info, images = kept.info(latest), len(source)
        if info.get('training_images', images) != images:
            raise UserError(
                f'{place} holds a run on {info["training_images"]:,} training images, and here are {images:,}; pass '
                'its data to resume, or another --workdir'
            )
        names = classes.told(source)
        there = info.get('class_names', names)
        if not classes.are_same(names, there):
            raise UserError(
                f'{place} holds a run on other classes: {classes.first_difference(there, names)} here; pass its data '
                'to resume, or another --workdir'
            )
        return {'start': (latest, info['examples_seen']), 'average_start': info.get('average_start')}


def _begin(run, workdir, kept, clock):
    """The state and the log to go on from."""
    latest, rows, writes = kept.latest(), read(workdir), distributed.is_first()
    distributed.largest(0)  # the first process writes on when all have read
    if latest is None:
        with clock.time('compile'):
            current = jax.jit(run.initial_state, out_shardings=run.lies)()
            saved = {'clock': {}, 'epoch_is_closed': False}
        if run.inherited:
            current = current.replace(**transfer.apply(run.inherited, current.variables))
    else:
        with clock.time('checkpoint'):
            saved = kept.info(latest)
            current = kept.restore(run.abstract_state(), latest)
    if rows:
        clock.resume(saved['clock'], max(row['time']['total'] for row in rows))
        log = RunLog(workdir, rows, latest or 0, {'total': clock.total()}, saved['epoch_is_closed'], writes)
    else:
        log = RunLog(workdir, writes=writes)
    if latest is None and run.inherited:
        notes = {'from': run.config.init_from, 'copied': run.inherited.copied, 'left': run.inherited.left}
        log.write('inherited', 0, {'total': clock.total()}, **notes)
    return current, log


def _epochs(run, measured, current, kept, log, display, clock, stop, trace, stack):
    """Trains from the state's step to the last; returns the last state."""
    config = run.config
    at = int(current.step)
    display.header()
    with clock.time('compile'):
        programs = run.compiled(measured, current)
    batches = None
    epoch_ends = run.epoch_ends
    controller, over = jax.device_get(current.controller), False
    window_began, window_step, waited = time.perf_counter(), at, clock.seconds()['input']

    if _untested(run, log, at):  # the run was stopped between the two
        current, over = _end_epoch(run, programs, current, epoch_ends[at], kept, log, display, clock, stop)
    while at < run.total_steps and not over:
        trace.reached(at)
        if config.optimizer == 'sdlm' and (at == 0 or at in epoch_ends):  # before each pass
            with clock.time('step'):
                samples, _ = run.order(at, at + -(-config.sdlm_samples // config.batch_size))
                samples = samples[: config.sdlm_samples]
                current = programs.refresh_curvature(current, *run.data, mesh.put(samples, run.whole))
        until = min(
            [at + run.per_dispatch, run.total_steps, _next(at, config.log_every_steps), *trace.bounds(at)]
            + [end for end in epoch_ends if end > at][:1]
            + ([_next(at, config.checkpoint_every_steps)] if config.checkpoint_every_steps else [])
        )
        if run.resident:
            with clock.time('input'):
                order = np.zeros((2, run.per_dispatch * config.batch_size), np.int32)
                order[:, : (until - at) * config.batch_size] = run.order(at, until)
            with clock.time('step'):
                current = programs.advance(current, *run.data, mesh.put(order, run.whole), until - at)
        else:
            with clock.time('input'):
                if batches is None:
                    batches = run.stream(at)
                    stack.callback(batches.close)
                batch = next(batches)
            with clock.time('step'):
                current = programs.advance(current, batch)
        at = until
        with clock.time('step'):
            window, before, controller = jax.device_get((current.window, controller, current.controller))
            stop.agree()
        if nonfinite_step(window) is not None:
            raise _diverged(run, kept, nonfinite_step(window), before)
        if _warm(before) != _warm(controller):
            error = f'the training error is below {config.warmup.until_error:g}%'
            _decide(log, display, clock, at, f'the warm-up is over: {error}', float(run.rate(at, controller)))
        seconds = time.perf_counter() - window_began
        rate = config.batch_size * (at - window_step) / seconds
        display.advance(at, rate, float(window['loss']) / max(int(window['count']), 1))
        if at % config.log_every_steps == 0 or at in epoch_ends or at == run.total_steps:
            log.write(
                'train',
                at,
                {
                    'total': clock.total(),
                    'images_per_second': rate,
                    'data_wait': (clock.seconds()['input'] - waited) / seconds,  # the share of the time
                },
                learning_rate=float(run.rate(at - 1, before)),
                **_means(window),
            )
            current = _close_window(current)
            _look_for_stall(run, programs, current, log, display, clock)
            window_began, window_step, waited = time.perf_counter(), at, clock.seconds()['input']
        if at in epoch_ends and not stop.agreed:
            current, over = _end_epoch(run, programs, current, epoch_ends[at], kept, log, display, clock, stop)
            window_began, controller = time.perf_counter(), jax.device_get(current.controller)
        elif (
            stop.agreed
            or at == run.total_steps
            or (config.checkpoint_every_steps and at % config.checkpoint_every_steps == 0)
        ):
            _save(run, current, kept, log, clock)
        if stop.agreed:
            with clock.time('checkpoint'):
                kept.wait()
            name = signal.Signals(stop.agreed).name
            display.say(f'stopped by {name}; saved at step {int(current.step):,}. The same command resumes.')
            raise Interrupted(stop.agreed)
    return current


def _untested(run, log, at):
    """Whether an epoch ends at this step and its test is not in the log."""
    return at in run.epoch_ends and not any(row['kind'] == 'epoch' and row['step'] == at for row in log.rows)


def _next(at, every):
    return (at // every + 1) * every


@functools.partial(jax.jit, donate_argnums=0)
def _close_window(current):
    """Adds the window's sums to the epoch's and begins a new one."""
    return current.replace(epoch=add_totals(current.epoch, current.window), window=zero_totals())


def _means(sums):
    count = max(int(sums['count']), 1)
    means = {'loss': float(sums['loss']) / count, 'error': 100 * int(sums['wrong']) / count}
    return means | ({'bad_images': int(sums['skipped'])} if sums['skipped'] else {})


def _end_epoch(run, programs, current, epoch, kept, log, display, clock, stop):
    """Evaluates, logs and saves at the end of an epoch; unless a signal comes, then it leaves that to the next run.

    Returns the state, and whether the run is over.
    """
    config, at, controller = run.config, int(current.step), jax.device_get(current.controller)
    moving = result = _test(run, programs.count, current.deployed, clock, stop)
    if result is None:
        _save(run, current, kept, log, clock)
        return current, False
    means = {f'train_{key}': value for key, value in _means(jax.device_get(current.epoch)).items()}
    tested = {f'test_{key}': value for key, value in result.items()}
    rate = float(run.rate(at - 1, controller))
    controller, dropped = controllers.after_epoch(controller, (means | tested)[config.plateau.metric], config.plateau)
    over = run.finished(at, controller)
    if over and config.recompute_batch_stats and current.batch_stats:
        with clock.time('evaluate'):
            current = current.with_batch_stats(programs.batch_stats(current.deployed))
        result = _test(run, programs.count, current.deployed, clock, stop)
        if result is None:  # to be done again, from the last checkpoint
            return current, False
        tested = {f'test_{key}': value for key, value in result.items()}
        tested |= {f'moving_test_{key}': value for key, value in moving.items()}
    log.write(
        'epoch',
        at,
        {'total': clock.total()},
        epoch=epoch,
        learning_rate=rate,
        **means,
        order_digest=int(current.order_digest),
        **tested,
    )
    display.epoch(log.rows[-1])
    if dropped:
        number, rule = int(controller['plateau']['drops']), config.plateau
        stopped = f'{rule.metric} has gained less than {rule.threshold:g} in {rule.patience} epochs'
        what = f'drop {number} of {rule.drops}' if number <= rule.drops else 'the run ends'
        _decide(log, display, clock, at, f'{stopped}: {what}', float(run.rate(at, controller)))
    current = current.replace(epoch=mesh.put(zero_totals(), run.whole), controller=mesh.put(controller, run.whole))
    _save(run, current, kept, log, clock, result['top1_error'], epoch_is_closed=True)
    return current, over


def _test(run, count, variables, clock, stop):
    """Errors of the test split, or None where a signal came."""
    with clock.time('evaluate'):
        return count_split(count, variables, run.test_batches(), run.cut, stop.agree)


def _warm(controller):
    return 'warmup' in controller and bool(controller['warmup']['over'])


def _decide(log, display, clock, at, decision, rate, **values):
    """Logs and prints what a controller, or a hand, decided."""
    log.write('decision', at, {'total': clock.total()}, decision=decision, learning_rate=rate, **values)
    display.say(f'  step {at:,}: {decision}; learning rate {rate:g}')


def _look_for_stall(run, programs, current, log, display, clock):
    """Warns once of a run that does not learn."""
    steps = run.config.stall_steps
    if not steps or any(row['kind'] == 'warning' for row in log.rows):
        return
    symptom = stall.symptom(log.rows, steps, run.config.num_classes)
    first_look = stall.first_look(log.rows, steps)
    if not symptom and not first_look:
        return
    with clock.time('evaluate'):
        with contextlib.closing(run.test_batches()) as batches:
            batch = loader.to_device(run.cut)(next(batches))
        dead = stall.dead_layers(programs.active(current.variables, batch))
    if symptom or dead:
        warning = stall.warning(symptom, dead, run.config.architecture)
        log.write('warning', int(current.step), {'total': clock.total()}, warning=warning)
        display.say(f'  warning: step {int(current.step):,}: {warning}')


def _save(run, current, kept, log, clock, top1_error=None, epoch_is_closed=False):
    with clock.time('checkpoint'):
        if not _all_finite(current.params):
            raise _diverged(run, kept, int(current.step) - 1, jax.device_get(current.controller))
        info = {
            **checkpoints.describe(run.config, classes.told(run.source)),
            'examples_seen': run.position(int(current.step)),
            'average_start': run.average_start,
            'training_images': len(run.source),
            'clock': clock.seconds(),
            'epoch_is_closed': epoch_is_closed,
        }
        kept.save(current, info, top1_error)


@jax.jit
def _all_finite(tree):
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


def _diverged(run, kept, at, controller):
    rate = float(run.rate(at, controller))
    good = kept.latest()
    keeps = f'the last good checkpoint is step {good}' if good else 'there was no checkpoint yet'
    key = 'learning_rates' if run.config.schedule == 'steps' else 'learning_rate'
    if run.warmup.learning_rate and not _warm(controller):
        key = 'warmup.learning_rate'
    onwards = 'resume from there, or use another --workdir to start again' if good else 'start again'
    return UserError(
        f'the loss is no longer a finite number at step {at:,} (learning rate {rate:g}); stopped, {keeps} in '
        f'{kept.folder}. Lower --config.{key} to {onwards}'
    )


def _summary(run, workdir, log, display, clock, at, controller):
    last, best = log.last_epoch(), log.best_epoch()
    display.say(f'{"finished" if run.finished(at, controller) else "stopped as told"} at step {at:,}')
    if last:
        display.say(
            f'test error: {last["test_top1_error"]:.2f}% at step {last["step"]:,} ({last["test_wrong_top1"]} of '
            f'{last["test_num_examples"]:,} wrong); the best was {best["test_top1_error"]:.2f}% at step '
            f'{best["step"]:,} (epoch {best["epoch"]:g})'
        )
        if 'moving_test_top1_error' in last:
            display.say(
                f'with batch norm measured anew over {run.config.recompute_batch_stats} batches; with its moving '
                f'averages the test error is {last["moving_test_top1_error"]:.2f}%'
            )
        for split, what in (('train', 'replaced in'), ('test', 'left out of')):
            if f'{split}_bad_images' in last:
                display.say(
                    f'{what} {split} in the last epoch: {last[f"{split}_bad_images"]} images that cannot be read'
                )
    seconds = clock.seconds()
    if seconds['step'] > 0:
        images = run.position(at)
        display.say(f'throughput: {images / seconds["step"]:,.0f} images/s in the training step')
    display.say(f'seconds, restarts included: {clock.total():.1f} = {console.seconds_table(seconds)}')
    held, whose = memory.peak()
    display.say(f'peak memory: {memory.text(held)} of the {whose}')
    display.say(f'results: {workdir}')


_SAME_SIGNAL_SECONDS = 2  # a launcher may send a signal to a process and to the one that waits for it


class _Signals:
    """Catches the first SIGTERM or Ctrl-C inside the `with`, into `number`; a second one acts as ever.

    `agreed` is that of all processes together, as of the last `agree`, which all of them call at the same places.
    """

    def __init__(self):
        self.number = self.agreed = 0
        self._came = None

    def agree(self):
        """The signal that any of the processes has caught, or 0."""
        self.agreed = distributed.largest(self.number)
        return self.agreed

    def __enter__(self):
        self._before = {}
        if threading.current_thread() is threading.main_thread():  # Python lets no other thread have them
            self._before = {number: signal.signal(number, self._catch) for number in interrupts.NUMBERS}
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
