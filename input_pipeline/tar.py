"""Images read in place from the tars in which ImageNet is released; nothing is unpacked.

ILSVRC2012_img_train.tar holds a tar for each class (n01440764.tar, ...), each with that class's JPEGs;
ILSVRC2012_img_val.tar holds the validation images. All headers are walked once, and where each image begins is kept in
an index beside the tar (ILSVRC2012_img_train.tar.index.npz; tars.index.npz in a folder of tars), or where that place
cannot be written, in $XDG_CACHE_HOME/imagenet-decade/tar (~/.cache/imagenet-decade/tar). The index holds every tar's
size and time of change and is made anew when they differ.
"""

import hashlib
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from input_pipeline.example import IMAGE_SUFFIXES, NO_CLASSES, Example, empty_classes, is_image, skipped_note
from input_pipeline.labels import read_labels
from input_pipeline.progress import bar
from runtime import system
from runtime.errors import UserError, first_line
from runtime.files import whole_file

_RELEASED = {
    'train': 'ILSVRC2012_img_train.tar',
    **dict.fromkeys(('test', 'val', 'validation'), 'ILSVRC2012_img_val.tar'),
}
_FORMAT = 2  # of the index


def find(data_dir, split):
    """The tar, or folder of tars, that holds a split.

    `data_dir` holds the tars as they are released, or SPLIT.tar, or a folder SPLIT of class tars; for 'train' it may
    itself be the tar, or hold the class tars.

    Raises:
      UserError: there is none.
    """
    given = Path(data_dir)
    folder = given.parent if given.is_file() else given
    places = [folder / _RELEASED.get(split, f'{split}.tar'), folder / f'{split}.tar', folder / split]
    if split == 'train':
        places = [given, *places] if given.is_file() else [*places, given]
    for place in places:
        if place.is_file() or (place.is_dir() and _class_tars(place)):
            return place
    raise UserError(
        f'no tar of the split {split!r} in {folder}: pass --config.data_dir=FOLDER with {places[0].name}, or with '
        f'class tars (n01440764.tar, ...) in {folder / split}'
    )


def _class_tars(folder):
    return sorted(p.name for p in folder.glob('*.tar') if not p.name.startswith(('.', 'ILSVRC')) and p.is_file())


class TarSource:
    """The images of a tar of class tars, of a folder of class tars, or of a flat tar with a label file.

    Classes are the sorted names of the class tars, images are in the order of their names within each: the order of
    `sources.FolderSource` on the unpacked files. Of a flat tar, `labels.read_labels` gives the classes.

    Args:
      path: the tar or the folder.
      labels_file: of a flat tar; not looked at otherwise.
      num_classes, synsets: see `labels.read_labels`.
      on_bad_image: 'stop' or 'skip'; see `sources.FolderSource`.

    Raises:
      UserError: no tar, a tar that is cut short, no images, a class without images, or labels that do not fit.
    """

    def __init__(self, path, labels_file=None, num_classes=None, synsets=None, on_bad_image='stop'):
        path = Path(path)
        self.name, self._file, self.numbered = str(path), None, False
        self.tars = [str(path / name) for name in _class_tars(path)] if path.is_dir() else [str(path)]
        index, self.notes = _index(path, self.tars)
        self.tar_of, self.offsets, self.sizes, self.names = (index[key] for key in ('tar', 'offsets', 'sizes', 'names'))
        self.notes += skipped_note(path, list(map(os.fsdecode, index['skipped'])))
        if not len(self.names):
            raise UserError(f'{path} holds no images, neither itself nor in tars inside')
        if len(index['classes']):
            self.labels, self.class_names = index['labels'], tuple(map(os.fsdecode, index['classes']))
            self.notes += empty_classes(self.labels, self.class_names, self.name, on_bad_image)
        elif labels_file:
            names = [os.path.basename(os.fsdecode(name)) for name in self.names]
            self.labels, self.class_names, notes = read_labels(labels_file, names, num_classes, synsets)
            self.notes, self.numbered = self.notes + notes, True
        else:
            raise UserError(f'{path} holds images and no class tars: pass --config.labels=FILE with their labels')
        if len(self.tars) == 1:  # one that is opened once; of a thousand, each read opens its own
            self._file = os.open(self.tars[0], system.READ)

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        tar, name = self.tars[self.tar_of[index]], os.fsdecode(self.names[index])
        file = os.open(tar, system.READ) if self._file is None else self._file
        try:
            image = _read(file, int(self.sizes[index]), int(self.offsets[index]))
        finally:
            if self._file is None:
                os.close(file)
        if len(image) != self.sizes[index]:
            raise OSError(f'{tar} ends within {name}')
        return Example(image, int(self.labels[index]), f'{tar}/{name}')

    def __getstate__(self):
        return self.__dict__ | {'_file': None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        if len(self.tars) == 1:
            self._file = os.open(self.tars[0], system.READ)

    def __del__(self):
        if getattr(self, '_file', None) is not None:
            os.close(self._file)
            self._file = None


def _read(file, size, offset):
    """`size` bytes of a file from `offset` on, fewer only where it ends; threads may share the file."""
    data = system.pread(file, size, offset)
    while 0 < len(data) < size:
        more = system.pread(file, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _index(path, tars):
    """The index of some tars, read from where it is kept or made and kept there; and notes.

    A dict: classes bytes [C] (none: the tar is flat); skipped bytes [S], the names of what is no image; and of each
    image tar int32 [N] (a number in `tars`), offsets and sizes int64 [N] in bytes, labels int32 [N], names bytes [N].
    """
    stamp = []
    for tar in tars:
        try:
            stat = os.stat(tar)
        except OSError as error:
            raise UserError(f'{tar} cannot be read ({first_line(error)}): pass --config.data_dir=FOLDER') from None
        stamp.append((stat.st_size, stat.st_mtime_ns))
    expected = {
        'format': np.array(_FORMAT),
        'suffixes': np.array(IMAGE_SUFFIXES),
        'stamp': np.array(stamp, np.int64).reshape(-1, 2),
        'tars': np.array([os.fsencode(os.path.basename(tar)) for tar in tars], np.bytes_),
    }
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:16]
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'imagenet-decade' / 'tar' / f'{name}.npz'
    places = (path / 'tars.index.npz' if path.is_dir() else path.with_name(f'{path.name}.index.npz'), cache)
    for place in places:
        index = _load(place, expected)
        if index is not None:
            return index, []
    index = _walk(tars, path.is_dir(), int(expected['stamp'][:, 0].sum()))
    for place in places:
        try:
            _save(place, expected | index)
            return index, []
        except OSError as error:
            reason = first_line(error)
    return index, [f'the index of {path} cannot be kept, and is made at every start ({reason})']


def _load(place, expected):
    try:
        with open(place, 'rb') as file, np.load(file) as held:
            if all(key in held and np.array_equal(held[key], value) for key, value in expected.items()):
                return {key: held[key] for key in ('classes', 'skipped', 'tar', 'offsets', 'sizes', 'labels', 'names')}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # none there, or not whole
    return None


def _save(place, arrays):
    place.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(place, 'wb') as file:  # several processes may make the index at once
        np.savez(file, **arrays)


def _walk(tars, are_classes, total):
    """The index of tars by their headers; see `_index`."""
    images, classes, others = [], [], []  # images: (class name or None, name, number of the tar, offset, size)
    with bar(f'indexing {os.path.basename(tars[0])}{" ..." if len(tars) > 1 else ""}', total) as advance:
        for number, tar in enumerate(tars):
            file = os.open(tar, system.READ)
            try:
                _walk_one(file, tar, number, are_classes, images, classes, others, advance)
            finally:
                os.close(file)
    ranks = {name: rank for rank, name in enumerate(sorted(set(classes)))}
    images.sort(key=lambda image: (ranks.get(image[0], 0), image[1]))
    columns = list(zip(*images, strict=True)) or [()] * 5
    return {
        'classes': np.array([os.fsencode(name) for name in ranks], np.bytes_),
        'skipped': np.array([os.fsencode(name) for name in others], np.bytes_),
        'labels': np.array([ranks.get(name, -1) for name in columns[0]], np.int32),
        'names': np.array([os.fsencode(name) for name in columns[1]], np.bytes_),
        'tar': np.array(columns[2], np.int32),
        'offsets': np.array(columns[3], np.int64),
        'sizes': np.array(columns[4], np.int64),
    }


def _walk_one(file, tar, number, is_class, images, classes, others, advance):
    """Appends what one tar holds to `images` and `classes`, and the names of what is neither to `others`."""
    whole = os.fstat(file).st_size
    if is_class:
        inner = [(os.path.basename(tar), 0, whole)]
    else:
        held = list(_members(file, 0, whole, tar))
        inner = [member for member in held if member[0].endswith('.tar') and member[2] is not None]
        taken = inner or [member for member in held if _is_image(member)]
        others += sorted(name for name, *_ in set(held) - set(taken))
    for name, start, size in inner:
        label = os.path.basename(name).removesuffix('.tar')
        classes.append(label)
        for member in _members(file, start, size, tar if is_class else f'{tar}/{name}'):
            if _is_image(member):
                image, offset, length = member
                images.append((label, image, number, offset, length))
            else:
                others.append(f'{os.path.basename(name)}/{member[0]}')
        advance(size)
    if not inner:
        images.extend((None, name, number, start, size) for name, start, size in taken)
        advance(whole)


def _is_image(member):
    """Whether a member of a tar, see `_members`, is taken for an image."""
    *folders, base = member[0].split('/')
    return is_image(base) and member[2] is not None and not set(folders) & set(NO_CLASSES)


def _members(file, start, size, place):
    """The files in a tar that lies at start..start+size of an open file: (name, offset in the file, size) of each.

    The size is None of what is no file and no folder, as a link.

    Raises:
      UserError: it is no tar, or cut short.
    """
    last = ''
    try:
        with tarfile.open(fileobj=_Part(file, start, size), mode='r:') as tar:
            while (member := tar.next()) is not None:
                if member.isfile():
                    if member.offset_data + member.size > size:
                        raise UserError(f'{place} is cut short: it ends within {member.name}; fetch it again')
                    last = member.name
                    yield member.name, start + member.offset_data, member.size
                elif not member.isdir():
                    yield member.name, 0, None
                tar.members.clear()  # else it keeps an object for every one
            # tarfile takes a broken header for the end; the end is a block of zeros.
            if system.pread(file, tarfile.BLOCKSIZE, start + tar.offset)[: max(size - tar.offset, 0)] != bytes(512):
                raise UserError(f'{place} is cut short: it ends after {last or "its first header"}; fetch it again')
    except (tarfile.TarError, OSError) as error:
        what = f'is cut short or broken after {last}' if last else 'is no tar (a compressed one must be decompressed)'
        raise UserError(f'{place} {what} ({first_line(error)}); fetch it again') from None


class _Part:
    """A part of an open file, as tarfile reads it."""

    def __init__(self, file, start, size):
        self.file, self.start, self.size, self.position = file, start, size, 0

    def seek(self, position):
        self.position = position

    def tell(self):
        return self.position

    def read(self, size):
        size = max(min(size, self.size - self.position), 0)
        data = _read(self.file, size, self.start + self.position)
        self.position += len(data)
        return data
