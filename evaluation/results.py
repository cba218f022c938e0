"""Turn log-probabilities into errors: one row per image, and the sums over rows."""

import collections
import csv
import json
import math
import os
from typing import NamedTuple

import numpy as np

from runtime.errors import UserError
from runtime.files import atomic_file

_Z = 1.959964  # normal quantile for a 95% interval
TOP = 5


class Row(NamedTuple):
    """Result of one image.

    Fields:
      index: index in the split.
      name: name of its file, or its index.
      label: its class, or -1 if it has none.
      rank: number of other classes that score at least as high as its own (ties and NaN scores count against the
        network); -1 if the image could not be read.
      loss: negative log-probability of its class.
      classes, probabilities: the best five.
      counts: False if the label set leaves the image out.
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
    """Return the `Row` of an image.

    Args:
      index, name, label: see `Row`.
      logs: float [K], the log-probabilities of the classes; None if the image could not be read.
      accepted: the right classes, if there can be several (ReaL); () leaves the image out.
    """
    if logs is None:
        return Row(index, name, label, -1, 0.0, (), ())
    order = np.argsort(-logs, kind='stable')[:TOP]
    classes = tuple(int(number) for number in order)
    values = tuple(math.exp(logs[number]) for number in order)
    right = [label] if accepted is None else list(accepted)
    if not right:
        return Row(index, name, label, 0, 0.0, classes, values, False)
    best = float(max(logs[number] for number in right))
    rank = len(logs) - int(np.sum(logs < best)) - int(np.sum(logs[right] >= best))
    return Row(index, name, label, rank, -best, classes, values)


def summary(rows):
    """Return the errors of a list of rows.

    An image that could not be read counts as wrong: it is in the denominator.

    Returns:
      {'top1_error', 'top5_error' (percent), 'top1_interval', 'top5_interval' (95%, Wilson), 'wrong_top1', 'wrong_top5',
      'num_examples', 'loss', 'bad_images', 'left_out'}.

    Raises:
      UserError: if none of the images could be read.
    """
    counted = [r for r in rows if r.counts]
    read = [r for r in counted if r.rank >= 0]
    if not read:
        raise UserError('no image of the test split could be read')
    total = len(counted)
    loss = sum(r.loss for r in read) / len(read)
    errors = {'num_examples': total, 'loss': loss if math.isfinite(loss) else None}
    for name, k in (('top1', 1), ('top5', TOP)):
        wrong = sum(not 0 <= r.rank < k for r in counted)
        errors[f'wrong_{name}'], errors[f'{name}_error'] = wrong, 100 * wrong / total
        errors[f'{name}_interval'] = [100 * bound for bound in wilson(wrong, total)]
    errors['bad_images'] = total - len(read)
    errors['left_out'] = len(rows) - total
    return errors


def wilson(wrong, total):
    """Return the 95% interval (low, high) of a proportion (Wilson 1927)."""
    share, square = wrong / total, _Z**2 / total
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / total + square / 4 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def by_class(rows, names):
    """Return [(class, its name, images, top-1 error in percent)], worst first."""
    counts = collections.Counter(r.label for r in rows if r.counts)
    wrong = collections.Counter(r.label for r in rows if r.counts and r.rank != 0)
    errors = [(label, names[label], count, 100 * wrong[label] / count) for label, count in counts.items()]
    return sorted(errors, key=lambda entry: (-entry[3], entry[0]))


def confusions(rows, names):
    """Return [(true class, predicted class, count)], by name, most frequent first."""
    pairs = collections.Counter((r.label, r.classes[0]) for r in rows if r.counts and r.rank > 0)
    return [(names[true], names[predicted], count) for (true, predicted), count in pairs.most_common()]


def details(rows, names):
    """Return {'classes': error of each class, worst first; 'confusions': confused pairs, most frequent first}."""
    return {
        'classes': [
            {'class': label, 'name': name, 'num_examples': count, 'top1_error': error}
            for label, name, count, error in by_class(rows, names)
        ],
        'confusions': [
            {'true': true, 'predicted': predicted, 'count': count} for true, predicted, count in confusions(rows, names)
        ],
    }


def write_predictions(path, rows, names):
    """Write a CSV file with one line per image: file, label, and the best five classes with names and probabilities."""
    columns = [f'{column}{k}' for k in range(1, TOP + 1) for column in ('class', 'name', 'probability')]
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
    """Write ILSVRC's submission file: one line per image, ordered by file name, with five ILSVRC ids, best first."""
    with atomic_file(path) as file:
        for r in sorted(rows, key=lambda r: r.name):
            file.write(' '.join(str(ids[label]) for label in r.classes) + '\n')


class Partial:
    """A file of finished rows from which an interrupted evaluation can resume; use it as a context manager.

    The first line identifies the evaluation (a dict); a file of another evaluation is refused. The file stays until
    the caller removes it, unless it has no rows.
    """

    def __init__(self, path, identity, resume):
        self.path, self.identity, self.rows = path, identity, []
        exists = os.path.exists(path)
        if exists and not resume:
            raise UserError(f'{path} holds an interrupted evaluation: pass --resume to continue it, or remove the file')
        if exists:
            self.rows = self._read()
        self.file = open(path, 'a')  # noqa: SIM115  (closed by `__exit__`)
        if not exists:
            self._write(identity)

    def _read(self):
        with open(self.path) as file:
            lines = file.read().splitlines(keepends=True)
        try:
            saved = json.loads(lines[0])
        except (IndexError, ValueError):
            raise UserError(f'{self.path} is not a file of an interrupted evaluation: remove it') from None
        for key in self.identity:
            if saved.get(key) != self.identity[key]:
                raise UserError(
                    f'{self.path} is of another evaluation: {key} was {saved.get(key)!r} and is now '
                    f'{self.identity[key]!r}; remove the file to start over'
                )
        complete = [line for line in lines[1:] if line.endswith('\n')]
        if len(complete) < len(lines) - 1 or not lines[0].endswith('\n'):  # the last line was cut off
            with open(self.path, 'r+') as file:
                file.truncate(sum(len(line.encode()) for line in lines if line.endswith('\n')))
        return [row_of(json.loads(line)) for line in complete]

    def _write(self, value):
        self.file.write(json.dumps(value) + '\n')
        self.file.flush()

    def add(self, row):
        """Append a row."""
        self.rows.append(row)
        self._write(list(row))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.file.close()
        if not self.rows:
            os.unlink(self.path)


def row_of(values):
    """Return the `Row` of values read from JSON."""
    return Row(*values[:5], tuple(values[5]), tuple(values[6]), values[7])
