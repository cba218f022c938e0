"""The training loop, the impure file of this room.

Until its last step a run takes a batch and advances its state by it. At the steps that the config names it logs and
saves; at the end of an epoch it tests, logs, adapts the learning rate and saves. When a signal comes it saves and ends;
the same command continues from the last checkpoint. All that this takes is in one object: the run and its state,
checkpoints, log, display, clock and signals.
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
from training import checkpoints, console, controllers, profile, resume, stall
from training.clock import Clock
from training.log import RunLog
from training.metrics import count_split, means
from training.run import Programs, Run, check
from training.state import TrainState, all_finite, close_window, nonfinite_step, zero_totals
from training.workdir import claimed, is_finished, open_place, send, write_config


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
    run = Run(config, splits=splits, **resume.point(place, splits[0]))
    if config.statistics:
        statistics.of_run(config, workdir)  # a missing file is refused before the folder is claimed
    with contextlib.ExitStack() as stack:
        changes = {}
        with distributed.Together() as first:
            if first:
                changes = stack.enter_context(claimed(workdir, config, begun=run.start != (0, 0)))
                run.check_length(changes)
                statistics.of_run(config, workdir, run.source)
        measured = statistics.of_run(config, workdir)
        copy = functools.partial(send, workdir, place) if distributed.is_first() else lambda: None
        saved = stack.enter_context(checkpoints.Checkpoints(place / checkpoints.FOLDER, after_save=copy))
        state, log = resume.restored(run, workdir, saved, clock)
        stack.callback(log.close)
        signals = stack.enter_context(Caught())
        display = stack.enter_context(console.Display(run.total_steps, quiet=not distributed.is_first()))
        trace = stack.enter_context(profile.Trace(config.profile_steps, workdir, display.say))
        loop = Loop(run, workdir, state, saved, log, display, clock, signals, trace)
        console.describe(loop)
        loop.note(changes)
        clock.start_up_ends()
        if not loop.is_over() or loop.is_untested():
            loop.go(measured)
        with clock.time('checkpoint'):
            saved.wait()
        if run.finished(loop.at, loop.controller) and not is_finished(workdir):
            loop.write('finished')
        copy()
        console.summarize(loop)
        return log.last_epoch()


@dataclasses.dataclass
class Loop:
    """A run while it trains. `at` is its next step, `controller` that of its state, on the host."""

    run: Run
    workdir: Path
    state: TrainState
    checkpoints: checkpoints.Checkpoints
    log: RunLog
    display: console.Display
    clock: Clock
    signals: Caught
    trace: profile.Trace
    programs: Programs | None = None  # once they are compiled

    def __post_init__(self):
        self.at, self.controller = int(self.state.step), jax.device_get(self.state.controller)

    def go(self, measured):
        """Trains to the last step; `measured` are the statistics that the config needs."""
        self.display.header()
        with self.clock.time('compile'):
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
        """Whether no step is left: it is the last, or that of the last plateau, or where the config says to stop."""
        return self.at >= self.run.total_steps or self.run.finished(self.at, self.controller)

    def is_untested(self):
        """Whether an epoch ends at this step and its test is not in the log."""
        tested = (row['step'] for row in self.log.rows if row['kind'] == 'epoch')
        return self.at in self.run.epoch_ends and self.at not in tested

    def advance(self, batches):
        """Takes a batch, or several, and the state that they lead to; the log's sums, and the controller before."""
        with self.clock.time('input'):
            self.at, batch = next(batches)
        with self.clock.time('step'):
            self.state = self.programs.advance(self.state, *batch)
            before = self.controller
            sums, self.controller = jax.device_get((self.state.window, self.state.controller))
            self.signals.agree()
        if nonfinite_step(sums) is not None:
            raise stall.diverged(self.run, nonfinite_step(sums), before, self.checkpoints)
        if controllers.is_warm(before) != controllers.is_warm(self.controller):
            below = f'{self.run.config.warmup.until_error:g}%'
            self._decide(f'the warm-up is over: the training error is below {below}')
        return sums, before

    def report(self, sums, before):
        """Shows where the run is; at the steps that the config names it logs, too, and looks whether it learns."""
        run, at, times = self.run, self.at, self.clock.pace(self.run.config.batch_size, self.at)
        self.display.advance(at, times['images_per_second'], float(sums['loss']) / max(int(sums['count']), 1))
        if at % run.config.log_every_steps == 0 or at in run.epoch_ends or at == run.total_steps:
            self.log.write('train', at, times, learning_rate=float(run.rate(at - 1, before)), **means(sums))
            self.state = close_window(self.state)
            self._look_for_stall()
            self.clock.open_window(self.at)

    def save_or_test(self):
        """Tests at the end of an epoch, unless a signal came; else saves where it is time to."""
        at, every = self.at, self.run.config.checkpoint_every_steps
        if at in self.run.epoch_ends and not self.signals.agreed:
            self.end_epoch()
            self.clock.open_window(self.at)
        elif self.signals.agreed or at == self.run.total_steps or (every and at % every == 0):
            self.save()

    def end_epoch(self):
        """Tests, logs, adapts the learning rate and saves; where a signal comes it leaves that to the next run."""
        run, config = self.run, self.run.config
        tested = self._test()
        if tested is None:
            return self.save()
        trained = {f'train_{key}': value for key, value in means(jax.device_get(self.state.epoch)).items()}
        rate, value = float(run.rate(self.at - 1, self.controller)), (trained | tested)[config.plateau.metric]
        controller, dropped = controllers.after_epoch(self.controller, value, config.plateau)
        if run.finished(self.at, controller) and config.recompute_batch_stats and self.state.batch_stats:
            with self.clock.time('evaluate'):
                self.state = self.state.with_batch_stats(self.programs.batch_stats(self.state.deployed))
            moving, tested = tested, self._test()
            if tested is None:  # to be done again, from the last checkpoint
                return
            tested |= {f'moving_{key}': value for key, value in moving.items()}
        row = {'epoch': run.epoch_ends[self.at], 'learning_rate': rate, **trained}
        self.write('epoch', **row, order_digest=int(self.state.order_digest), **tested)
        self.display.epoch(self.log.rows[-1])
        self.controller = controller
        if dropped:
            self._decide(controllers.reason(controller, config.plateau))
        epoch, controller = mesh.put((zero_totals(), controller), run.replicated)
        self.state = self.state.replace(epoch=epoch, controller=controller)
        self.controller = jax.device_get(controller)
        self.save(tested['test_top1_error'], epoch_is_closed=True)

    def save(self, top1_error=None, epoch_is_closed=False):
        """Begins to write a checkpoint."""
        with self.clock.time('checkpoint'):
            if not all_finite(self.state.params):
                raise stall.diverged(self.run, self.at - 1, self.controller, self.checkpoints)
            info = {'clock': self.clock.seconds(), 'epoch_is_closed': epoch_is_closed}
            self.checkpoints.save(self.state, self.run.info(self.at) | info, top1_error)

    def note(self, changes):
        """Logs what the config changes of the later steps of a run: {key: (the value so far, from here on)}."""
        for key, (before, after) in changes.items():
            self._decide(f'{key} is {after!r} from here on, by hand; it was {before!r}', by_hand=key)
        if changes:
            write_config(self.workdir, self.run.config)

    def _next_stop(self, at):
        """The next step after `at` that is logged, saved, tested or traced, or the last."""
        every = [self.run.config.log_every_steps, self.run.config.checkpoint_every_steps]
        ends = [end for end in (*self.run.epoch_ends, *self.trace.bounds(at)) if end > at]
        return min([self.run.total_steps, *ends] + [(at // steps + 1) * steps for steps in every if steps])

    def _refresh_curvature(self):
        """Estimates the curvature anew before each pass, for the optimizer sdlm."""
        run, config = self.run, self.run.config
        if config.optimizer == 'sdlm' and (self.at == 0 or self.at in run.epoch_ends):
            with self.clock.time('step'):
                samples, _ = run.order(self.at, self.at - (-config.sdlm_samples // config.batch_size))
                samples = mesh.put(samples[: config.sdlm_samples], run.replicated)
                self.state = self.programs.refresh_curvature(self.state, *run.data, samples)

    def _test(self):
        """{'test_KEY': value} of the test split, or None where a signal came."""
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
        """Writes a line of the log."""
        self.log.write(kind, self.at, {'total': self.clock.total()}, **values)

    def _decide(self, decision, **values):
        """Logs and prints what a controller, or a hand, decided."""
        rate = float(self.run.rate(self.at, self.controller))
        self.write('decision', decision=decision, learning_rate=rate, **values)
        self.display.say(f'  step {self.at:,}: {decision}; learning rate {rate:g}')

    def _look_for_stall(self):
        """Warns once of a run that does not learn."""
        with self.clock.time('evaluate'):
            dead_layers = functools.partial(self.programs.dead_layers, self.state.variables)
            warning = stall.look(self.log.rows, self.run.config, dead_layers)
        if warning:
            self.write('warning', warning=warning)
            self.display.say(f'  warning: step {self.at:,}: {warning}')
