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

    def open_window(self, step):
        """From step `step` on `pace` counts."""
        self._window = time.perf_counter(), step, self._seconds['input']

    def pace(self, batch_size, step):
        """What a line of the log says of the time until `step`, since the window was opened."""
        began, first, waited = self._window
        seconds = time.perf_counter() - began
        return {
            'total': self.total(),
            'images_per_second': batch_size * (step - first) / seconds,
            'data_wait': (self._seconds['input'] - waited) / seconds,  # the share of the time
        }

    def _unclaimed(self):
        return max(0.0, self.total() - sum(self._seconds.values()))
