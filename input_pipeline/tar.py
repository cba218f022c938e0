"""Reads images directly from the released tars of ImageNet; nothing is unpacked.

ILSVRC2012_img_train.tar contains a tar for each class (n01440764.tar, ...) with the JPEGs of the class;
ILSVRC2012_img_val.tar contains the validation images. All headers are read once, and the position of each image is
saved in an index next to the tar (ILSVRC2012_img_train.tar.index.npz; tars.index.npz in a folder of tars) or, if that
folder is not writable, in $XDG_CACHE_HOME/imagenet-decade/tar (~/.cache/imagenet-decade/tar). The index stores the size
and modification time of every tar and is rebuilt when they differ.
"""

import hashlib
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from input_pipeline import fingerprint
from input_pipeline.example import IMAGE_SUFFIXES, NO_CLASSES, Example, empty_classes, is_image, skipped_note
from input_pipeline.labels import read_labels
from input_pipeline.progress import bar
from runtime import foreign, system
from runtime.errors import UserError, first_line
from runtime.files import atomic_file

_RELEASED = {
    'train': 'ILSVRC2012_img_train.tar',
    **dict.fromkeys(('test', 'val', 'validation'), 'ILSVRC2012_img_val.tar'),
}
_FORMAT = 2  # of the index


def find(data_dir, split):
    """Return the path of the tar, or of the folder of class tars, of a split.

    `data_dir` contains the tars as released, or SPLIT.tar, or a folder SPLIT of class tars; for 'train' it may itself
    be the tar, or contain the class tars.

    Raises:
      UserError: there is no such tar.
    """
    data_dir = Path(data_dir)
    folder = data_dir.parent if data_dir.is_file() else data_dir
    candidates = [folder / _RELEASED.get(split, f'{split}.tar'), folder / f'{split}.tar', folder / split]
    if split == 'train':
        candidates = [data_dir, *candidates] if data_dir.is_file() else [*candidates, data_dir]
    for path in candidates:
        if path.is_file() or (path.is_dir() and _class_tars(path)):
            return path
    raise UserError(
        f'no tar of the split {split!r} in {folder}: pass --config.data_dir=FOLDER with {candidates[0].name}, or with '
        f'class tars (n01440764.tar, ...) in {folder / split}'
    )


def _class_tars(folder):
    return sorted(p.name for p in folder.glob('*.tar') if not p.name.startswith(('.', 'ILSVRC')) and p.is_file())


class TarSource:
    """The images of a tar of class tars, of a folder of class tars, or of a flat tar with a label file.

    Classes are the sorted names of the class tars, and images are in the order of their names within each class, as in
    `sources.FolderSource` on the unpacked files. The classes of a flat tar come from `labels.read_labels`.

    Args:
      path: the tar or the folder.
      labels_file: for a flat tar; ignored otherwise.
      num_classes, synsets: see `labels.read_labels`.
      on_bad_image: 'stop' or 'skip'; see `sources.FolderSource`.

    Raises:
      UserError: no tar, a truncated tar, no images, a class without images, or labels that do not fit.
    """

    def __init__(self, path, labels_file=None, num_classes=None, synsets=None, on_bad_image='stop'):
        path = Path(path)
        self.name, self._file, self.numbered = str(path), None, False
        self.tars = [str(path / name) for name in _class_tars(path)] if path.is_dir() else [str(path)]
        index, self.notes = _index(path, self.tars)
        self.tar_of, self.offsets, self.sizes, self.names = (index[key] for key in ('tar', 'offsets', 'sizes', 'names'))
        self.notes += skipped_note(path, list(map(os.fsdecode, index['skipped'])))
        if not len(self.names):
            raise UserError(f'{path} contains no images, nor tars with images')
        if len(index['classes']):
            self.labels, self.class_names = index['labels'], tuple(map(os.fsdecode, index['classes']))
            self.notes += empty_classes(self.labels, self.class_names, self.name, on_bad_image)
        elif labels_file:
            names = [os.path.basename(os.fsdecode(name)) for name in self.names]
            self.labels, self.class_names, notes = read_labels(labels_file, names, num_classes, synsets)
            self.notes, self.numbered = self.notes + notes, True
        else:
            raise UserError(f'{path} contains images but no class tars: pass --config.labels=FILE with their labels')
        if len(self.tars) == 1:  # a single tar stays open; of a thousand tars, each read opens one
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

    def properties(self):
        """Return its properties for `fingerprint.of`, those of `sources.FolderSource` on the unpacked files."""
        return {
            'names': fingerprint.of_names(self.names),
            'labels': fingerprint.of_arrays(np.asarray(self.labels, np.int32)),
            'sizes': fingerprint.of_arrays(np.asarray(self.sizes, np.int64)),
            'images': fingerprint.of_contents(self, int(self.sizes.sum())),
        }

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
    """Read `size` bytes of a file from `offset`, fewer only at its end; threads may share the file."""
    data = system.pread(file, size, offset)
    while 0 < len(data) < size:
        more = system.pread(file, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _index(path, tars):
    """Return the index of some tars and notes; the index is read from its file, or built and saved.

    The index is a dict: classes bytes [C] (empty for a flat tar); skipped bytes [S], the names of files that are not
    images; and for each image tar int32 [N] (its position in `tars`), offsets and sizes int64 [N] in bytes, labels
    int32 [N], names bytes [N].
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
    index_files = (path / 'tars.index.npz' if path.is_dir() else path.with_name(f'{path.name}.index.npz'), cache)
    for file in index_files:
        index = _load(file, expected)
        if index is not None:
            return index, []
    index = _walk(tars, path.is_dir(), int(expected['stamp'][:, 0].sum()))
    for file in index_files:
        try:
            _save(file, expected | index)
            return index, []
        except OSError as error:
            reason = first_line(error)
    return index, [f'the index of {path} cannot be saved and is rebuilt at every start ({reason})']


def _load(path, expected):
    """Return an index from its file; None if it is missing, damaged or of other tars."""
    try:
        with foreign.parsing(path, 'the index of a tar'), foreign.open_regular(path) as file, np.load(file) as saved:
            if any(info.compress_type != zipfile.ZIP_STORED for info in saved.zip.infolist()):  # may unpack to anything
                return None
            if all(key in saved and np.array_equal(saved[key], value) for key, value in expected.items()):
                index = {key: saved[key] for key in _COLUMNS}
                return index if _fits(index, expected['stamp'][:, 0]) else None
    except (OSError, UserError):
        pass
    return None


_COLUMNS = {'classes': 'S', 'skipped': 'S', 'tar': 'i', 'offsets': 'i', 'sizes': 'i', 'labels': 'i', 'names': 'S'}


def _fits(index, tar_sizes):
    """Return whether an index (see `_index`) has the right types and names places inside its tars."""
    if any(index[key].dtype.kind != kind or index[key].ndim != 1 for key, kind in _COLUMNS.items()):
        return False
    tar, start, size, label = (index[key] for key in ('tar', 'offsets', 'sizes', 'labels'))
    if len({len(index[key]) for key in ('tar', 'offsets', 'sizes', 'labels', 'names')}) > 1:
        return False
    if ((tar < 0) | (tar >= len(tar_sizes)) | (start < 0) | (size < 0)).any():
        return False
    lowest = 0 if len(index['classes']) else -1
    labels_fit = ((label >= lowest) & (label < max(len(index['classes']), 0 if lowest == 0 else 1))).all()
    return bool(labels_fit and (start <= tar_sizes[tar] - size).all())


def _save(path, arrays):
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, 'wb') as file:  # several processes may write the index at once
        np.savez(file, **arrays)


def _walk(tars, are_classes, total):
    """Build the index of tars from their headers; see `_index`."""
    images, classes, others = [], [], []  # images: (class name or None, name, number of the tar, offset, size)
    with bar(f'indexing {os.path.basename(tars[0])}{" ..." if len(tars) > 1 else ""}', total) as advance:
        for number, tar in enumerate(tars):
            with foreign.open_regular(tar) as file:
                _walk_one(file.fileno(), tar, number, are_classes, images, classes, others, advance)
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
    """Append the contents of one tar to `images` and `classes`, and the names of all other files to `others`."""
    tar_size = os.fstat(file).st_size
    if is_class:
        inner_tars = [(os.path.basename(tar), 0, tar_size)]
    else:
        members = _members(file, 0, tar_size, tar)
        inner_tars = [member for member in members if member[0].endswith('.tar') and member[2] is not None]
        used = inner_tars or [member for member in members if _is_image(member)]
        others += sorted(name for name, *_ in set(members) - set(used))
    for name, start, size in inner_tars:
        label = os.path.basename(name).removesuffix('.tar')
        classes.append(label)
        for member in _members(file, start, size, tar if is_class else f'{tar}/{name}'):
            if _is_image(member):
                image, offset, length = member
                images.append((label, image, number, offset, length))
            else:
                others.append(f'{os.path.basename(name)}/{member[0]}')
        advance(size)
    if not inner_tars:
        images.extend((None, name, number, start, size) for name, start, size in used)
        advance(tar_size)


def _is_image(member):
    """Return whether a member of a tar (see `_members`) counts as an image."""
    *folders, base = member[0].split('/')
    return is_image(base) and member[2] is not None and not set(folders) & set(NO_CLASSES)


def _members(file, start, size, tar_name):
    """Return the files of a tar stored at start..start+size of an open file: [(name, offset in the file, size)].

    A hard link has the offset and size of the file that it links to. The size is None for a symbolic link or another
    special file. Of two files with the same name the last counts, as when they are unpacked.

    Raises:
      UserError: it is not a tar, it is truncated, or it has a sparse file or a hard link to a missing one.
    """
    last, members = '', {}
    with foreign.parsing(tar_name, 'a tar', 'fetch it again'):
        try:
            with tarfile.open(fileobj=_Part(file, start, size), mode='r:') as tar:
                while (member := tar.next()) is not None:
                    members[member.name] = _place(member, members, start, size, tar_name)
                    if member.isdir():
                        del members[member.name]
                    last = member.name
                    tar.members.clear()  # otherwise it keeps an object for each member
                end = tar.offset
        except (tarfile.TarError, OSError) as error:
            problem = 'is not a tar (decompress it if it is compressed)'
            problem = f'is truncated or broken after {last}' if last else problem
            raise UserError(f'{tar_name} {problem} ({first_line(error)}); fetch it again') from None
        # tarfile takes a broken header for the end of the tar; the real end is a block of zeros.
        if end < 0 or system.pread(file, tarfile.BLOCKSIZE, start + end)[: max(size - end, 0)] != bytes(512):
            raise UserError(f'{tar_name} is truncated: it ends after {last or "its first header"}; fetch it again')
    return [(name, *place) for name, place in members.items()]


def _place(member, members, start, size, tar_name):
    """Return (offset in the file, size) of a member; see `_members`."""
    if member.issparse():
        raise UserError(f'{tar_name} has the sparse file {member.name}: make the tar again without --sparse')
    if member.islnk():
        if member.linkname not in members:
            raise UserError(f'{tar_name} has a hard link {member.name} to {member.linkname}, which is not before it')
        return members[member.linkname]
    if not member.isfile() and member.type in tarfile.SUPPORTED_TYPES:  # of another type it is a file, says POSIX
        return 0, None
    if member.size < 0:
        raise UserError(f'{tar_name} declares a negative size of {member.name}; fetch it again')
    if member.offset_data + member.size > size:
        raise UserError(f'{tar_name} is truncated: it ends within {member.name}; fetch it again')
    return start + member.offset_data, member.size


_MAX_HEADER = 1 << 20  # bytes, of a member's name and attributes


class _Part:
    """A part of an open file, with the methods that tarfile needs."""

    def __init__(self, file, start, size):
        self.file, self.start, self.size, self.position = file, start, size, 0

    def seek(self, position):
        self.position = position

    def tell(self):
        return self.position

    def read(self, size):
        if size > _MAX_HEADER:
            raise tarfile.ReadError(f'a header declares {size:,} bytes')
        size = max(min(size, self.size - self.position), 0)
        data = _read(self.file, size, self.start + self.position)
        self.position += len(data)
        return data
