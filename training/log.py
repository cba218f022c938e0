"""A run's log: `metrics.jsonl`, one JSON object per line, and the same numbers as TensorBoard events.

A row has `kind`, `step` and its values. Whatever depends on the clock is under `time`, so two runs with the same seed
agree in everything else. Each number of a row is the scalar `KIND/NAME` of the events. After TensorBoard has purged the
steps that a restart repeats, the events of a resumed run are exactly the rows of metrics.jsonl.

Kinds: 'train' (means since the last such row), 'epoch' (means of the epoch, errors of the test split), 'decision' (a
controller changed the rate, or the user changed the config key named in `by_hand`), 'warning', 'init_from' (weights
copied from a checkpoint; 'inherited' in older logs), 'finished', 'resume'.
"""

import contextlib
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
from runtime.errors import UserError
from runtime.files import write_atomically

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
        self._path, self._file, self._events = Path(workdir) / NAME, None, None
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
        self._events = Events(workdir, suffix, resume_step)
        for row in self.rows if resume_step is not None else ():
            if row['step'] >= resume_step:  # purged from the events together with the dropped rows
                self._add_scalars(row)

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
        self._add_scalars(row)

    def _add_scalars(self, row):
        """Write the numbers of a row to the TensorBoard events."""
        numbers = {
            f'{row["kind"]}/{name}': value
            for name, value in {**row, **(row['time'] or {})}.items()
            if isinstance(value, (int, float)) and name not in ('kind', 'step')
        }
        self._events.write(row['step'], numbers)

    def last_epoch(self):
        """Return the last epoch's row, or None."""
        return next((row for row in reversed(self.rows) if row['kind'] == 'epoch'), None)

    def best_epoch(self):
        """Return the row with the smallest test error, the last one in a tie, or None."""
        epochs = [row for row in self.rows if row['kind'] == 'epoch']
        return min(reversed(epochs), key=lambda row: row['test_top1_error'], default=None)

    def close(self):
        """Close both files."""
        if self._file:
            self._file.close()
        if self._events:
            self._events.close()


class Events:
    """A file of TensorBoard events; after an error it is left out, with a line on standard error.

    tensorboardX's own `SummaryWriter` writes in a thread, and waits forever for one that died of a full disk.
    """

    def __init__(self, workdir, suffix, purge_step=None):
        """Open a new file; TensorBoard drops the steps from `purge_step` on of the files before it."""
        self._writer, self._flushed = None, clock.monotonic()
        with self._left_out_after_an_error():
            name = f'events.out.tfevents.{int(clock.time())}.{platform.node()}{suffix}'
            self._writer = RecordWriter(str(Path(workdir, name)))
            self._add(Event(file_version='brain.Event:2'))
            if purge_step is not None:
                self._add(Event(step=purge_step, file_version='brain.Event:2'))
                self._add(Event(step=purge_step, session_log=SessionLog(status=SessionLog.START)))

    def write(self, step, numbers):
        """Write {name: number} of a step."""
        with self._left_out_after_an_error():
            for name, number in numbers.items() if self._writer else ():
                self._add(Event(step=step, summary=scalar(name, number)))
            if self._writer and clock.monotonic() - self._flushed >= _FLUSH_SECONDS:
                self._writer.flush()
                self._flushed = clock.monotonic()

    def close(self):
        """Close the file."""
        with self._left_out_after_an_error():
            if self._writer:
                self._writer.close()

    def _add(self, event):
        event.wall_time = clock.time()
        self._writer.write(event.SerializeToString())

    @contextlib.contextmanager
    def _left_out_after_an_error(self):
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):  # what is not written yet
                if self._writer:
                    self._writer.close()
            self._writer = None
            print(
                f"warning: TensorBoard's events cannot be written ({error.strerror}): from here on the numbers are "
                f'only in {NAME}',
                file=sys.stderr,
                flush=True,
            )


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


def _row(line, where):
    kind = 'a row of a log'
    row = foreign.parse_json(line, dict, where, kind, _ADVICE)
    with foreign.parsing(where, kind, _ADVICE):
        msgspec.convert(row, _EpochRow if row.get('kind') == 'epoch' else _Row)
    return row
