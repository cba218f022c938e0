"""Where every second of a run went, summed over its restarts."""

import contextlib
import time


class Clock:
    """Seconds by purpose; what no purpose claimed is 'other'."""

    PURPOSES = ('start-up', 'compile', 'input', 'step', 'evaluate', 'checkpoint', 'other', 'lost to restarts')

    def __init__(self, started):
        """`started`: the process's start, as `time.time()` gave it."""
        self._started = time.perf_counter() - (time.time() - started)
        self._seconds = dict.fromkeys(self.PURPOSES, 0.0)
        self._before = 0.0

    @contextlib.contextmanager
    def time(self, purpose):
        """Charges the time inside the `with` to a purpose."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[purpose] += time.perf_counter() - begin

    def start_up_ends(self):
        """All that was not charged to a purpose so far was start-up."""
        self._seconds['start-up'] += self._unclaimed()

    def resume(self, saved, last_total):
        """Takes over an earlier process's seconds: `saved` at its checkpoint, `last_total` the last seen of it."""
        for purpose, seconds in saved.items():
            self._seconds[purpose] += seconds
        lost = max(0.0, last_total - sum(saved.values()))
        self._seconds['lost to restarts'] += lost
        self._before = sum(saved.values()) + lost

    def total(self):
        """Seconds since the start, restarts included."""
        return self._before + time.perf_counter() - self._started

    def seconds(self):
        """{purpose: seconds}; they sum to `total()`."""
        return self._seconds | {'other': self._seconds['other'] + self._unclaimed()}

    def _unclaimed(self):
        return max(0.0, self.total() - sum(self._seconds.values()))
