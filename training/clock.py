"""Accounting of a run's time by purpose, summed over its restarts."""

import contextlib
import time


class Clock:
    """Seconds spent for each purpose; unassigned time is 'other'."""

    PURPOSES = ('start-up', 'compile', 'input', 'step', 'evaluate', 'checkpoint', 'other', 'lost to restarts')

    def __init__(self, started):
        """Start the clock; `started` is the `time.time()` of the process's start."""
        self._started = time.perf_counter() - (time.time() - started)
        self._seconds = dict.fromkeys(self.PURPOSES, 0.0)
        self._before = 0.0

    @contextlib.contextmanager
    def time(self, purpose):
        """Add the time inside the `with` to a purpose."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[purpose] += time.perf_counter() - begin

    def start_up_ends(self):
        """Count all unassigned time so far as start-up."""
        self._seconds['start-up'] += self._unclaimed()

    def resume(self, saved, last_total):
        """Add an earlier process's seconds: `saved` in its checkpoint, `last_total` in its last row of the log."""
        for purpose, seconds in saved.items():
            self._seconds[purpose] += seconds
        lost = max(0.0, last_total - sum(saved.values()))
        self._seconds['lost to restarts'] += lost
        self._before = sum(saved.values()) + lost

    def total(self):
        """Return the seconds since the start, restarts included."""
        return self._before + time.perf_counter() - self._started

    def seconds(self):
        """Return {purpose: seconds}, which sum to `total()`."""
        return self._seconds | {'other': self._seconds['other'] + self._unclaimed()}

    def open_window(self, step):
        """Start the window that `pace` measures at step `step`."""
        self._window = time.perf_counter(), step, self._seconds['input']

    def pace(self, batch_size, step):
        """Return the `time` of a row of the log at `step`: the total, and the pace since the window was opened."""
        began, first, waited = self._window
        seconds = time.perf_counter() - began
        return {
            'total': self.total(),
            'images_per_second': batch_size * (step - first) / seconds,
            'data_wait': (self._seconds['input'] - waited) / seconds,  # a fraction of the time
        }

    def _unclaimed(self):
        return max(0.0, self.total() - sum(self._seconds.values()))
