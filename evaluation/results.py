"""Turn log-probabilities into errors: one row per image, and the sums over rows."""

import collections
import csv
import json
import math
import os
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from input_pipeline import fingerprint
from runtime import foreign, system
from runtime.errors import UserError
from runtime.files import atomic_file

_Z = 1.959964  # normal quantile for a 95% interval
TOP = 5
BINS = 15  # of the calibration error: Guo et al. 2017, section 2
_FEW_BYTES, _ROW_BYTES = 1 << 20, 4096  # of a partial evaluation: in all, and for each image at most


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
      'num_examples', 'loss', 'bad_images', 'left_out'}, and the keys of `calibration`.

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
    return errors | calibration(read)


def calibration(rows, bins=BINS):
    """Return how well the probability of the predicted class says whether it is right (Guo et al. 2017, section 2).

    The images are grouped by the probability of their predicted class, their confidence, in bins of equal width that
    include their upper end. The expected calibration error is the mean, over the images, of the difference between the
    accuracy and the mean confidence of their bin. As in the top-1 error, a tie is wrong.

    Args:
      rows: list of `Row` of images that could be read.
      bins: number of bins.

    Returns:
      {'ece': the expected calibration error; 'confidence': mean confidence; 'reliability': [{'low', 'high' (ends of the
      bin), 'num_examples', 'confidence', 'accuracy'}] of the bins with images}, in percent. If an output of the
      network is not a number: None, None and [].
    """
    confidence = np.array([r.probabilities[0] for r in rows])
    if not np.all(np.isfinite(confidence)):
        return {'ece': None, 'confidence': None, 'reliability': []}
    places = np.clip(np.ceil(bins * confidence).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    right = np.bincount(places, [r.rank == 0 for r in rows], bins)
    expected = np.bincount(places, confidence, bins)
    reliability = [
        {
            'low': 100 * k / bins,
            'high': 100 * (k + 1) / bins,
            'num_examples': int(counts[k]),
            'confidence': 100 * float(expected[k] / counts[k]),
            'accuracy': 100 * float(right[k] / counts[k]),
        }
        for k in np.flatnonzero(counts).tolist()
    ]
    return {
        'ece': 100 * float(np.sum(np.abs(right - expected)) / len(rows)),
        'confidence': 100 * float(np.mean(confidence)),
        'reliability': reliability,
    }


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


def confusion_matrix(rows, num_classes):
    """Return the confusion matrix, int [true class, predicted class], of the images that could be read.

    Args:
      rows: list of `Row`.
      num_classes: number of classes.
    """
    counts = np.zeros((num_classes, num_classes), int)
    for row in rows:
        if row.counts and row.rank >= 0:
            wrong = (number for number in row.classes if number != row.label)  # the first may have an equal score
            counts[row.label, row.label if row.rank == 0 else next(wrong)] += 1
    return counts


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


class _Saved(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A `Row` as JSON."""

    index: Annotated[int, msgspec.Meta(ge=0)]
    name: str
    label: Annotated[int, msgspec.Meta(ge=-1, lt=2**31)]
    rank: Annotated[int, msgspec.Meta(ge=-1, lt=2**31)]
    loss: float
    classes: list[Annotated[int, msgspec.Meta(ge=0, lt=2**31)]]
    probabilities: list[float]
    counts: bool


class Partial:
    """A file of finished rows from which an interrupted evaluation can resume; use it as a context manager.

    The first line identifies the evaluation (a dict); a file of another evaluation is refused. The file is locked until
    the end of the `with` block, and stays until the caller removes it, unless it has no rows.

    Args:
      path: the file.
      identity: see above; JSON values.
      resume: whether to continue a file that exists.
      numbers: the indices of the images that are evaluated: each row is of one of them, once.

    Raises:
      UserError: the file exists and `resume` is false, another process writes it, or it is of another evaluation or
        damaged.
    """

    def __init__(self, path, identity, resume, numbers):
        self.path, self.identity, self.rows = path, identity, []
        self.file = self._open(resume, _FEW_BYTES + _ROW_BYTES * len(numbers))
        try:
            if resume and os.fstat(self.file.fileno()).st_size:
                self.rows = self._read(numbers)
            else:
                self._write(identity)
        except BaseException:
            self.file.close()
            raise

    def _open(self, resume, at_most):
        """Return the file, opened for reading and appending, and locked."""
        while True:
            if os.path.exists(self.path):
                foreign.open_regular(self.path, at_most).close()  # not a FIFO, which would never open
            file = open(self.path, 'a+b')  # noqa: SIM115  (closed by `__exit__`)
            try:
                system.lock(file.fileno())
                status = os.fstat(file.fileno())
                if status.st_size and not resume:
                    raise UserError(
                        f'{self.path} holds an interrupted evaluation: pass --resume to continue it, or remove the file'
                    )
                if os.path.exists(self.path) and os.path.samestat(status, os.stat(self.path)):
                    return file
            except BlockingIOError:
                file.close()
                raise UserError(f'another process evaluates the same and writes {self.path}: wait for it') from None
            except BaseException:
                file.close()
                raise
            file.close()  # the process that had locked it has removed it

    def _read(self, numbers):
        self.file.seek(0)
        first, *lines = self.file.read().splitlines(keepends=True)
        try:
            saved = foreign.parse_json(first, dict[str, Any], self.path, 'a file of an interrupted evaluation')
            for key in self.identity:
                if saved.get(key) != self.identity[key]:
                    raise UserError(f'{self.path} is of another evaluation: {self._difference(key, saved.get(key))}')
            complete = [line for line in lines if line.endswith(b'\n')]
            rows = [
                foreign.parse_json(line, _Saved, f'line {number} of {self.path}', 'a row of an evaluation')
                for number, line in enumerate(complete, start=2)
            ]
            seen = set()
            for row in rows:
                if row.index in seen or row.index not in numbers:
                    problem = 'occurs twice' if row.index in seen else 'is not evaluated here'
                    raise UserError(f'{self.path} is damaged: image {row.index} {problem}')
                seen.add(row.index)
        except UserError as error:
            raise UserError(f'{error}; remove the file to start over') from None
        if len(complete) < len(lines):  # the last line was cut off
            self.file.truncate(len(first) + sum(map(len, complete)))
        return [row_of(msgspec.to_builtins(row)) for row in rows]

    def _difference(self, key, saved):
        current = self.identity[key]
        if isinstance(saved, dict) and isinstance(current, dict):
            return fingerprint.differences(saved, current) or f'{key} differs'
        return f'{key} was {saved!r} and is now {current!r}'

    def _write(self, value):
        self.file.write(json.dumps(value).encode() + b'\n')
        self.file.flush()

    def add(self, row):
        """Append a row."""
        self.rows.append(row)
        self._write(list(row))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if not self.rows:
            os.unlink(self.path)  # before the lock is released
        self.file.close()


def check_complete(rows, count):
    """Raise UserError unless there is one row for each of the images 0 to count - 1."""
    if sorted(row.index for row in rows) != list(range(count)):
        different = len({row.index for row in rows})
        raise UserError(
            f'{len(rows):,} results of {different:,} images, but the split has {count:,}: remove the files '
            'evaluation_*.partial and evaluate again'
        )


def row_of(values):
    """Return the `Row` of values read from JSON."""
    return Row(*values[:5], tuple(values[5]), tuple(values[6]), values[7])
