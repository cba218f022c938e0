"""The training loop.

Each iteration takes a batch and advances the state. At the steps set in the config the loop logs and saves; at the end
of an epoch it tests, logs, adapts the learning rate and saves. On a signal it saves and ends; the same command resumes
from the last checkpoint. `Loop` holds everything needed: the run and its state, checkpoints, log, display, clock and
signals.
"""

import contextlib
import dataclasses
import functools
import signal
import time
from pathlib import Path

import jax

from input_pipeline import datasets, statistics
from runtime import distributed, mesh
from runtime.interrupts import Caught, Interrupted
from training import checkpoints, console, profile, schedules, stall
from training.clock import Clock
from training.log import RunLog
from training.run import Programs, Run, check
from training.step import TrainState, all_finite, close_window, count_split, means, nonfinite_step, zero_totals
from training.workdir import claimed, copy_to_bucket, is_finished, open_place, restore, resume_point, write_config


def train(config, workdir, started=None):
    """Train the config's network in `workdir`, from its last checkpoint if there is one.

    Args:
      config: an ml_collections config with the keys of `configs/base.py`.
      workdir: the run's folder, for config.json, metrics.jsonl, TensorBoard events and checkpoints/.
      started: `time.time()` of the process's start, for the accounting of time.

    Returns:
      The last epoch's row of the log (`log.RunLog`), or None if no epoch was finished.

    Raises:
      UserError: an error that the user can fix; the workdir is unchanged.
      Interrupted: SIGTERM or Ctrl-C; the state was saved.
    """
    clock = Clock(started or time.time())
    with distributed.Agreed() as facts:
        check(config)
        workdir, place = open_place(workdir)
        splits = datasets.open_splits(config)
        run = Run(config, splits=splits, **resume_point(place, *splits, config.on_bad_image))
        facts |= run.facts()
        if config.statistics:
            statistics.of_run(config, workdir)  # a missing file is refused before the folder is claimed
    with contextlib.ExitStack() as stack:
        with distributed.Agreed():
            changes = stack.enter_context(claimed(workdir, config, any(run.start))) if distributed.is_first() else {}
            if distributed.is_first():
                run.check_length(changes)
                statistics.of_run(config, workdir, run.source)
        measured = statistics.of_run(config, workdir)
        copy = functools.partial(copy_to_bucket, workdir, place) if distributed.is_first() else lambda: None
        manager = stack.enter_context(checkpoints.Checkpoints(place / checkpoints.FOLDER, after_save=copy))
        state, log = restore(run, workdir, manager, clock)
        stack.callback(log.close)
        log.track(config, int(state.step), {'total': clock.total()})
        signals = stack.enter_context(Caught(distributed.largest))
        display = stack.enter_context(console.Display(run.total_steps, quiet=not distributed.is_first()))
        trace = stack.enter_context(profile.Trace(config.profile_steps, workdir, display.say))
        loop = Loop(run, workdir, state, manager, log, display, clock, signals, trace)
        console.describe(loop)
        loop.log_changes(changes)
        clock.start_up_ends()
        if not loop.is_over() or loop.is_untested():
            loop.train(measured)
        with clock.time('checkpoint'):
            manager.wait()
        if run.finished(loop.at, loop.controller) and not is_finished(workdir):
            loop.log.write('finished', loop.at, {'total': clock.total(), 'seconds': clock.seconds()})
        copy()
        console.summarize(loop)
        return log.last_epoch()


@dataclasses.dataclass
class Loop:
    """A run in progress. `at` is the next step, from 0; `controller` is a copy of the state's on the host."""

    run: Run
    workdir: Path
    state: TrainState
    checkpoints: checkpoints.Checkpoints
    log: RunLog
    display: console.Display
    clock: Clock
    signals: Caught
    trace: profile.Trace
    programs: Programs | None = None  # set once compiled

    def __post_init__(self):
        self.at, self.controller = int(self.state.step), jax.device_get(self.state.controller)

    def train(self, measured):
        """Train to the last step; `measured` are the statistics of the data set that the config needs."""
        self.display.header()
        with self.clock.time('compile'), self.display.compiling():
            self.programs = self.run.compiled(measured, self.state)
        if self.is_untested():  # the run was stopped between an epoch's last step and its test
            self.end_epoch()
        self.clock.open_window(self.at)
        with contextlib.closing(self.run.batches(self.at, self._next_stop)) as batches:
            while not self.is_over() and not self.signals.agreed:
                self.trace.reached(self.at)
                self._refresh_curvature()
                sums, before = self.advance(batches)
                self.report(sums, before)
                self.save_or_test()
        if self.signals.agreed:
            self._stop()

    def is_over(self):
        """Return whether no step is left: the run, its last plateau or the config's `stop_at_step` is reached."""
        return self.at >= self.run.total_steps or self.run.finished(self.at, self.controller)

    def is_untested(self):
        """Return whether an epoch ends at this step and its test is not in the log."""
        tested_steps = (row['step'] for row in self.log.rows if row['kind'] == 'epoch')
        return self.at in self.run.epoch_ends and self.at not in tested_steps

    def advance(self, batches):
        """Take one or more steps; return the sums since the last row of the log, and the controller before them."""
        with self.clock.time('input'):
            self.at, batch = next(batches)
        with self.clock.time('step'):
            self.state = self.programs.advance(self.state, *batch)
            before = self.controller
            sums, self.controller = jax.device_get((self.state.window, self.state.controller))
            self.signals.agree()
        if nonfinite_step(sums) is not None:
            raise stall.diverged(self.run, nonfinite_step(sums), before, self.checkpoints)
        if schedules.warmup_is_over(before) != schedules.warmup_is_over(self.controller):
            self._log_decision(f'the warm-up is over: training error below {self.run.config.warmup.until_error:g}%')
        return sums, before

    def report(self, sums, before):
        """Show the progress; at the steps set in the config, also log and check whether the run learns."""
        run, at, times = self.run, self.at, self.clock.pace(self.run.config.batch_size, self.at)
        self.display.advance(at, times['images_per_second'], float(sums['loss']) / max(int(sums['count']), 1))
        if at % run.config.log_every_steps == 0 or at in run.epoch_ends or at == run.total_steps:
            self.log.write('train', at, times, learning_rate=float(run.rate(at - 1, before)), **means(sums))
            self.state = close_window(self.state)
            self._check_stall()
            self.clock.open_window(self.at)

    def save_or_test(self):
        """Test at the end of an epoch, or save if it is time to, or if a signal came."""
        at, every = self.at, self.run.config.checkpoint_every_steps
        if at in self.run.epoch_ends and not self.signals.agreed:
            self.end_epoch()
            self.clock.open_window(self.at)
        elif self.signals.agreed or at == self.run.total_steps or (every and at % every == 0):
            self.save()

    def end_epoch(self):
        """Test, log, adapt the learning rate and save; after a signal only save, the resumed run does the rest."""
        run, config = self.run, self.run.config
        tested = self._test()
        if tested is None:
            return self.save()
        trained = {f'train_{key}': value for key, value in means(jax.device_get(self.state.epoch)).items()}
        rate, value = float(run.rate(self.at - 1, self.controller)), (trained | tested)[config.plateau.metric]
        controller, dropped = schedules.controller_after_epoch(self.controller, value, config.plateau)
        if run.finished(self.at, controller) and config.recompute_batch_stats and self.state.batch_stats:
            with self.clock.time('evaluate'):
                self.state = self.state.with_batch_stats(self.programs.batch_stats(self.state.deployed))
            moving, tested = tested, self._test()
            if tested is None:  # the resumed run repeats it from the last checkpoint
                return
            tested |= {f'moving_{key}': value for key, value in moving.items()}
        row = {'epoch': run.epoch_ends[self.at], 'learning_rate': rate, **trained}
        self.write('epoch', **row, order_digest=int(self.state.order_digest), **tested)
        self.display.epoch(self.log.rows[-1])
        self.controller = controller
        if dropped:
            self._log_decision(schedules.drop_reason(controller, config.plateau))
        epoch, controller = mesh.put((zero_totals(), controller), run.replicated)
        self.state = self.state.replace(epoch=epoch, controller=controller)
        self.controller = jax.device_get(controller)
        self.save(tested['test_top1_error'], epoch_is_closed=True)

    def save(self, top1_error=None, epoch_is_closed=False):
        """Start writing a checkpoint."""
        with self.clock.time('checkpoint'):
            if not all_finite(self.state.params):
                raise stall.diverged(self.run, self.at - 1, self.controller, self.checkpoints)
            info = {'clock': self.clock.seconds(), 'epoch_is_closed': epoch_is_closed}
            self.checkpoints.save(self.state, self.run.info(self.at) | info, top1_error)

    def log_changes(self, changes):
        """Log the user's changes to the config of a resumed run: {key: (old value, new value)}."""
        for key, (before, after) in changes.items():
            self._log_decision(f'{key} is {after!r} from here on, set by the user; it was {before!r}', by_hand=key)
        if changes:
            write_config(self.workdir, self.run.config)

    def _next_stop(self, at):
        """Return the next step after `at` that is logged, saved, tested or traced, or the last step."""
        every = [self.run.config.log_every_steps, self.run.config.checkpoint_every_steps]
        ends = [end for end in (*self.run.epoch_ends, *self.trace.bounds(at)) if end > at]
        return min([self.run.total_steps, *ends] + [(at // steps + 1) * steps for steps in every if steps])

    def _refresh_curvature(self):
        """Estimate the curvature before each pass over the data, for the optimizer sdlm."""
        run, config = self.run, self.run.config
        if config.optimizer == 'sdlm' and (self.at == 0 or self.at in run.epoch_ends):
            with self.clock.time('step'):
                samples, _ = run.order(self.at, self.at - (-config.sdlm_samples // config.batch_size))
                samples = mesh.put(samples[: config.sdlm_samples], run.replicated)
                self.state = self.programs.refresh_curvature(self.state, *run.data, samples)

    def _test(self):
        """Return {'test_KEY': value} of the test split, or None after a signal."""
        run, count, variables = self.run, self.programs.count, self.state.deployed
        with self.clock.time('evaluate'):
            result = count_split(count, variables, run.test_batches(), run.batch_sharding, self.signals.agree)
        return result and {f'test_{key}': value for key, value in result.items()}

    def _stop(self):
        with self.clock.time('checkpoint'):
            self.checkpoints.wait()
        name = signal.Signals(self.signals.agreed).name
        self.display.say(f'stopped by {name}; saved at step {self.at:,}. The same command resumes.')
        raise Interrupted(self.signals.agreed)

    def write(self, kind, **values):
        """Write a row of the log."""
        self.log.write(kind, self.at, {'total': self.clock.total()}, **values)

    def _log_decision(self, decision, **values):
        """Log and print a decision of a controller or of the user."""
        rate = float(self.run.rate(self.at, self.controller))
        self.write('decision', decision=decision, learning_rate=rate, **values)
        self.display.say(f'  step {self.at:,}: {decision}; learning rate {rate:g}')

    def _check_stall(self):
        """Warn once about a run that does not learn."""
        with self.clock.time('evaluate'):
            dead_layers = functools.partial(self.programs.dead_layers, self.state.variables)
            warning = stall.check(self.log.rows, self.run.config, dead_layers)
        if warning:
            self.write('warning', warning=warning)
            self.display.say(f'  warning: step {self.at:,}: {warning}')
