"""What all sources share: the `Example` type, images in memory, and checks of file, split and class names."""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from input_pipeline import fingerprint
from runtime import foreign
from runtime.errors import UserError, nearest


class Example(NamedTuple):
    """One example: `image` is encoded bytes or uint8 [H, W, C]; `name` is its file or its position, for messages."""

    image: bytes | np.ndarray
    label: int
    name: str


class ArraySource:
    """Images in memory: `images` uint8 [N, H, W, C], `labels` int32 [N].

    Raises:
      UserError: a label is out of range.
    """

    numbered = False

    def __init__(self, images, labels, class_names, name):
        self.images, self.labels = images, np.asarray(labels, np.int32)
        self.class_names, self.name, self.notes = tuple(class_names), name, []
        invalid = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.class_names)))
        if len(invalid):
            raise UserError(
                f'{name}[{invalid[0]}] has the label {self.labels[invalid[0]]}, but the {len(self.class_names)} '
                f'classes are 0 to {len(self.class_names) - 1}'
            )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Example(self.images[index], int(self.labels[index]), f'{self.name}[{index}]')

    def properties(self):
        """Return its properties for `fingerprint.of`."""
        return {'labels': fingerprint.of_arrays(self.labels), 'images': fingerprint.of_images(self.images)}


MAX_BYTES = 4 * Image.MAX_IMAGE_PIXELS  # of an image file; `geometry.MAX_PIXELS` without compression


def read_image(path):
    """Return the bytes of an image file.

    Raises:
      OSError: it cannot be read, is not a regular file or has more than MAX_BYTES; the message names it.
    """
    try:
        return foreign.read_regular(path, MAX_BYTES)
    except UserError as error:
        raise OSError(str(error)) from None


def check_label(example, class_names):
    """Return the example; raise ValueError if its label is out of range."""
    if not 0 <= example.label < len(class_names):
        raise ValueError(
            f'{example.name} has the label {example.label}, but the classes are 0 to {len(class_names) - 1}'
        )
    return example


IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.ppm', '.pgm', '.gif', '.tif', '.tiff',
    *(f'.{name}' for name in ('webp', 'avif') if features.check(name)),  # where Pillow was built with them
)  # fmt: skip
UNREAD_SUFFIXES = tuple(s for s in ('.webp', '.avif', '.heic', '.heif', '.jxl') if s not in IMAGE_SUFFIXES)
NO_CLASSES = ('__MACOSX', 'lost+found', '@eaDir', '$RECYCLE.BIN', 'System Volume Information')  # made by systems


def is_image(name):
    """Return whether a file of this name counts as an image; hidden files (macOS leaves `._NAME`) do not."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')


def is_class(name):
    """Return whether a folder of this name counts as a class; hidden folders and those that systems make do not."""
    return not name.startswith('.') and name not in NO_CLASSES


def skipped_note(place, names):
    """Return a list with one note about skipped files and folders, or [] if there are none.

    Args:
      place: the folder or tar.
      names: of the skipped files, relative to it; folders end in a slash.
    """
    if not names:
        return []
    names_by_kind = {}
    for name in sorted(names):
        base = os.path.basename(name.rstrip('/'))
        kind = '' if name.endswith('/') else os.path.splitext(base)[1].lower()
        names_by_kind.setdefault('hidden' if base.startswith('.') else kind or base, []).append(name)
    largest = sorted(names_by_kind.items(), key=lambda item: -len(item[1]))
    parts = [f'{len(group):,} {kind} ({group[0]}, ...)' if len(group) > 1 else group[0] for kind, group in largest[:5]]
    parts += [f'{sum(len(group) for _, group in largest[5:]):,} more'] if largest[5:] else []
    unread = [kind for kind in names_by_kind if kind in UNREAD_SUFFIXES]
    advice = f' (this Pillow cannot read {" or ".join(unread)}: convert them)' if unread else ''
    count = '1 file or folder is' if len(names) == 1 else f'{len(names):,} files and folders are'
    return [f'{place}: {count} skipped: {", ".join(parts)}{advice}']


def list_some(names, most=3):
    """Return some names for a message: 'a, b and c', or 'a, b, c and 4,002 more'."""
    shown = [str(name) for name in names[:most]]
    if len(names) > most:
        return f'{", ".join(shown)} and {len(names) - most:,} more'
    return ' and '.join([', '.join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def check_split(split, known, slices=False):
    """Return `split` if it is one of the known names or, with `slices`, a slice of one ('train[:50%]').

    Raises:
      UserError: it is neither; the message suggests the closest name.
    """
    base = split.partition('[')[0] if slices else split
    if base not in known:
        raise UserError(f'no split {split!r}{nearest(base, known)} There are: {", ".join(known)}.')
    return split


def empty_classes(labels, class_names, place, on_bad_image, others=()):
    """Return a note for each class without images.

    Args:
      labels, class_names: of a source.
      place: its folder or tar.
      on_bad_image: 'stop' or 'skip'.
      others: the files there that are not images, relative to `place`.

    Raises:
      UserError: there are such classes and `on_bad_image` is 'stop'.
    """
    empty = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    if len(empty) and on_bad_image == 'stop':
        first = class_names[empty[0]]
        more = f' (nor in {len(empty) - 1} more)' if len(empty) > 1 else ''
        raise UserError(
            f'{os.path.join(place, first)} is a class without images{more}: fill or remove it, or pass '
            '--config.on_bad_image=skip to keep the class without examples'
            + ''.join(
                f'. {note}' for note in skipped_note(place, [name for name in others if name.startswith(f'{first}/')])
            )
        )
    return [f'{os.path.join(place, class_names[i])} is a class without images' for i in empty]
