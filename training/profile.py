"""Profiler traces of a range of steps, for TensorBoard or XProf: `--config.profile_steps=10:15`."""

from pathlib import Path

import jax

from runtime.errors import UserError

FOLDER = 'profile'


def steps(text):
    """Parse 'FIRST:LAST', the steps first <= s < last, to (first, last); '' to None.

    Raises:
      UserError: the text has another form.
    """
    if not text:
        return None
    first, colon, last = str(text).partition(':')
    if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
        raise UserError(f'profile_steps must be FIRST:LAST with FIRST below LAST, such as 10:15, not {text!r}')
    return int(first), int(last)


class Trace:
    """A trace of a range of steps, written to `workdir`/profile; a context manager, which stops the trace."""

    def __init__(self, text, workdir, say=print):
        self._range, self._folder, self._say = steps(text), Path(workdir) / FOLDER, say
        self._running = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()  # the run ended, or was interrupted, before the last step

    def bounds(self, at):
        """Return the steps after `at` at which the trace starts or stops; a dispatch must end there."""
        return [bound for bound in self._range or () if bound > at]

    def reached(self, at):
        """Start or stop the trace if it is due before step `at`."""
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
            self._say(f'trace: to view it, run tensorboard --logdir {self._folder} (needs its profile plugin)')
