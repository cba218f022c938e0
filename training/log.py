"""A run's log: `metrics.jsonl`, a JSON object a line, and the same numbers as TensorBoard events.

A line has `kind`, `step` and its values; what depends on the clock is under `time`, so two runs of one seed agree in
everything else. Each number of a line is the scalar `KIND/NAME` of the events; those of a resumed run are, once
TensorBoard has dropped what a restart purges, the lines of metrics.jsonl and no others.

Kinds: 'train' (means since the last), 'epoch' (means of the epoch, errors of the test set), 'decision' (a controller
changed the rate, or a user the key of the config that `by_hand` names), 'warning', 'init_from' (weights copied from another
run), 'finished', 'resume'.
"""

import json
from pathlib import Path

from tensorboardX import SummaryWriter

from runtime.files import write_whole

NAME = 'metrics.jsonl'


class RunLog:
    """The log of a run in `workdir`; `rows` are what it held, of `read`.

    Opened at step `resume_step` it drops the lines of the work that was lost; those of an epoch's end at that step,
    too, unless `epoch_is_closed`: the checkpoint was made after it. Of several processes one `writes`; the others have
    the same lines in memory.
    """

    def __init__(self, workdir, rows=(), resume_step=None, time=None, epoch_is_closed=True, writes=True):
        self._path, self._file = Path(workdir) / NAME, None
        self.rows = list(rows)
        if resume_step is not None:

            def stays(row):
                of_end = row['kind'] in ('epoch', 'decision', 'finished') and 'by_hand' not in row
                at_end = of_end and not epoch_is_closed
                return row['step'] < resume_step or (row['step'] == resume_step and not at_end)

            self.rows = [row for row in self.rows if stays(row)]
            self.rows.append({'kind': 'resume', 'step': resume_step, 'time': time})
        if not writes:
            return
        if resume_step is not None:
            write_whole(self._path, ''.join(json.dumps(row) + '\n' for row in self.rows))
        self._file = self._path.open('a')
        # Of two files made in the same second the second would take the place of the first, but for the suffix.
        suffix = f'.{len(list(Path(workdir).glob("events.out.tfevents.*"))):04d}'
        self._board = SummaryWriter(str(workdir), purge_step=resume_step, flush_secs=5, filename_suffix=suffix)
        for row in self.rows if resume_step is not None else ():
            if row['step'] >= resume_step:  # purged from the events with the lines that were dropped
                self._show(row)

    def write(self, kind, step, time, **values):
        """Appends a line; it is in the file when this returns."""
        row = {'kind': kind, 'step': step, **values, 'time': time}
        self.rows.append(row)
        if not self._file:
            return
        self._file.write(json.dumps(row) + '\n')
        self._file.flush()
        self._show(row)

    def _show(self, row):
        """Writes the numbers of a line to the events."""
        for name, value in {**row, **(row['time'] or {})}.items():
            if isinstance(value, (int, float)) and name not in ('kind', 'step'):
                self._board.add_scalar(f'{row["kind"]}/{name}', value, row['step'])

    def last_epoch(self):
        """The last epoch's line, or None."""
        return next((row for row in reversed(self.rows) if row['kind'] == 'epoch'), None)

    def best_epoch(self):
        """The line of the smallest test error, the last of equals, or None."""
        epochs = [row for row in self.rows if row['kind'] == 'epoch']
        return min(reversed(epochs), key=lambda row: row['test_top1_error'], default=None)

    def close(self):
        """Flushes both files."""
        if self._file:
            self._file.close()
            self._board.close()


def read(workdir):
    """The lines of a run's metrics.jsonl; one cut short by a kill is left out."""
    path = Path(workdir) / NAME
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
