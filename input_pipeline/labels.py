"""Label files: which class each image of a flat folder or tar belongs to."""

import csv
import os
import re
from pathlib import Path

import numpy as np

from input_pipeline.classes import WNIDS
from input_pipeline.example import is_image
from runtime.errors import UserError, first_line

_WNID = re.compile(r'n\d{8}')  # a WordNet id
_NUMBER = re.compile(r'[+-]?\d+')
_FILE_COLUMNS = ('file', 'filename', 'file_name', 'image', 'imageid', 'image_id', 'path')
_INDEX_COLUMNS = ('index', 'label', 'class', 'class_index', 'target')
_WNID_COLUMNS = ('wnid', 'synset', 'predictionstring')
_COMPANIONS = ('meta.mat', 'synsets.txt', 'synset_words.txt', 'LOC_synset_mapping.txt')
_VALIDATION = re.compile(r'ILSVRC\d+_val_(\d{8})\.')


def read_labels(path, files, num_classes=None, synsets=None):
    """The labels of image files, read from a label file.

    Forms of the label file, each with or without a header line:

    - lines `FILE LABEL` or `FILE,LABEL`, the label a class number from 0 or a WordNet id (n01440764). A header may name
      further columns: `file,wnid,index,name`; Kaggle's `ImageId,PredictionString` is one of these. FILE may have a
      folder before it or lack its suffix.
    - one label a line, in the order of the file names. Where these are ILSVRC2012_val_NNNNNNNN.JPEG, line N is of
      number N, so that a part of the images does with the whole file. Class numbers count from 0 in the order of the
      sorted WordNet ids. The devkit's ILSVRC2012_validation_ground_truth.txt holds other numbers, ILSVRC ids from 1 in
      an order of its own; it is known by its name, or by numbers from 1 up to the number of classes, and read only with
      the devkit's order.

    The list of all classes is `synsets`, or lies beside the label file: the devkit's meta.mat, or WordNet ids at the
    beginning of the lines of synsets.txt, synset_words.txt or LOC_synset_mapping.txt. It names the classes, translates
    the devkit's ids, and gives WordNet ids their numbers where not every class has an image.

    Args:
      path: the label file.
      files: base names of the images, sorted.
      num_classes: how many classes there are; None takes it from the list of classes or from the labels.
      synsets: WordNet ids in the devkit's order (ILSVRC id 1 first), or in any order where ids do not matter.

    Returns:
      labels int32 [len(files)], in the order of sorted WordNet ids; class names, a tuple: WordNet ids where they are
      known, numbers elsewhere; notes, a list of str, on labels whose images are not there.

    Raises:
      UserError: a line cannot be read, a label is out of range, an image has no label; it names the file and the line.
    """
    rows = _rows(path)
    lists = [list(synsets)] if synsets else _companions(Path(path).parent)
    if _WNID.fullmatch(rows[0][2]):
        numbers, names = _from_wnids(path, rows, num_classes, lists)
    else:
        numbers, names = _from_numbers(path, rows, num_classes, lists)
    labels, absent = _match(path, rows, numbers, files)
    notes = [f'{path} labels {absent:,} images that are not there'] if absent else []
    return labels, names, notes


def _rows(path):
    """Of each line of a label file (line number, file name or None, label, WordNet id beside a number or None)."""
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
    except (OSError, ValueError) as error:
        raise UserError(
            f'no label file can be read at {path} ({first_line(error)}): pass --config.labels=FILE'
        ) from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f'{path} is empty: a label file has a line for each image')
    if ',' in lines[0][1]:
        split = _split_csv
    elif '\t' in lines[0][1]:
        split = _split_tabs
    else:
        split = _split_last
    fields = [(number, split(line)) for number, line in lines]
    width = len(fields[0][1])
    header = not any(map(_is_label, fields[0][1][1:] if width > 1 else fields[0][1]))
    file, label, wnid = (0, 1, None) if width > 1 else (None, 0, None)
    if header:
        titles = [title.lower() for title in fields[0][1]]
        if width > 1:
            file, label, wnid = _columns(titles)
        fields = fields[1:]
    if not fields:
        raise UserError(f'{path} has a header and no labels')
    rows = []
    for number, parts in fields:
        if len(parts) < width:
            raise UserError(f'{path}, line {number}: {len(parts)} fields, and line {lines[0][0]} has {width}')
        tokens = parts[label].split()
        token = tokens[0] if tokens else ''  # Kaggle's label has boxes behind it
        if not _is_label(token):
            raise UserError(f'{path}, line {number}: {token!r} is no class number and no WordNet id')
        rows.append((number, None if file is None else parts[file], token, None if wnid is None else parts[wnid]))
    odd = next((row for row in rows if bool(_WNID.fullmatch(row[2])) != bool(_WNID.fullmatch(rows[0][2]))), None)
    if odd:
        raise UserError(f'{path}, line {odd[0]}: {odd[2]!r}, and line {rows[0][0]} has {rows[0][2]!r}: mixed forms')
    return rows


def _split_csv(line):
    return [field.strip() for field in next(csv.reader([line]))]


def _split_tabs(line):
    return [field.strip() for field in line.split('\t')]


def _split_last(line):
    return line.rsplit(None, 1)  # names of files may have spaces


def _is_label(field):
    token = field.split()[:1]
    return bool(token) and bool(_NUMBER.fullmatch(token[0]) or _WNID.fullmatch(token[0]))


def _columns(titles):
    """Which columns of a file with a header are the file, the label, and a WordNet id beside a class number."""

    def find(names):
        return next((titles.index(name) for name in names if name in titles), None)

    file, index, wnid = find(_FILE_COLUMNS) or 0, find(_INDEX_COLUMNS), find(_WNID_COLUMNS)
    if index is None:
        return file, (1 if file == 0 else 0) if wnid is None else wnid, None
    return file, index, wnid


def _companions(folder):
    """The lists of WordNet ids that lie beside a label file."""
    found = []
    for name in _COMPANIONS:
        path = folder / name
        if path.is_file():
            known = devkit_order(path) if name.endswith('.mat') else _first_words(path)
            found += [known] if known else []
    return found


def _first_words(path):
    words = [
        line.split()[0] for line in path.read_text(encoding='utf-8', errors='replace').splitlines() if line.strip()
    ]
    return words if all(map(_WNID.fullmatch, words)) and len(set(words)) == len(words) else []


def devkit_order(path):
    """The WordNet ids of the devkit's meta.mat by ILSVRC id: its classes, the leaves of WordNet's tree."""
    from scipy.io import loadmat

    try:
        synsets = np.atleast_1d(loadmat(path, squeeze_me=True)['synsets'])
        leaves = synsets[synsets['num_children'].astype(int) == 0]
        return [str(wnid) for wnid in leaves[np.argsort(leaves['ILSVRC2012_ID'].astype(int))]['WNID']]
    except Exception as error:  # SciPy has a dozen for broken files
        raise UserError(
            f"{path} cannot be read as the devkit's ({first_line(error)}); fetch the devkit again"
        ) from None


def ilsvrc_ids(devkit):
    """{class: ILSVRC id} from the devkit's folder or its meta.mat.

    Raises:
      UserError: the devkit is not there, cannot be read, or is of other classes.
    """
    path = Path(devkit)
    found = [path] if path.is_file() else sorted(path.rglob('meta.mat'))
    if not found:
        raise UserError(f'{devkit} holds no meta.mat: --devkit names the folder of the ILSVRC2012 devkit')
    order = devkit_order(found[0])
    if sorted(order) != list(WNIDS):
        raise UserError(f'{found[0]} is not of the 1000 classes of ILSVRC2012')
    return {WNIDS.index(wnid): place + 1 for place, wnid in enumerate(order)}


def _from_wnids(path, rows, num_classes, lists):
    wnids = {row[2] for row in rows}
    lists = [sorted(known) for known in lists if wnids <= set(known)]
    lists.sort(key=lambda known: len(known) != num_classes)  # stable: a fitting one first
    if not lists and num_classes == len(WNIDS) and wnids <= set(WNIDS):
        lists = [list(WNIDS)]
    known = lists[0] if lists else None
    if num_classes in (None, len(wnids)) and (known is None or len(known) != (num_classes or len(known))):
        known = sorted(wnids)
    if known is None:
        raise UserError(
            f'{path} names {len(wnids)} WordNet ids and the config {num_classes} classes: put the list of all '
            f'classes, one WordNet id a line, into {Path(path).with_name("synsets.txt")}, or pass '
            f'--config.num_classes={len(wnids)}'
        )
    rank = {wnid: index for index, wnid in enumerate(known)}
    return [rank[row[2]] for row in rows], tuple(known)


def _from_numbers(path, rows, num_classes, lists):
    numbers = [int(row[2]) for row in rows]
    fitting = [known for known in lists if num_classes in (None, len(known))]
    count = num_classes or (len(fitting[0]) if fitting else None)
    named = 'validation_ground_truth' in Path(path).name
    if rows[0][1] is None and min(numbers) == 1 and (named or max(numbers) == (count or max(numbers))):
        return _from_devkit(path, rows, numbers, lists)
    count, lists = count or max(numbers) + 1, fitting
    for row, number in zip(rows, numbers, strict=True):
        if not 0 <= number < count:
            raise UserError(
                f'{path}, line {row[0]}: the label {number} is out of range: {count} classes (--config.num_classes) '
                f'are 0 to {count - 1}'
            )
    named = dict(enumerate(sorted(lists[0]))) if lists else {}
    for row, number in zip(rows, numbers, strict=True):
        if row[3] and named.setdefault(number, row[3]) != row[3]:
            raise UserError(f'{path}, line {row[0]}: class {number} is {row[3]}, but {named[number]} elsewhere')
    names = [named.get(number, str(number)) for number in range(count)]
    return numbers, tuple(names)


def _from_devkit(path, rows, numbers, lists):
    order = next((known for known in lists if list(known) != sorted(known)), None)
    if order is None:
        raise UserError(
            f"{path} holds numbers from 1, the devkit's ILSVRC ids, whose order is not that of the sorted WordNet ids: "
            "put the devkit's meta.mat beside it, or a synsets.txt with the WordNet ids in that order, one a line"
        )
    rank = {wnid: index for index, wnid in enumerate(sorted(order))}
    for row, number in zip(rows, numbers, strict=True):
        if not 1 <= number <= len(order):
            raise UserError(f'{path}, line {row[0]}: the ILSVRC id {number} is out of range: 1 to {len(order)}')
    return [rank[order[number - 1]] for number in numbers], tuple(sorted(order))


def _match(path, rows, numbers, files):
    """The labels of the files, and how many labels are of none of them."""
    labels = np.full(len(files), -1, np.int32)
    if rows[0][1] is None:
        found = [_VALIDATION.match(name) for name in files]
        places = [int(match[1]) - 1 for match in found] if all(found) else list(range(len(files)))
        if not all(found) and len(rows) != len(files):
            raise UserError(
                f'{path} has {len(rows):,} labels for {len(files):,} images; it needs one for each, in order'
            )
        beyond = next((name for name, place in zip(files, places, strict=True) if not 0 <= place < len(rows)), None)
        if beyond:
            raise UserError(f'{path} has {len(rows):,} labels, and none for {beyond}')
        labels[:] = np.asarray(numbers, np.int32)[places]
        return labels, len(rows) - len(files)
    place = {os.path.splitext(name)[0]: i for i, name in enumerate(files)} | {name: i for i, name in enumerate(files)}
    absent = 0
    for (line, file, *_), number in zip(rows, numbers, strict=True):
        name = os.path.basename(file)
        i = place.get(name)
        if i is None or (is_image(name) and files[i] != name):
            absent += 1
        elif labels[i] not in (-1, number):
            raise UserError(f'{path}, line {line}: {name} has a second label, {number} besides {labels[i]}')
        else:
            labels[i] = number
    missing = np.flatnonzero(labels < 0)
    if len(missing):
        raise UserError(f'{path} has no label for {files[missing[0]]} ({len(missing):,} of {len(files):,} images)')
    return labels, absent
