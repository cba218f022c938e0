"""A run's log: `metrics.jsonl`, one JSON object per line, and the same numbers as TensorBoard events and in a tracker.

A row has `kind`, `step` and its values. Whatever depends on the clock is under `time`, so two runs with the same seed
agree in everything else. Each number of a row is the scalar `KIND/NAME` of the events. After TensorBoard has purged the
steps that a restart repeats, the events of a resumed run are exactly the rows of metrics.jsonl. A tracker
(`training/trackers.py`) purges nothing: it has the steps that a killed run repeats twice, with the same numbers.

Kinds: 'train' (means since the last such row), 'epoch' (means of the epoch, errors of the test split), 'decision' (a
controller changed the rate, or the user changed the config key named in `by_hand`), 'warning', 'init_from' (weights
copied from a checkpoint; 'inherited' in older logs), 'tracker' (the `id` that `tracker` gave to the run), 'finished',
'resume'.
"""

import contextlib
import functools
import json
import platform
import sys
import time as clock
from pathlib import Path
from typing import Annotated

import msgspec
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from tensorboardX.summary import scalar

from runtime import foreign
from runtime.errors import UserError, first_line
from runtime.files import write_atomically
from runtime.text import say
from training import trackers

NAME = 'metrics.jsonl'
_ADVICE = 'remove the line'
_FLUSH_SECONDS = 5
_MAX_BYTES = 1 << 30  # of a log


class RunLog:
    """The log of a run in `workdir`; `rows` are its earlier rows, from `read`.

    A log opened with a `resume_step` drops the rows after that step, since the run repeats those steps. It also drops
    the rows written at an epoch's end at that very step, unless `epoch_is_closed` says that the checkpoint was saved
    after them. Of several processes, one `writes`; the others keep the same rows in memory.
    """

    def __init__(self, workdir, rows=(), resume_step=None, time=None, epoch_is_closed=True, writes=True):
        self._path, self._file, self._sinks, self.tracker = Path(workdir) / NAME, None, [], None
        self.rows = list(rows)
        if resume_step is not None:

            def is_kept(row):
                at_epoch_end = row['kind'] in ('epoch', 'decision', 'finished') and 'by_hand' not in row
                is_repeated = at_epoch_end and not epoch_is_closed
                return row['step'] < resume_step or (row['step'] == resume_step and not is_repeated)

            self.rows = [row for row in self.rows if is_kept(row)]
            self.rows.append({'kind': 'resume', 'step': resume_step, 'time': time})
        if not writes:
            return
        if resume_step is not None:
            write_atomically(self._path, ''.join(json.dumps(row) + '\n' for row in self.rows))
        self._file = self._path.open('a')
        # Without the suffix, a file would overwrite another one created in the same second.
        suffix = f'.{len(list(Path(workdir).glob("events.out.tfevents.*"))):04d}'
        purged = [row for row in self.rows if resume_step is not None and row['step'] >= resume_step]
        events = functools.partial(Events, workdir, suffix, resume_step)
        self._sinks.append(_Sink("TensorBoard's events", events, OSError, purged))

    def track(self, config, step, time):
        """Open the tracker of a config, if it names one, as another sink of the log's numbers.

        A run that the tracker does not know yet gets all rows; otherwise it continues with the rows since the restart.
        """
        if not config.tracker or not self._file:
            return
        known = [row['id'] for row in self.rows if row['kind'] == 'tracker' and row['tracker'] == config.tracker]
        since = max((at for at, row in enumerate(self.rows) if row['kind'] == 'resume'), default=0) if known else 0
        open_run = functools.partial(trackers.open_run, config, self._path.parent, *known[-1:])
        sink = _Sink(config.tracker, open_run, Exception, self.rows[since:])  # whatever its library raises
        self._sinks.append(sink)
        self.tracker = sink.writer
        if self.tracker and not known:
            self.write('tracker', step, time, tracker=config.tracker, id=self.tracker.run_id)

    def write(self, kind, step, time, **values):
        """Append a row; it is in the file when this returns."""
        row = {'kind': kind, 'step': step, **values, 'time': time}
        self.rows.append(row)
        if not self._file:
            return
        try:
            self._file.write(json.dumps(row) + '\n')
            self._file.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # what is not written yet
                self._file.close()
            self._file = None
            raise UserError(
                f'{self._path} cannot be written ({error.strerror}). Make room, then the same command resumes from the '
                'last checkpoint'
            ) from None
        for sink in self._sinks:
            sink.write(row)

    def last_epoch(self):
        """Return the last epoch's row, or None."""
        return next((row for row in reversed(self.rows) if row['kind'] == 'epoch'), None)

    def best_epoch(self):
        """Return the row with the smallest test error, the last one in a tie, or None."""
        epochs = [row for row in self.rows if row['kind'] == 'epoch']
        return min(reversed(epochs), key=lambda row: row['test_top1_error'], default=None)

    def close(self):
        """Close the file and the sinks."""
        if self._file:
            self._file.close()
        for sink in self._sinks:
            sink.close(is_finished=any(row['kind'] == 'finished' for row in self.rows))


class _Sink:
    """Where a log's numbers go besides its file; after an error it is left out, with a line on standard error.

    Args:
      name: for that line.
      open_writer: returns the writer, with `write(step, {name: number})` and `close(is_finished)`.
      errors: the exceptions of the writer that leave it out.
      rows: to write first.
    """

    def __init__(self, name, open_writer, errors, rows):
        self._name, self._errors, self.writer = name, errors, None
        with self._left_out_after_an_error():
            self.writer = open_writer()
        for row in rows:
            self.write(row)

    def write(self, row):
        """Write the numbers of a row."""
        numbers = {
            f'{row["kind"]}/{name}': value
            for name, value in {**row, **(row['time'] or {})}.items()
            if isinstance(value, (int, float)) and name not in ('kind', 'step')
        }
        with self._left_out_after_an_error():
            if self.writer:
                self.writer.write(row['step'], numbers)

    def close(self, is_finished):
        """Close the writer; `is_finished` says whether the run is."""
        with self._left_out_after_an_error():
            if self.writer:
                self.writer.close(is_finished)

    @contextlib.contextmanager
    def _left_out_after_an_error(self):
        try:
            yield
        except self._errors as error:
            writer, self.writer = self.writer, None
            with contextlib.suppress(self._errors):  # what is not written yet
                if writer:
                    writer.close(is_finished=False)
            reason = getattr(error, 'strerror', None) or first_line(error)
            what = f'warning: {self._name} cannot be written ({reason})'
            say(f'{what}; the run goes on without, and {NAME} has all numbers', file=sys.stderr)


class Events:
    """A file of TensorBoard events.

    tensorboardX's own `SummaryWriter` writes in a thread, and waits forever for one that died of a full disk.
    """

    def __init__(self, workdir, suffix, purge_step=None):
        """Open a new file; TensorBoard drops the steps from `purge_step` on of the files before it."""
        name = f'events.out.tfevents.{int(clock.time())}.{platform.node()}{suffix}'
        self._writer, self._flushed = RecordWriter(str(Path(workdir, name))), clock.monotonic()
        self._add(Event(file_version='brain.Event:2'))
        if purge_step is not None:
            self._add(Event(step=purge_step, file_version='brain.Event:2'))
            self._add(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step, numbers):
        """Write {name: number} of a step."""
        for name, number in numbers.items():
            self._add(Event(step=step, summary=scalar(name, number)))
        if clock.monotonic() - self._flushed >= _FLUSH_SECONDS:
            self._writer.flush()
            self._flushed = clock.monotonic()

    def close(self, is_finished):
        """Close the file."""
        self._writer.close()

    def _add(self, event):
        event.wall_time = clock.time()
        self._writer.write(event.SerializeToString())


def read(workdir):
    """Return the rows of a run's metrics.jsonl, without a last line that a kill truncated.

    Raises:
      UserError: a line is not a row; the message has its number.
    """
    path = Path(workdir) / NAME
    lines = foreign.read_regular(path, _MAX_BYTES).split(b'\n') if path.exists() else [b'']
    rows = [_row(line, f'line {number} of {path}') for number, line in enumerate(lines[:-1], start=1)]
    with contextlib.suppress(UserError):  # the last line has no end
        rows.append(_row(lines[-1], path))
    return rows


_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Time(msgspec.Struct):
    total: _Seconds
    seconds: dict[str, _Seconds] = {}  # by purpose, of a row 'finished'


class _Row(msgspec.Struct):
    kind: str
    step: Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
    time: _Time


class _EpochRow(_Row):
    epoch: Annotated[float, msgspec.Meta(ge=0)]
    learning_rate: float
    train_error: float
    train_loss: float
    test_top1_error: float
    test_top5_error: float
    test_loss: float


class _TrackerRow(_Row):
    tracker: str
    id: str


def _row(line, where):
    kind = 'a row of a log'
    row = foreign.parse_json(line, dict, where, kind, _ADVICE)
    with foreign.parsing(where, kind, _ADVICE):
        msgspec.convert(row, {'epoch': _EpochRow, 'tracker': _TrackerRow}.get(row.get('kind'), _Row))
    return row
