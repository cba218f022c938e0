"""Class names: those of ImageNet, and functions that match two lists of class names.

A label is a number, and its meaning depends on the list of names that it indexes. Wherever two such lists meet (the
training and the test split, a checkpoint and its data, two members of an ensemble), they are compared here by name.
"""

import collections
import difflib
import re
from pathlib import Path

import numpy as np

from input_pipeline import fingerprint
from input_pipeline.example import ArraySource, Example
from runtime.errors import UserError
from runtime.text import printable

_LINES = Path(__file__).with_name('imagenet_classes.txt').read_text().splitlines()
WNIDS = tuple(line.split(' ', 1)[0] for line in _LINES)  # sorted: the order of the outputs
NAMES = tuple(line.split(' ', 1)[1] for line in _LINES)
_NAME_OF_WNID = dict(zip(WNIDS, NAMES, strict=True))
_IMAGENET_NAMES = frozenset(NAMES)
_MAX_LISTED = 5  # names in a message


# Names for people


def is_wnid(name):
    """Return whether a class name is a WordNet id."""
    return re.fullmatch(r'n\d{8}', name) is not None


def short_name(name):
    """Return the first synonym of an ImageNet class name; other names are returned unchanged."""
    return name.split(',')[0] if name in _IMAGENET_NAMES else name


def readable(names):
    """Return names for people: ImageNet's WordNet ids are replaced by words, other names are `printable`.

    If only some of 1,000 classes have names and each is the WordNet id at its index, all the names are ImageNet's.
    """
    if len(names) == len(WNIDS):
        named = [(name, wnid) for name, wnid in zip(names, WNIDS, strict=True) if name in _NAME_OF_WNID]
        if named and all(name == wnid for name, wnid in named):
            return NAMES
    return tuple(_NAME_OF_WNID.get(name) or printable(name) for name in names)


def readable_or_numbers(names):
    """Return names for people, with the class number in place of each None; see `known_names`."""
    return readable(_fill_numbers(names))


def are_imagenet(names):
    """Return whether a network's names, as far as they are known, are the WordNet ids of the 1,000 classes."""
    if names is None:
        return True
    return len(names) == len(WNIDS) and all(name in (None, wnid) for name, wnid in zip(names, WNIDS, strict=True))


def describe(names, num_classes):
    """Return one line about the classes of a network; for `names` see `known_names`."""
    if names is None or all(name is None for name in names):
        return f'{num_classes}, in an unknown order'
    return f'{num_classes}: {_list_some(_fill_numbers(names))}'


def _fill_numbers(names):
    return tuple(str(number) if name is None else name for number, name in enumerate(names))


def _list_some(names):
    more = f' and {len(names) - _MAX_LISTED:,} more' if len(names) > _MAX_LISTED else ''
    return ', '.join(names[:_MAX_LISTED]) + more


# Matching two lists of names


def known_names(source):
    """Return the class names of a source as a tuple, with None for a class that only has a number (in a label file)."""
    names = tuple(source.class_names)
    return without_numbers(names) if getattr(source, 'numbered', False) else names


def without_numbers(names):
    """Return the names, with None for each name that is the class's own number."""
    return tuple(None if name == str(number) else name for number, name in enumerate(names))


def positions(theirs, ours):
    """Return the position of each of their classes in our list, matched by name.

    Args:
      theirs, ours: class names; None for a class that only has a number. If both lists have the same length, such a
        class matches any class of the same number; otherwise it matches the class whose name is its number.

    Returns:
      A list of int; None for a class that is not in our list, or that several of theirs match.
    """
    if tuple(theirs) == tuple(ours):  # also if a name occurs twice, as 'crane' does among ImageNet's words
        return list(range(len(ours)))
    our_names, same_length = _fill_numbers(ours), len(theirs) == len(ours)
    count = collections.Counter(our_names)
    position_of = {name: number for number, name in enumerate(our_names) if count[name] == 1}
    matches = []
    for number, name in enumerate(theirs):
        position = position_of.get(name)
        if same_length and position is None and (name is None or ours[number] is None):
            position = number
        matches.append(position)
    count = collections.Counter(matches)
    return [None if count[position] > 1 else position for position in matches]


def same_classes(theirs, ours):
    """Return whether two lists have the same classes in the same order, as far as their names are known."""
    return positions(theirs, ours) == list(range(len(ours)))


def first_difference(theirs, ours):
    """Describe the first difference of two lists: "class 3 is 'cat' there and 'dog' here", or their lengths."""
    if len(theirs) != len(ours):
        return f'there are {len(theirs):,} there and {len(ours):,} here'
    pairs = enumerate(zip(_fill_numbers(theirs), _fill_numbers(ours), strict=True))
    number, (their_name, our_name) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    return f'class {number} is {their_name!r} there and {our_name!r} here'


def unknown_class(where, theirs, whose, ours):
    """Return a message about classes of one list that the other lacks. The caller appends what to do.

    Args:
      where, whose: what each list belongs to, for the message.
      theirs, ours: class names; see `positions`.
    """
    matches = positions(theirs, ours)
    their_names, our_names = _fill_numbers(theirs), _fill_numbers(ours)
    if len(their_names) != len(our_names) and None in (*theirs, *ours):
        return f'{where} has {_count(their_names)}, and {whose} {len(our_names):,}: they are not the same'
    unmatched = [name for name, position in zip(their_names, matches, strict=True) if position is None]
    free = [name for number, name in enumerate(our_names) if number not in set(matches)]
    free_by_spelling = {_plain(name): name for name in free}
    respelled = next((name for name in unmatched if _plain(name) in free_by_spelling), None)
    if respelled is not None:
        return (
            f'{where} has the class {respelled!r} and {whose} {free_by_spelling[_plain(respelled)]!r}, which differ '
            f'only in case, spaces or dashes{_more(unmatched)}: rename one of them'
        )
    close = {name: difflib.get_close_matches(name, free, 1, 0.75) for name in unmatched[:100]}
    name = next((name for name in close if close[name]), unmatched[0])
    hint = f', did you mean {close[name][0]!r}?' if close[name] else '.'
    return (
        f'{where} has the class {name!r}{_more(unmatched)}, which {whose} does not have{hint} '
        f'There are: {_list_some(our_names)}'
    )


def _plain(name):
    return ''.join(name.casefold().replace('_', ' ').replace('-', ' ').split())


def _more(names):
    return f' (and {len(names) - 1:,} more)' if len(names) > 1 else ''


def _count(names):
    return f'{len(names):,} class{"" if len(names) == 1 else "es"}'


class RelabeledSource:
    """A source whose labels are mapped to another list of class names."""

    def __init__(self, source, numbers, class_names, notes=()):
        self.source, self.numbers = source, tuple(numbers)
        self.class_names, self.name, self.notes = tuple(class_names), source.name, [*source.notes, *notes]

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        image, label, name = self.source[index]
        return Example(image, self.numbers[label], name)

    def properties(self):
        """Return its properties for `fingerprint.of`."""
        return {**self.source.properties(), 'order of the classes': fingerprint.of_text(self.numbers)}


def relabel(source, numbers, class_names, notes=()):
    """Return the source with each label replaced by `numbers[label]`, an index into `class_names`."""
    if not isinstance(source, ArraySource):
        return RelabeledSource(source, numbers, class_names, notes)
    relabeled = ArraySource(source.images, np.asarray(numbers, np.int32)[source.labels], class_names, source.name)
    relabeled.notes = [*source.notes, *notes]
    return relabeled


def relabel_to(source, names, whose, on_bad_image='stop'):
    """Return a test split with its labels translated to the class names of the training split or network.

    Args:
      source: the split.
      names: the class names to translate to, in order; see `known_names`.
      whose: what these names belong to, for messages.
      on_bad_image: 'stop', or 'skip': the split may then lack classes, and a note lists them.

    Returns:
      The source itself if its labels already fit, else a relabeled one.

    Raises:
      UserError: the source has a class that is not in `names`, or lacks one that is.
    """
    source_names = known_names(source)
    matches = positions(source_names, names)
    if None in matches:
        raise UserError(unknown_class(source.name, source_names, whose, names))
    missing = [name for number, name in enumerate(_fill_numbers(names)) if number not in set(matches)]
    if missing and on_bad_image == 'stop':
        raise UserError(
            f'{source.name} lacks the class {missing[0]!r}{_more(missing)} of {whose}: add images of it, or pass '
            '--config.on_bad_image=skip to test without it'
        )
    if matches == list(range(len(names))):
        return source
    notes = [f'{source.name} lacks {_count(missing)} of {whose}: {_list_some(missing)}'] if missing else []
    return relabel(source, matches, _fill_numbers(names), notes)
