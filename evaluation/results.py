"""From the log-probabilities of an image to errors: a row an image, and what rows add up to."""

import collections
import csv
import json
import math
import os
from typing import NamedTuple

import numpy as np

from runtime.errors import UserError
from runtime.files import atomic_file

_Z = 1.959964  # of a 95% interval
TOP = 5


class Row(NamedTuple):
    """An image's result.

    Fields:
      index: its number in the split.
      name: of its file, or its number.
      label: its class, -1 where it has none.
      rank: how many other classes score at least as high as its own: a tie counts against the network, and so does a
        score that is no number; -1 for an image that could not be read.
      loss: -log of the probability of its class.
      classes, probabilities: the best five.
      counts: False where the label set leaves it out.
    """

    index: int
    name: str
    label: int
    rank: int
    loss: float
    classes: tuple
    probabilities: tuple
    counts: bool = True


def row(index, name, label, logs, accepted=None):
    """The row of an image.

    Args:
      index, name, label: of the image.
      logs: float [K], the logarithms of its classes' probabilities; None for an image that could not be read.
      accepted: classes that are right, where there are several (ReaL); () leaves the image out.
    """
    if logs is None:
        return Row(index, name, label, -1, 0.0, (), ())
    order = np.argsort(-logs, kind='stable')[:TOP]
    classes = tuple(int(number) for number in order)
    values = tuple(math.exp(logs[number]) for number in order)
    right = [label] if accepted is None else list(accepted)
    if not right:
        return Row(index, name, label, 0, 0.0, classes, values, False)
    own = float(max(logs[number] for number in right))
    rank = len(logs) - int(np.sum(logs < own)) - int(np.sum(logs[right] >= own))
    return Row(index, name, label, rank, -own, classes, values)


def summary(rows):
    """{'top1_error', 'top5_error' (per cent), 'top1_interval', 'top5_interval' (95%, Wilson), 'wrong_top1',
    'wrong_top5', 'num_examples', 'loss', 'bad_images', 'left_out'} of rows.

    An image that could not be read counts as wrong: it is in the denominator.

    Raises:
      UserError: no image of them could be read.
    """
    counted = [r for r in rows if r.counts]
    read = [r for r in counted if r.rank >= 0]
    if not read:
        raise UserError('no image of the test split could be read')
    total = len(counted)
    loss = sum(r.loss for r in read) / len(read)
    found = {'num_examples': total, 'loss': loss if math.isfinite(loss) else None}
    for name, k in (('top1', 1), ('top5', TOP)):
        wrong = sum(not 0 <= r.rank < k for r in counted)
        found[f'wrong_{name}'], found[f'{name}_error'] = wrong, 100 * wrong / total
        found[f'{name}_interval'] = [100 * bound for bound in wilson(wrong, total)]
    found['bad_images'] = total - len(read)
    found['left_out'] = len(rows) - total
    return found


def wilson(wrong, total):
    """The 95% interval of a proportion (Wilson 1927): (low, high)."""
    share, square = wrong / total, _Z**2 / total
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / total + square / 4 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def by_class(rows, names):
    """[(class, its name, images, top-1 error in per cent)], worst first."""
    counts = collections.Counter(r.label for r in rows if r.counts)
    wrong = collections.Counter(r.label for r in rows if r.counts and r.rank != 0)
    found = [(label, names[label], count, 100 * wrong[label] / count) for label, count in counts.items()]
    return sorted(found, key=lambda entry: (-entry[3], entry[0]))


def confusions(rows, names):
    """[(name of the true class, name of the predicted, how often)], most often first."""
    pairs = collections.Counter((r.label, r.classes[0]) for r in rows if r.counts and r.rank > 0)
    return [(names[true], names[said], count) for (true, said), count in pairs.most_common()]


def details(rows, names):
    """{'classes': the error of each, worst first; 'confusions': the confused pairs, most often first}."""
    return {
        'classes': [
            {'class': label, 'name': name, 'num_examples': count, 'top1_error': error}
            for label, name, count, error in by_class(rows, names)
        ],
        'confusions': [
            {'true': true, 'predicted': said, 'count': count} for true, said, count in confusions(rows, names)
        ],
    }


def write_predictions(path, rows, names):
    """A CSV file, a row an image: file, label, and the best five classes with their names and probabilities."""
    columns = [f'{what}{k}' for k in range(1, TOP + 1) for what in ('class', 'name', 'probability')]
    with atomic_file(path) as file:
        writer = csv.writer(file)
        writer.writerow(['file', 'label', *columns])
        for r in sorted(rows):
            best = [
                value
                for label, probability in zip(r.classes, r.probabilities, strict=True)
                for value in (label, names[label], f'{probability:.6f}')
            ]
            writer.writerow([r.name, r.label, *best])


def write_submission(path, rows, ids):
    """ILSVRC's form: a line an image in the order of file names, five ILSVRC ids, best first."""
    with atomic_file(path) as file:
        for r in sorted(rows, key=lambda r: r.name):
            file.write(' '.join(str(ids[label]) for label in r.classes) + '\n')


class Partial:
    """Rows on the disk as they come, so that an interrupted evaluation goes on; use it in a `with`.

    The file stays until someone removes it, except where it has no row. The first line says what is evaluated (a dict);
    a file that says otherwise is not gone on with.
    """

    def __init__(self, path, what, resume):
        self.path, self.what, self.rows = path, what, []
        there = os.path.exists(path)
        if there and not resume:
            raise UserError(f'{path} holds an interrupted evaluation: pass --resume to go on with it, or remove it')
        if there:
            self.rows = self._read()
        self.file = open(path, 'a')  # noqa: SIM115  (closed by `__exit__`)
        if not there:
            self._write(what)

    def _read(self):
        with open(self.path) as file:
            lines = file.read().splitlines(keepends=True)
        try:
            found = json.loads(lines[0])
        except (IndexError, ValueError):
            raise UserError(f'{self.path} is no interrupted evaluation of ours: remove it') from None
        for key in self.what:
            if found.get(key) != self.what[key]:
                raise UserError(
                    f'{self.path} is of another evaluation: {key} was {found.get(key)!r} and is {self.what[key]!r}; '
                    'remove it to begin anew'
                )
        whole = [line for line in lines[1:] if line.endswith('\n')]
        if len(whole) < len(lines) - 1 or not lines[0].endswith('\n'):  # the last one was cut off
            with open(self.path, 'r+') as file:
                file.truncate(sum(len(line.encode()) for line in lines if line.endswith('\n')))
        return [row_of(json.loads(line)) for line in whole]

    def _write(self, value):
        self.file.write(json.dumps(value) + '\n')
        self.file.flush()

    def add(self, row):
        """Keeps a row."""
        self.rows.append(row)
        self._write(list(row))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.file.close()
        if not self.rows:
            os.unlink(self.path)


def row_of(values):
    """The row whose values, as JSON has them, these are."""
    return Row(*values[:5], tuple(values[5]), tuple(values[6]), values[7])
