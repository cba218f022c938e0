"""What all sources share: the example that they give, images held in memory, and the names of files and splits."""

import os
from typing import NamedTuple

import numpy as np
from PIL import features

from runtime.errors import UserError, nearest


class Example(NamedTuple):
    """One example: `image` is encoded bytes or uint8 [H, W, C]; `name` says where it came from."""

    image: bytes | np.ndarray
    label: int
    name: str


class ArraySource:
    """Images in memory: `images` uint8 [N, H, W, C], `labels` int32 [N].

    Raises:
      UserError: a label is no number of a class.
    """

    numbered = False

    def __init__(self, images, labels, class_names, name):
        self.images, self.labels = images, np.asarray(labels, np.int32)
        self.class_names, self.name, self.notes = tuple(class_names), name, []
        wrong = np.flatnonzero((self.labels < 0) | (self.labels >= len(self.class_names)))
        if len(wrong):
            raise UserError(
                f'{name}[{wrong[0]}] has the label {self.labels[wrong[0]]}, and the {len(self.class_names)} classes '
                f'are 0 to {len(self.class_names) - 1}'
            )

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Example(self.images[index], int(self.labels[index]), f'{self.name}[{index}]')


def checked(example, class_names):
    """The example; raises ValueError where its label is no number of a class."""
    if not 0 <= example.label < len(class_names):
        raise ValueError(f'{example.name} has the label {example.label}, and classes are 0 to {len(class_names) - 1}')
    return example


IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.ppm', '.pgm', '.gif', '.tif', '.tiff',
    *(f'.{name}' for name in ('webp', 'avif') if features.check(name)),  # where Pillow was built with them
)  # fmt: skip
UNREAD_SUFFIXES = tuple(s for s in ('.webp', '.avif', '.heic', '.heif', '.jxl') if s not in IMAGE_SUFFIXES)
NO_CLASSES = ('__MACOSX', 'lost+found', '@eaDir', '$RECYCLE.BIN', 'System Volume Information')  # unpackers' and disks'


def is_image(name):
    """Whether a file of this name is taken for an image; hidden files (macOS leaves `._NAME`) are not."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')


def is_class(name):
    """Whether a folder of this name is taken for a class: not hidden ones, nor those that systems leave."""
    return not name.startswith('.') and name not in NO_CLASSES


def skipped(place, names):
    """[a note on what lies at a place and is not taken for an image or a class], or [].

    Args:
      place: the folder or tar.
      names: of the files, relative to it; of folders with a slash at the end.
    """
    if not names:
        return []
    kinds = {}
    for name in sorted(names):
        base = os.path.basename(name.rstrip('/'))
        kind = '' if name.endswith('/') else os.path.splitext(base)[1].lower()
        kinds.setdefault('hidden' if base.startswith('.') else kind or base, []).append(name)
    largest = sorted(kinds.items(), key=lambda item: -len(item[1]))
    said = [f'{len(held):,} {kind} ({held[0]}, ...)' if len(held) > 1 else held[0] for kind, held in largest[:5]]
    said += [f'{sum(len(held) for _, held in largest[5:]):,} more'] if largest[5:] else []
    unread = [kind for kind in kinds if kind in UNREAD_SUFFIXES]
    advice = f' (Pillow reads no {" or ".join(unread)} here: convert them)' if unread else ''
    count = '1 file or folder is' if len(names) == 1 else f'{len(names):,} files and folders are'
    return [f'{place}: {count} skipped: {", ".join(said)}{advice}']


def few(names, most=3):
    """Some names in words: 'a, b and c', or 'a, b, c and 4,002 more'."""
    named = [str(name) for name in names[:most]]
    if len(names) > most:
        return f'{", ".join(named)} and {len(names) - most:,} more'
    return ' and '.join([', '.join(named[:-1]), named[-1]] if len(named) > 1 else named)


def known_split(split, known, slices=False):
    """`split`, where it is among the known, or a slice of one ('train[:50%]') and slices are allowed.

    Raises:
      UserError: it is not; the message offers the nearest.
    """
    base = split.partition('[')[0] if slices else split
    if base not in known:
        raise UserError(f'no split {split!r}{nearest(base, known)} There are: {", ".join(known)}.')
    return split


def empty_classes(labels, class_names, place, on_bad_image, others=()):
    """Notes on classes without images, where the policy is 'skip'.

    Args:
      labels, class_names, place: of a source, and where it lies.
      on_bad_image: the policy.
      others: the files there that are no images, relative to the place.

    Raises:
      UserError: there are such classes, and the policy is 'stop'.
    """
    empty = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    if len(empty) and on_bad_image == 'stop':
        first = class_names[empty[0]]
        more = f' (nor in {len(empty) - 1} more)' if len(empty) > 1 else ''
        raise UserError(
            f'{os.path.join(place, first)} is a class without images{more}: fill or remove it, or pass '
            '--config.on_bad_image=skip to keep the class without examples'
            + ''.join(f'. {note}' for note in skipped(place, [name for name in others if name.startswith(f'{first}/')]))
        )
    return [f'{os.path.join(place, class_names[i])} is a class without images' for i in empty]
