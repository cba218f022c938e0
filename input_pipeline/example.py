"""What all sources share: the example that they give, images held in memory, and the names of files and splits."""

import os
from typing import NamedTuple

import numpy as np

from errors import UserError, nearest


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


IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.gif', '.tif', '.tiff', '.webp')


def is_image(name):
    """Whether a file of this name is taken for an image; hidden files (macOS leaves `._NAME`) are not."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')


def known_split(split, known, slices=False):
    """`split`, where it is among the known, or a slice of one ('train[:50%]') and slices are allowed.

    Raises:
      UserError: it is not; the message offers the nearest.
    """
    base = split.partition('[')[0] if slices else split
    if base not in known:
        raise UserError(f'no split {split!r}{nearest(base, known)} There are: {", ".join(known)}.')
    return split


def empty_classes(labels, class_names, place, on_bad_image):
    """Notes on classes without images, where the policy is 'skip'.

    Raises:
      UserError: there are such classes, and the policy is 'stop'.
    """
    empty = np.flatnonzero(np.bincount(labels, minlength=len(class_names)) == 0)
    if len(empty) and on_bad_image == 'stop':
        more = f' (nor in {len(empty) - 1} more)' if len(empty) > 1 else ''
        raise UserError(
            f'{os.path.join(place, class_names[empty[0]])} is a class without images{more}: fill or remove it, or pass '
            '--config.on_bad_image=skip to keep the class without examples'
        )
    return [f'{os.path.join(place, class_names[i])} is a class without images' for i in empty]
