"""Sources: one random-access interface to every kind of data set.

A source has a length, and `source[i]` returns an `Example`, or raises OSError or ValueError if it cannot be read.
`source.class_names` are its classes, `source.name` describes it, and `source.notes` are lines for the user (about
missing or skipped files). If `source.numbered`, a class name that is the class's number means that the class has no
name (`classes.known_names`). `ArraySource` keeps its images in memory, and the loader puts them on the device. The
other sources read one record at a time, from any number of threads, and their pickles are small enough for workers.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from input_pipeline import fingerprint
from input_pipeline.example import (
    Example,
    check_label,
    check_split,
    empty_classes,
    is_class,
    is_image,
    list_some,
    read_image,
    skipped_note,
)
from input_pipeline.labels import MAX_LIST_BYTES, read_labels
from runtime import foreign
from runtime.errors import UserError, first_line

ANNOTATIONS = 'val_annotations.txt'  # Tiny-ImageNet's
LABEL_FILES = ('labels.csv', 'labels.txt')


class FolderSource:
    """A folder of class folders, `FOLDER/CLASS/IMAGE`, PyTorch's usual layout.

    Classes are the folders in sorted order. Images are in the order of their names and include those in subfolders of
    the class folders. Links are followed, except to a folder that contains them. All else (hidden files, other kinds of
    files, images next to the class folders, archivers' files) is counted and named in `notes`. A class without images
    is an error, or with `on_bad_image='skip'` a class without examples and a note.

    Raises:
      UserError: no such folder, no images, or a class without images.
    """

    numbered = False

    def __init__(self, folder, on_bad_image='stop'):
        self._open(folder, 'SPLIT/CLASS/IMAGE')
        classes, images, others = _list(self.folder)
        if not classes and images:
            raise UserError(
                f'{folder} contains images but no class folders: pass --config.labels=FILE, a file with their labels'
            )
        others += images
        files_by_class = [_images_below(self.folder, name, others) for name in classes]
        # 1.28 million names as Python strings would take a quarter of a gigabyte in every process.
        self.files = np.array([os.fsencode(file) for files in files_by_class for file in files], np.bytes_)
        self.labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(files) for files in files_by_class])
        self.class_names = tuple(classes)
        if not len(self.files):
            message = f'{folder} contains no images: it needs one folder per class with images in it'
            raise UserError('. '.join([message, *skipped_note(self.folder, others)]))
        self.notes = empty_classes(self.labels, classes, self.folder, on_bad_image, others)
        self.notes += _sorted_as_text(classes) + skipped_note(self.folder, others)

    def _open(self, folder, layout):
        self.folder = self.name = str(folder)
        if not os.path.isdir(self.folder):
            siblings = _list(os.path.dirname(self.folder) or '.')[0] if os.path.isdir(Path(folder).parent) else []
            advice = f'no folder {folder}: pass --config.data_dir=FOLDER, which contains {layout}'
            if 0 < len(siblings) < 10:
                advice += f', or an existing split (--config.train_split, --config.test_split): {", ".join(siblings)}'
            raise UserError(advice)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path = os.path.join(self.folder, os.fsdecode(self.files[index]))
        return Example(read_image(path), int(self.labels[index]), path)

    def select(self, chosen):
        """Keep only some images: bool [N]."""
        self.files, self.labels = self.files[chosen], self.labels[chosen]

    def properties(self):
        """Return its properties for `fingerprint.of`."""
        root = os.fsencode(os.path.join(self.folder, ''))
        sizes = fingerprint.of_files(root + file for file in self.files.tolist())
        return {
            'names': fingerprint.of_names(self.files),
            'labels': fingerprint.of_arrays(np.asarray(self.labels, np.int32)),
            'sizes': fingerprint.of_arrays(sizes),
            'images': fingerprint.of_contents(self, int(sizes.sum())),
        }


def _sorted_as_text(classes):
    """Return a list with a note if the folders' names are numbers that sort differently as text."""
    if not all(name.isdecimal() for name in classes) or classes == sorted(classes, key=int):
        return []
    return [f'the class folders are numbers and sorted as text: {", ".join(classes[:4])}, ... are 0, 1, 2, 3, ...']


def _list(folder):
    """Return the sorted class folders and images of a folder, and all other names, where folders end in a slash."""
    folders, images, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_image(entry.name):
                images.append(entry.name)
            elif not entry.is_dir():
                others.append(entry.name)
            elif is_class(entry.name):
                folders.append(entry.name)
            else:
                others.append(f'{entry.name}/')
    return sorted(folders), sorted(images), others


def _images_below(root, folder, others):
    """Return the paths of all images below ROOT/FOLDER, relative to ROOT, sorted by the parts of the path.

    Files that are not images are appended to `others`, and so are links to a folder that contains them, which would
    never end.
    """
    paths = []
    pending = [(folder, (os.path.realpath(os.path.join(root, folder)),))]
    while pending:
        current, parents = pending.pop()  # `parents`: real paths of the current folder and those above it
        folders, images, rest = _list(os.path.join(root, current))
        paths += [f'{current}/{name}' for name in images]
        others += [f'{current}/{name}' for name in rest]
        for name in folders:
            path = os.path.join(root, current, name)
            real = os.path.realpath(path) if os.path.islink(path) else os.path.join(parents[-1], name)
            if any(f'{parent}/'.startswith(f'{real}/') for parent in parents):
                others.append(f'{current}/{name}/')
            else:
                pending.append((f'{current}/{name}', (*parents, real)))
    return sorted(paths, key=lambda path: path.split('/'))


class FlatFolderSource(FolderSource):
    """A flat folder of images, in the order of their names, with a label file (see `labels.read_labels`).

    This reads the validation set of ILSVRC2012 as released.

    Raises:
      UserError: no such folder, no images, or a label file that cannot be read, lacks an image or has a label out of
        range.
    """

    numbered = True

    def __init__(self, folder, labels_file, num_classes=None, synsets=None):
        self._open(folder, 'SPLIT/IMAGE')
        folders, images, others = _list(self.folder)
        if not images:
            raise UserError(f'{folder} contains no images')
        self.files = np.array([os.fsencode(name) for name in images], np.bytes_)
        self.labels, self.class_names, self.notes = read_labels(labels_file, images, num_classes, synsets)
        others = [name for name in others if name not in (*LABEL_FILES, os.path.basename(labels_file))]
        self.notes += skipped_note(self.folder, [*others, *(f'{name}/' for name in folders)])


class AnnotatedFolderSource(FolderSource):
    """Tiny-ImageNet's validation images: `FOLDER/images`, and their classes in `FOLDER/val_annotations.txt`.

    Each line is a file name, a class and a box, separated by tabs. Classes are sorted; images are in the order of their
    names.

    Raises:
      UserError: an image has no line, or two.
    """

    def __init__(self, folder):
        self._open(folder, 'SPLIT/images and SPLIT/val_annotations.txt')
        path = Path(folder) / ANNOTATIONS
        with foreign.parsing(path, "Tiny-ImageNet's list of labels", 'unpack it again'):
            lines = foreign.read_regular(path, MAX_LIST_BYTES).decode().splitlines()
            class_of = foreign.unique(line.split('\t')[:2] for line in lines if '\t' in line)
        _, images, others = _list(Path(folder) / 'images')
        if not images:
            raise UserError(f'{folder}/images contains no images')
        unlabeled = [name for name in images if name not in class_of]
        if unlabeled:
            raise UserError(f'{folder}/{ANNOTATIONS} has no line for {list_some(unlabeled)}')
        self.class_names = tuple(sorted(set(class_of.values())))
        numbers = {name: number for number, name in enumerate(self.class_names)}
        self.files = np.array([os.fsencode(f'images/{name}') for name in images], np.bytes_)
        self.labels = np.array([numbers[class_of[name]] for name in images], np.int32)
        absent = len(class_of.keys() - set(images))
        self.notes = skipped_note(f'{folder}/images', others)
        self.notes += [f'{folder}/{ANNOTATIONS} has labels for {absent:,} missing images'] if absent else []


class TfdsSource:
    """A TFDS data set prepared as ArrayRecord (no TensorFlow at run time)."""

    numbered = True  # TFDS numbers the classes of data sets without class names

    def __init__(self, name, data_dir, split):
        import tensorflow_datasets as tfds

        directory = {'data_dir': data_dir} if data_dir else {}
        try:
            builder = tfds.builder(name, **directory)
        except tfds.core.registered.DatasetNotFoundError as error:
            raise UserError(f'TFDS has no data set {name!r}: {first_line(error)}') from None
        command = f'python data.py prepare {name}' + (f' --data_dir {data_dir}' if data_dir else '')
        if not builder.data_path.exists():
            raise UserError(
                f'{name} is not prepared in {builder.data_path}. Prepare it (needs requirements-prepare.txt): {command}'
            )
        if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise UserError(
                f'{builder.data_path} has the format {builder.info.file_format.value}, which has no random access. '
                f'Convert it (needs requirements-prepare.txt): {command}'
            )
        split = check_split(split, tuple(builder.info.splits), slices=True)
        self._info = builder.info.splits[split]
        self.records = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
        self.class_names = tuple(builder.info.features['label'].names)
        self.name, self.notes = f'{name}/{split}', []
        if len(self) and self.records[0]['label'] < 0:
            raise UserError(f'{self.name} has no labels; the splits are {", ".join(builder.info.splits)}')

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        record = self.records[index]
        return check_label(Example(record['image'], int(record['label']), f'{self.name}[{index}]'), self.class_names)

    def properties(self):
        """Return its properties for `fingerprint.of`."""
        return {'examples': fingerprint.of_contents(self, self._info.num_bytes or 0), 'split': _tfds_split(self._info)}


def _tfds_split(info):
    """Return the digest of the files of a TFDS split: their names, sizes, and which of their examples it has."""
    parts = [(os.path.basename(part.filename), part.skip, part.examples_in_shard) for part in info.file_instructions]
    sizes = fingerprint.of_files(part.filename for part in info.file_instructions)
    return fingerprint.of_text(f'{part} {size}' for part, size in zip(parts, sizes.tolist(), strict=True))


HELD_OUT = ('validation', 'val', 'test')  # the names of the test split in TFDS, in PyTorch folders and here


def find_split(data_dir, split, labels=''):
    """Return the name of a split's folder, and notes.

    'test', 'val' and 'validation' are interchangeable: if the requested folder is missing, or its images have no labels
    (as in Tiny-ImageNet's test/), one of the others is used.
    """
    folder = Path(data_dir)
    names = [split, *(name for name in HELD_OUT if name != split)] if split in HELD_OUT else [split]
    existing = [name for name in names if (folder / name).is_dir()]
    name = next((name for name in existing if _has_labels(folder, name, labels)), existing[0] if existing else split)
    notes = [f'{folder / split} has no labels: {folder / name} is used'] if name != split in existing else []
    return name, notes


def _has_labels(data_dir, split, labels):
    """Return whether the images in a split's folder have labels."""
    folder = data_dir / split
    classes, images, _ = _list(folder)
    if (folder / ANNOTATIONS).is_file() or any(folder.glob('*.tar')):
        return True
    if classes:
        return classes != ['images']
    return bool(images) and find_labels(labels, (folder, data_dir), needed=False) is not None


def find_imagenet(data_dir, split, labels=''):
    """Find out in which format ImageNet, or data with the same layout, is stored in a folder.

    Args:
      data_dir: a packed store; a TFDS folder with imagenet2012 in it ('' is TFDS's default); a folder with the released
        tars; a folder with train/ and val/ of class folders or of flat images with a label file; or flat images with a
        label file, which are then both splits.
      split: 'train', or any of 'validation', 'val' and 'test'.
      labels: see `datasets.open_source`.

    Returns:
      (dataset, split) for `datasets.open_source`.

    Raises:
      UserError: the folder has none of these.
    """
    from input_pipeline import packed

    folder = Path(data_dir or Path.home() / 'tensorflow_datasets')
    names = [split, *(name for name in HELD_OUT if name != split)] if split in HELD_OUT else [split]
    if (folder / packed.MANIFEST).is_file():
        splits = packed.read_manifest(folder)['splits']
        return 'pack', next((name for name in names if name in splits), split)
    if (folder / 'imagenet2012').is_dir():
        return 'tfds:imagenet2012', 'validation' if split in HELD_OUT else split
    name = find_split(folder, split, labels)[0]
    if (folder / name).is_dir() and not any((folder / name).glob('*.tar')):
        return ('folder' if _list(folder / name)[0] else 'flat'), name
    if folder.is_file() or any(folder.glob('*.tar')) or any((folder / name).is_dir() for name in names):
        return 'tar', split
    if folder.is_dir() and _list(folder)[1]:
        return 'flat', '.'
    where = f'in {folder}' if data_dir else f"in {folder}, TFDS's default: pass --config.data_dir=FOLDER"
    raise UserError(
        f'no ImageNet ({split}) {where}. FOLDER may contain train/ and val/ with class folders, the released tars, '
        'imagenet2012/ prepared by TFDS (ArrayRecord), a packed store, or images with a label file (labels.csv)'
    )


def open_folder(
    data_dir, split, labels='', num_classes=None, on_bad_image='stop', flat=False, val_fraction=0.0, val_seed=0
):
    """Open a split in a folder of splits: class folders, Tiny-ImageNet's, or flat images with a label file.

    Args: see `datasets.open_source`.
      flat: the images are flat; False finds out.
    """
    if val_fraction:
        return _open_part(Path(data_dir), split, val_fraction, val_seed, on_bad_image)
    name, notes = find_split(data_dir, split, labels)
    source = _open_split_folder(Path(data_dir), name, labels, num_classes, on_bad_image, flat)
    source.notes = notes + source.notes
    return source


def _open_part(data_dir, split, fraction, seed, on_bad_image):
    """Open DATA_DIR/train/CLASS/IMAGE or DATA_DIR/CLASS/IMAGE without the images held out, or for 'test' only those."""
    folder = data_dir / 'train' if (data_dir / 'train').is_dir() else data_dir
    other = next((name for name in HELD_OUT if folder != data_dir and (data_dir / name).is_dir()), None)
    if other:
        raise UserError(f'{data_dir / other} has the test images: pass --config.val_fraction=0')
    check_split(split, ('train', *HELD_OUT))
    source = FolderSource(folder, on_bad_image)
    is_held_out = _held_out(source.files.tolist(), source.labels, fraction, seed)
    if not is_held_out.any():
        raise UserError(
            f'no class in {folder} has two images, so that none can be held out for the test: add images, or a folder '
            'of test images'
        )
    source.select(is_held_out if split in HELD_OUT else ~is_held_out)
    source.name = f'{folder} ({split}, val_fraction={fraction:g})'
    return source


def _held_out(files, labels, fraction, seed):
    """Return which images are held out: a fraction of each class, at least one of two.

    They are drawn by digests of the seed and their names. So the split depends on nothing else, and hardly
    changes when images are added.
    """
    digests = np.array([hashlib.sha256(b'%d %b' % (seed, file)).digest()[:8] for file in files], 'V8').view('>u8')
    chosen = np.zeros(len(files), bool)
    for label in np.unique(labels):
        numbers = np.flatnonzero(labels == label)
        count = min(len(numbers) - 1, max(1, round(len(numbers) * fraction)))
        chosen[numbers[np.argsort(digests[numbers], kind='stable')[:count]]] = True
    return chosen


def _open_split_folder(data_dir, split, labels, num_classes, on_bad_image, flat):
    folder = data_dir / split
    if not flat and (folder / ANNOTATIONS).is_file():
        return AnnotatedFolderSource(folder)
    if flat or (labels and folder.is_dir() and not _list(folder)[0]):
        return FlatFolderSource(folder, find_labels(labels, (folder, data_dir)), num_classes)
    return FolderSource(folder, on_bad_image)


def find_labels(labels, folders, needed=True):
    """Return the path of a label file: `labels` itself, or a file of this name in one of the folders.

    If there is none, return None, or raise `UserError` if `needed`.
    """
    if labels and Path(labels).is_file():
        return Path(labels)
    candidates = [folder / name for folder in folders for name in ([labels] if labels else LABEL_FILES)]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None and needed:
        tried = ', '.join(map(str, dict.fromkeys(candidates)))
        raise UserError(f'no label file: pass --config.labels=FILE (looked for {tried})')
    return path
