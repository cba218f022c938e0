"""Where examples lie: one random-access interface over every kind of data set.

A source has a length, `source[i]` gives an `Example`, `source.class_names` its classes, `source.name` what it is, and
`source.notes` lines that a person should see (what is not there, what was left out). Where `source.numbered` a class
that is called by its own number has no name (`classes.known_names`). `source[i]` raises OSError or
ValueError where that example cannot be read. `ArraySource` holds its images in memory; the loader keeps those on the
device. The others read one record at a time, from any number of threads, and pickle small enough to be sent to workers.
"""

import os
from pathlib import Path

import numpy as np

from input_pipeline.example import (
    Example,
    check_label,
    check_split,
    empty_classes,
    is_class,
    is_image,
    list_some,
    skipped_note,
)
from input_pipeline.labels import read_labels
from runtime.errors import UserError, first_line

ANNOTATIONS = 'val_annotations.txt'  # Tiny-ImageNet's
LABEL_FILES = ('labels.csv', 'labels.txt')


class FolderSource:
    """A folder of class folders, `FOLDER/CLASS/IMAGE`, the layout PyTorch users have.

    Classes are the folders in sorted order; images are in the order of their names, those in folders below the class's
    among them. Links are followed, but for those to a folder that they lie in. What is neither (hidden files, other
    kinds of files, images beside the class folders, what unpackers leave) is counted and named in `notes`. A class
    without images is an error, or with `on_bad_image='skip'` a class without examples and one of `notes`.

    Raises:
      UserError: no such folder, no images, or a class without any.
    """

    numbered = False

    def __init__(self, folder, on_bad_image='stop'):
        self._open(folder, 'SPLIT/CLASS/IMAGE')
        classes, images, others = _list(self.folder)
        if not classes and images:
            raise UserError(
                f'{folder} holds images and no class folders: pass --config.labels=FILE, a file with their labels'
            )
        others += images
        found = [_images_below(self.folder, name, others) for name in classes]
        # 1.28 million names as Python strings would take a quarter of a gigabyte in every process.
        self.files = np.array([os.fsencode(file) for files in found for file in files], np.bytes_)
        self.labels = np.repeat(np.arange(len(classes), dtype=np.int32), [len(files) for files in found])
        self.class_names = tuple(classes)
        if not len(self.files):
            needs = f'{folder} holds no images: it needs one folder a class with images inside'
            raise UserError('. '.join([needs, *skipped_note(self.folder, others)]))
        self.notes = empty_classes(self.labels, classes, self.folder, on_bad_image, others)
        self.notes += _sorted_as_text(classes) + skipped_note(self.folder, others)

    def _open(self, folder, layout):
        self.folder = self.name = str(folder)
        if not os.path.isdir(self.folder):
            beside = _list(os.path.dirname(self.folder) or '.')[0] if os.path.isdir(Path(folder).parent) else []
            advice = f'no folder {folder}: pass --config.data_dir=FOLDER, holding {layout}'
            if 0 < len(beside) < 10:
                advice += f', or a split that is there (--config.train_split, --config.test_split): {", ".join(beside)}'
            raise UserError(advice)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path = os.path.join(self.folder, os.fsdecode(self.files[index]))
        with open(path, 'rb') as file:
            return Example(file.read(), int(self.labels[index]), path)


def _sorted_as_text(classes):
    """A note where the folders' names are numbers whose order as text is another."""
    if not all(name.isdecimal() for name in classes) or classes == sorted(classes, key=int):
        return []
    return [f'the class folders are numbers and sorted as text: {", ".join(classes[:4])}, ... are 0, 1, 2, 3, ...']


def _list(folder):
    """The names of a folder's class folders, of its images, each sorted, and of all else; folders there end in '/'."""
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
    """The paths of all images below ROOT/FOLDER, relative to ROOT, sorted part by part of the path.

    What is no image is appended to `others`, and so are links to a folder that they lie in, which have no end.
    """
    found = []
    waiting = [(folder, (os.path.realpath(os.path.join(root, folder)),))]
    while waiting:
        below, way = waiting.pop()  # and the real paths of the folders that led there
        folders, images, left = _list(os.path.join(root, below))
        found += [f'{below}/{name}' for name in images]
        others += [f'{below}/{name}' for name in left]
        for name in folders:
            path = os.path.join(root, below, name)
            real = os.path.realpath(path) if os.path.islink(path) else os.path.join(way[-1], name)
            if any(f'{place}/'.startswith(f'{real}/') for place in way):
                others.append(f'{below}/{name}/')
            else:
                waiting.append((f'{below}/{name}', (*way, real)))
    return sorted(found, key=lambda path: path.split('/'))


class FlatFolderSource(FolderSource):
    """A flat folder of images, in the order of their names, with a label file (`labels.read_labels` has its forms).

    It reads the validation set of ILSVRC2012 as it is released.

    Raises:
      UserError: no such folder, no images, or a label file that cannot be read, lacks an image or has a label out of
        range.
    """

    numbered = True

    def __init__(self, folder, labels_file, num_classes=None, synsets=None):
        self._open(folder, 'SPLIT/IMAGE')
        folders, images, others = _list(self.folder)
        if not images:
            raise UserError(f'{folder} holds no images')
        self.files = np.array([os.fsencode(name) for name in images], np.bytes_)
        self.labels, self.class_names, self.notes = read_labels(labels_file, images, num_classes, synsets)
        others = [name for name in others if name not in (*LABEL_FILES, os.path.basename(labels_file))]
        self.notes += skipped_note(self.folder, [*others, *(f'{name}/' for name in folders)])


class AnnotatedFolderSource(FolderSource):
    """Tiny-ImageNet's validation images: `FOLDER/images`, and their classes in `FOLDER/val_annotations.txt`.

    Its lines are the file's name, the class and a box, between tabs. Classes are sorted, images in the order of their
    names.

    Raises:
      UserError: an image has no line.
    """

    def __init__(self, folder):
        self._open(folder, 'SPLIT/images and SPLIT/val_annotations.txt')
        try:
            lines = (Path(folder) / ANNOTATIONS).read_text().splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f'{folder}/{ANNOTATIONS} cannot be read ({first_line(error)}); unpack it again') from None
        class_of = dict(line.split('\t')[:2] for line in lines if '\t' in line)
        _, images, others = _list(Path(folder) / 'images')
        if not images:
            raise UserError(f'{folder}/images holds no images')
        lacking = [name for name in images if name not in class_of]
        if lacking:
            raise UserError(f'{folder}/{ANNOTATIONS} has no line of {list_some(lacking)}')
        self.class_names = tuple(sorted(set(class_of.values())))
        numbers = {name: number for number, name in enumerate(self.class_names)}
        self.files = np.array([os.fsencode(f'images/{name}') for name in images], np.bytes_)
        self.labels = np.array([numbers[class_of[name]] for name in images], np.int32)
        absent = len(class_of.keys() - set(images))
        self.notes = skipped_note(f'{folder}/images', others)
        self.notes += [f'{folder}/{ANNOTATIONS} labels {absent:,} images that are not there'] if absent else []


class TfdsSource:
    """A TFDS data set prepared as ArrayRecord (no TensorFlow at run time)."""

    numbered = True  # so TFDS calls classes to which a data set gives no names

    def __init__(self, name, data_dir, split):
        import tensorflow_datasets as tfds

        directory = {'data_dir': data_dir} if data_dir else {}
        try:
            builder = tfds.builder(name, **directory)
        except tfds.core.registered.DatasetNotFoundError as error:
            raise UserError(f'TFDS knows no data set {name!r}: {first_line(error)}') from None
        command = f'python data.py prepare {name}' + (f' --data_dir {data_dir}' if data_dir else '')
        if not builder.data_path.exists():
            raise UserError(
                f'{name} is not prepared in {builder.data_path}. Prepare it (needs requirements-prepare.txt): {command}'
            )
        wanted = tfds.core.FileFormat.ARRAY_RECORD
        if builder.info.file_format != wanted:
            raise UserError(
                f'{builder.data_path} is in {builder.info.file_format.value} form, which has no random access. Convert '
                f'it (needs requirements-prepare.txt): {command}'
            )
        split = check_split(split, tuple(builder.info.splits), slices=True)
        self.records = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
        self.class_names = tuple(builder.info.features['label'].names)
        self.name, self.notes = f'{name}/{split}', []
        if len(self) and self.records[0]['label'] < 0:
            raise UserError(f'{self.name} has no labels; there are the splits {", ".join(builder.info.splits)}')

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        record = self.records[index]
        return check_label(Example(record['image'], int(record['label']), f'{self.name}[{index}]'), self.class_names)


HELD_OUT = ('validation', 'val', 'test')  # TFDS, PyTorch's users and we have a name each for what is tested


def find_split(data_dir, split, labels=''):
    """The name of the folder of a split in a folder of splits, and notes.

    Of 'test', 'val' and 'validation' the one that is asked for, or where it is not there, or holds images without
    labels as Tiny-ImageNet's test/ does, another of the three that has some.
    """
    folder = Path(data_dir)
    names = [split, *(name for name in HELD_OUT if name != split)] if split in HELD_OUT else [split]
    there = [name for name in names if (folder / name).is_dir()]
    found = next((name for name in there if _has_labels(folder, name, labels)), there[0] if there else split)
    notes = [f'{folder / split} has no labels: {folder / found} is tested'] if found != split in there else []
    return found, notes


def _has_labels(data_dir, split, labels):
    """Whether it is known of which classes the images in the folder of a split are."""
    folder = data_dir / split
    classes, images, _ = _list(folder)
    if (folder / ANNOTATIONS).is_file() or any(folder.glob('*.tar')):
        return True
    if classes:
        return classes != ['images']
    return bool(images) and find_labels(labels, (folder, data_dir), needed=False) is not None


def find_imagenet(data_dir, split, labels=''):
    """In which form ImageNet, or what is laid out like it, lies in a folder.

    Args:
      data_dir: a packed store; a folder of TFDS with imagenet2012 in it ('' is TFDS's own); a folder with the released
        tars; one with train/ and val/ of class folders or of flat images with a label file; or flat images with a
        label file, which are then both splits.
      split: 'train', or any of 'validation', 'val' and 'test'.
      labels: see `datasets.open_source`.

    Returns:
      (dataset, split) for `datasets.open_source`.

    Raises:
      UserError: none of these is there.
    """
    from input_pipeline import packed

    folder = Path(data_dir or Path.home() / 'tensorflow_datasets')
    names = [split, *(name for name in HELD_OUT if name != split)] if split in HELD_OUT else [split]
    if (folder / packed.MANIFEST).is_file():
        held = packed.read_manifest(folder)['splits']
        return 'pack', next((name for name in names if name in held), split)
    if (folder / 'imagenet2012').is_dir():
        return 'tfds:imagenet2012', 'validation' if split in HELD_OUT else split
    name = find_split(folder, split, labels)[0]
    if (folder / name).is_dir() and not any((folder / name).glob('*.tar')):
        return ('folder' if _list(folder / name)[0] else 'flat'), name
    if folder.is_file() or any(folder.glob('*.tar')) or any((folder / name).is_dir() for name in names):
        return 'tar', split
    if folder.is_dir() and _list(folder)[1]:
        return 'flat', '.'
    where = f'in {folder}' if data_dir else f'in {folder}, where TFDS keeps it: pass --config.data_dir=FOLDER'
    raise UserError(
        f'no ImageNet ({split}) {where}. FOLDER may hold train/ and val/ with class folders, the released tars, '
        'imagenet2012/ as TFDS prepares it (ArrayRecord), a packed store, or images with a label file (labels.csv)'
    )


def of_folder(data_dir, split, labels='', num_classes=None, on_bad_image='stop', flat=False):
    """The source of a split of a folder of splits: class folders, Tiny-ImageNet's, or flat images with a label file.

    Args: see `datasets.open_source`.
      flat: it is flat, which else is found out.
    """
    name, notes = find_split(data_dir, split, labels)
    source = _of_split(Path(data_dir), name, labels, num_classes, on_bad_image, flat)
    source.notes = notes + source.notes
    return source


def _of_split(data_dir, split, labels, num_classes, on_bad_image, flat):
    folder = data_dir / split
    if not flat and (folder / ANNOTATIONS).is_file():
        return AnnotatedFolderSource(folder)
    if flat or (labels and folder.is_dir() and not _list(folder)[0]):
        return FlatFolderSource(folder, find_labels(labels, (folder, data_dir)), num_classes)
    return FolderSource(folder, on_bad_image)


def find_labels(labels, folders, needed=True):
    """The path of a label file: `labels` itself, or of that name in one of some folders; None where none is needed."""
    if labels and Path(labels).is_file():
        return Path(labels)
    places = [folder / name for folder in folders for name in ([labels] if labels else LABEL_FILES)]
    found = next((place for place in places if place.is_file()), None)
    if found is None and needed:
        looked = ', '.join(map(str, dict.fromkeys(places)))
        raise UserError(f'no label file: pass --config.labels=FILE (looked for {looked})')
    return found
