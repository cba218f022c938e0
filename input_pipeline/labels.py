"""Label files: which class each image of a flat folder or tar belongs to."""

import csv
import os
import re
from pathlib import Path

import numpy as np

from input_pipeline import matlab
from input_pipeline.classes import WNIDS
from input_pipeline.example import is_image
from runtime import foreign
from runtime.errors import UserError

MAX_LIST_BYTES = 256 << 20  # of a file of labels: ten times Kaggle's largest for ImageNet
_MAX_CLASSES = 100_000  # where neither the config nor a list says how many there are
_WNID = re.compile(r'n\d{8}')  # a WordNet id
_NUMBER = re.compile(r'[+-]?\d+')
_FILE_COLUMNS = ('file', 'filename', 'file_name', 'image', 'imageid', 'image_id', 'path')
_INDEX_COLUMNS = ('index', 'label', 'class', 'class_index', 'target')
_WNID_COLUMNS = ('wnid', 'synset', 'predictionstring')
_COMPANIONS = ('meta.mat', 'synsets.txt', 'synset_words.txt', 'LOC_synset_mapping.txt')
_VALIDATION = re.compile(r'ILSVRC\d+_val_(\d{8})\.')


def read_labels(path, files, num_classes=None, synsets=None):
    """Read the labels of image files from a label file.

    Formats, each with or without a header line:

    - Lines `FILE LABEL` or `FILE,LABEL`; the label is a class number from 0 or a WordNet id (n01440764). A header may
      name more columns: `file,wnid,index,name`, or Kaggle's `ImageId,PredictionString`. FILE may include a folder, or
      lack its suffix.
    - One label per line, in the order of the file names. If these are ILSVRC2012_val_NNNNNNNN.JPEG, line N belongs to
      number N, so that the full label file also works for some of the images. Class numbers count from 0 in the order
      of the sorted WordNet ids. The devkit's ILSVRC2012_validation_ground_truth.txt has other numbers, the ILSVRC ids
      from 1 in the devkit's order. It is recognized by its name, or by numbers from 1 up to the number of classes, and
      is read only if the devkit's order is known.

    The list of all classes is `synsets`, or a file next to the label file: the devkit's meta.mat, or WordNet ids at the
    beginning of each line of synsets.txt, synset_words.txt or LOC_synset_mapping.txt. It gives the classes their names,
    translates the devkit's ids, and numbers WordNet ids correctly if some classes have no image.

    Args:
      path: the label file.
      files: base names of the images, sorted.
      num_classes: number of classes; None takes it from the list of classes or from the labels.
      synsets: WordNet ids in the devkit's order (ILSVRC id 1 first), or in any order if there are no ILSVRC ids.

    Returns:
      labels int32 [len(files)], in the order of sorted WordNet ids; a tuple of class names: WordNet ids if they are
      known, else numbers; a list of notes about labels whose images are missing.

    Raises:
      UserError: a line cannot be read, a label is out of range, or an image has no label; the message names the file
        and the line.
    """
    rows = _rows(path)
    lists = [list(synsets)] if synsets else _companions(Path(path).parent)
    if _WNID.fullmatch(rows[0][2]):
        numbers, names = _from_wnids(path, rows, num_classes, lists)
    else:
        numbers, names = _from_numbers(path, rows, num_classes, lists)
    labels, absent = _match(path, rows, numbers, files)
    notes = [f'{path} has labels for {absent:,} missing images'] if absent else []
    return labels, names, notes


def _rows(path):
    """Return (line number, file name or None, label, WordNet id that goes with a number or None) of each line."""
    with foreign.parsing(path, 'a label file', 'pass --config.labels=FILE'):
        text = foreign.read_regular(path, MAX_LIST_BYTES).decode('utf-8-sig')
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f'{path} is empty: a label file needs one line for each image')
    if ',' in lines[0][1]:
        split = _split_csv
    elif '\t' in lines[0][1]:
        split = _split_tabs
    else:
        split = _split_last
    with foreign.parsing(path, 'a label file', 'pass --config.labels=FILE'):
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
        raise UserError(f'{path} has a header but no labels')
    rows = []
    for number, parts in fields:
        if len(parts) < width:
            raise UserError(f'{path}, line {number}: {len(parts)} fields, but line {lines[0][0]} has {width}')
        tokens = parts[label].split()
        token = tokens[0] if tokens else ''  # in Kaggle's file boxes follow the label
        if not _is_label(token):
            raise UserError(f'{path}, line {number}: {token!r} is neither a class number nor a WordNet id')
        rows.append((number, None if file is None else parts[file], token, None if wnid is None else parts[wnid]))
    odd = next((row for row in rows if bool(_WNID.fullmatch(row[2])) != bool(_WNID.fullmatch(rows[0][2]))), None)
    if odd:
        raise UserError(
            f'{path}, line {odd[0]}: {odd[2]!r}, but line {rows[0][0]} has {rows[0][2]!r}: use numbers or ids, not both'
        )
    return rows


def _split_csv(line):
    return [field.strip() for field in next(csv.reader([line]))]


def _split_tabs(line):
    return [field.strip() for field in line.split('\t')]


def _split_last(line):
    return line.rsplit(None, 1)  # file names may contain spaces


def _is_label(field):
    token = field.split()[:1]
    return bool(token) and bool(_NUMBER.fullmatch(token[0]) or _WNID.fullmatch(token[0]))


def _columns(titles):
    """Return the indices of the columns with the file, the label, and a WordNet id that goes with a class number."""

    def find(names):
        return next((titles.index(name) for name in names if name in titles), None)

    file, index, wnid = find(_FILE_COLUMNS) or 0, find(_INDEX_COLUMNS), find(_WNID_COLUMNS)
    if index is None:
        return file, (1 if file == 0 else 0) if wnid is None else wnid, None
    return file, index, wnid


def _companions(folder):
    """Return the lists of WordNet ids in the files next to a label file."""
    lists = []
    for name in _COMPANIONS:
        path = folder / name
        if path.is_file():
            wnids = devkit_order(path) if name.endswith('.mat') else _first_words(path)
            lists += [wnids] if wnids else []
    return lists


def _first_words(path):
    words = [
        line.split()[0]
        for line in foreign.read_regular(path, MAX_LIST_BYTES).decode(errors='replace').splitlines()
        if line.strip()
    ]
    return words if all(map(_WNID.fullmatch, words)) and len(set(words)) == len(words) else []


def devkit_order(path):
    """Return the WordNet ids of the devkit's meta.mat by ILSVRC id: its classes, the leaves of WordNet's tree."""
    with foreign.parsing(path, "the devkit's meta.mat", 'fetch the devkit again'):
        synsets = matlab.read_structs(path, 'synsets', ('ILSVRC2012_ID', 'WNID', 'num_children'))
        leaves = {synset['ILSVRC2012_ID']: synset['WNID'] for synset in synsets if synset['num_children'] == 0}
        wnids = [leaves[number] for number in range(1, len(leaves) + 1)]
        if not wnids or len(set(wnids)) < len(wnids) or not all(map(_WNID.fullmatch, wnids)):
            raise ValueError('its classes are not different WordNet ids')
    return wnids


def ilsvrc_ids(devkit):
    """Return {class number: ILSVRC id}, from the devkit's folder or its meta.mat.

    Raises:
      UserError: the devkit is missing, cannot be read, or has other classes.
    """
    path = Path(devkit)
    files = [path] if path.is_file() else sorted(path.rglob('meta.mat'))
    if not files:
        raise UserError(f'{devkit} contains no meta.mat: pass --devkit FOLDER, the folder of the ILSVRC2012 devkit')
    order = devkit_order(files[0])
    if sorted(order) != list(WNIDS):
        raise UserError(f'{files[0]} does not have the 1000 classes of ILSVRC2012')
    return {WNIDS.index(wnid): index + 1 for index, wnid in enumerate(order)}


def _from_wnids(path, rows, num_classes, lists):
    label_wnids = {row[2] for row in rows}
    lists = [sorted(wnids) for wnids in lists if label_wnids <= set(wnids)]
    lists.sort(key=lambda wnids: len(wnids) != num_classes)  # stable: lists with the right number of classes first
    if not lists and num_classes == len(WNIDS) and label_wnids <= set(WNIDS):
        lists = [list(WNIDS)]
    class_names = lists[0] if lists else None
    fits = class_names is not None and num_classes in (None, len(class_names))
    if num_classes in (None, len(label_wnids)) and not fits:
        class_names = sorted(label_wnids)
    if class_names is None:
        raise UserError(
            f'{path} names {len(label_wnids)} WordNet ids but the config has {num_classes} classes: put the list of '
            f'all classes, one WordNet id per line, into {Path(path).with_name("synsets.txt")}, or pass '
            f'--config.num_classes={len(label_wnids)}'
        )
    number_of = {wnid: number for number, wnid in enumerate(class_names)}
    return [number_of[row[2]] for row in rows], tuple(class_names)


def _from_numbers(path, rows, num_classes, lists):
    with foreign.parsing(path, 'a label file'):
        numbers = [int(row[2]) for row in rows]
    fitting = [wnids for wnids in lists if num_classes in (None, len(wnids))]
    count = num_classes or (len(fitting[0]) if fitting else None)
    is_devkits = 'validation_ground_truth' in Path(path).name
    if rows[0][1] is None and min(numbers) == 1 and (is_devkits or max(numbers) == (count or max(numbers))):
        return _from_devkit(path, rows, numbers, lists)
    count, lists = count or min(max(numbers) + 1, _MAX_CLASSES), fitting
    for row, number in zip(rows, numbers, strict=True):
        if not 0 <= number < count:
            raise UserError(
                f'{path}, line {row[0]}: the label {number} is out of range: {count} classes (--config.num_classes) '
                f'are 0 to {count - 1}'
            )
    name_of = dict(enumerate(sorted(lists[0]))) if lists else {}
    for row, number in zip(rows, numbers, strict=True):
        if row[3] and name_of.setdefault(number, row[3]) != row[3]:
            raise UserError(f'{path}, line {row[0]}: class {number} is {row[3]}, but {name_of[number]} elsewhere')
    names = [name_of.get(number, str(number)) for number in range(count)]
    return numbers, tuple(names)


def _from_devkit(path, rows, numbers, lists):
    order = next((wnids for wnids in lists if list(wnids) != sorted(wnids)), None)
    if order is None:
        raise UserError(
            f"{path} has numbers from 1, the devkit's ILSVRC ids, whose order is not that of the sorted WordNet ids: "
            "put the devkit's meta.mat next to it, or a synsets.txt with the WordNet ids in that order, one per line"
        )
    rank = {wnid: index for index, wnid in enumerate(sorted(order))}
    for row, number in zip(rows, numbers, strict=True):
        if not 1 <= number <= len(order):
            raise UserError(f'{path}, line {row[0]}: the ILSVRC id {number} is out of range: 1 to {len(order)}')
    return [rank[order[number - 1]] for number in numbers], tuple(sorted(order))


def _match(path, rows, numbers, files):
    """Return the labels of the files, and the number of labels whose file is missing."""
    labels = np.full(len(files), -1, np.int32)
    if rows[0][1] is None:
        matches = [_VALIDATION.match(name) for name in files]
        indices = [int(match[1]) - 1 for match in matches] if all(matches) else list(range(len(files)))
        if not all(matches) and len(rows) != len(files):
            raise UserError(
                f'{path} has {len(rows):,} labels for {len(files):,} images; it needs one for each, in order'
            )
        unlabeled = next((name for name, i in zip(files, indices, strict=True) if not 0 <= i < len(rows)), None)
        if unlabeled:
            raise UserError(f'{path} has {len(rows):,} labels, but none for {unlabeled}')
        labels[:] = np.asarray(numbers, np.int32)[indices]
        return labels, len(rows) - len(files)
    index_of = {os.path.splitext(name)[0]: i for i, name in enumerate(files)}
    index_of |= {name: i for i, name in enumerate(files)}
    absent = 0
    for (line, file, *_), number in zip(rows, numbers, strict=True):
        name = os.path.basename(file)
        i = index_of.get(name)
        if i is None or (is_image(name) and files[i] != name):
            absent += 1
        elif labels[i] not in (-1, number):
            raise UserError(f'{path}, line {line}: {name} has two different labels, {labels[i]} and {number}')
        else:
            labels[i] = number
    missing = np.flatnonzero(labels < 0)
    if len(missing):
        raise UserError(f'{path} has no label for {files[missing[0]]} ({len(missing):,} of {len(files):,} images)')
    return labels, absent
