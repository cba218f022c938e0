"""A trace of some steps, for TensorBoard or XProf: `--config.profile_steps=10:15`."""

from pathlib import Path

import jax

from runtime.errors import UserError

FOLDER = 'profile'


def steps(text):
    """(first, last) of 'FIRST:LAST': the steps first <= s < last; None of ''.

    Raises:
      UserError: it is written in another way.
    """
    if not text:
        return None
    first, colon, last = str(text).partition(':')
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UserError(f'profile_steps must be FIRST:LAST, a smaller and a larger step, as 10:15, not {text!r}')
    return int(first), int(last)


class Trace:
    """Traces a run from one step to another, into `workdir`/profile; use it in a `with`, which ends it."""

    def __init__(self, text, workdir, say=print):
        self._range, self._folder, self._say = steps(text), Path(workdir) / FOLDER, say
        self._running = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()  # the run ended, or was interrupted, before the last step

    def bounds(self, at):
        """The steps after `at` at which a dispatch must end, so that the trace begins and ends there."""
        return [bound for bound in self._range or () if bound > at]

    def reached(self, at):
        """Begins or ends the trace, where step `at` comes next."""
        inside = self._range is not None and self._range[0] <= at < self._range[1]
        if inside and not self._running:
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif not inside:
            self._stop()

    def _stop(self):
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._say(f'traced: tensorboard --logdir {self._folder} (with its profile plugin) shows it')
