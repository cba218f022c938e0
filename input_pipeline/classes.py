"""Names of classes: which ones ImageNet has, and whether two lists of names are of the same classes.

Labels are numbers, and a number means a class only beside the list of names that it counts in. Wherever two such lists
meet (training and test split, a checkpoint and its data, two members of an ensemble) they are compared here, by name.
"""

import collections
import difflib
import re
from pathlib import Path

import numpy as np

from input_pipeline.example import ArraySource, Example
from runtime.errors import UserError

_LINES = Path(__file__).with_name('imagenet_classes.txt').read_text().splitlines()
WNIDS = tuple(line.split(' ', 1)[0] for line in _LINES)  # sorted: the order of the outputs
NAMES = tuple(line.split(' ', 1)[1] for line in _LINES)
_WORDS = dict(zip(WNIDS, NAMES, strict=True))
_OWN = frozenset(NAMES)
_MOST_NAMED = 5


# What a class is called


def is_wnid(name):
    """Whether a class is called by a WordNet id."""
    return re.fullmatch(r'n\d{8}', name) is not None


def first(name):
    """A class's name in short: of ImageNet's, which list synonyms, the first; any other as it is."""
    return name.split(',')[0] if name in _OWN else name


def readable(names):
    """Names as people read them: WordNet ids of ImageNet in words. A label file that names but some of the 1,000
    classes, each by its WordNet id in its place, has all their names."""
    if len(names) == len(WNIDS):
        given = [(name, wnid) for name, wnid in zip(names, WNIDS, strict=True) if name in _WORDS]
        if given and all(name == wnid for name, wnid in given):
            return NAMES
    return tuple(_WORDS.get(name, name) for name in names)


def of_list(names):
    """Names as people read them, each number (None) included; see `told`."""
    return readable(_filled(names))


def are_imagenets(names):
    """Whether a network's names are, as far as they are told, the WordNet ids of the 1,000 classes."""
    if names is None:
        return True
    return len(names) == len(WNIDS) and all(name in (None, wnid) for name, wnid in zip(names, WNIDS, strict=True))


def described(names, num_classes):
    """A line on the classes of a network, by their names; see `told`."""
    if names is None or all(name is None for name in names):
        return f'{num_classes}, of an order that is not told'
    return f'{num_classes}: {_listed(_filled(names))}'


def _filled(names):
    return tuple(str(number) if name is None else name for number, name in enumerate(names))


def _listed(names):
    more = f' and {len(names) - _MOST_NAMED:,} more' if len(names) > _MOST_NAMED else ''
    return ', '.join(names[:_MOST_NAMED]) + more


# Two lists of names


def told(source):
    """The names of a source's classes, a tuple; None in place of one that has but its number, as in a label file."""
    names = tuple(source.class_names)
    return without_numbers(names) if getattr(source, 'numbered', False) else names


def without_numbers(names):
    """The names, None in place of one that is its own number."""
    return tuple(None if name == str(number) else name for number, name in enumerate(names))


def places(theirs, ours):
    """Where each of their classes stands among ours, by its name.

    Args:
      theirs, ours: names; None in place of one that has but its number. Such a class is any of the same number, where
        there are as many of theirs as of ours, and is the one called by its number.

    Returns:
      A list of int, with None for a class that is not among ours or that two of theirs would be.
    """
    if tuple(theirs) == tuple(ours):  # also where a name stands twice, as 'crane' among ImageNet's in words
        return list(range(len(ours)))
    names, many = _filled(ours), len(theirs) == len(ours)
    count = collections.Counter(names)
    place_of = {name: number for number, name in enumerate(names) if count[name] == 1}
    found = []
    for number, name in enumerate(theirs):
        place = place_of.get(name)
        if many and place is None and (name is None or ours[number] is None):
            place = number
        found.append(place)
    count = collections.Counter(found)
    return [None if count[place] > 1 else place for place in found]


def are_same(theirs, ours):
    """Whether two lists name the same classes in the same order, as far as they are told."""
    return places(theirs, ours) == list(range(len(ours)))


def first_difference(theirs, ours):
    """'class 3 is 'cat' there and 'dog'' of the first that is not the same, or their numbers."""
    if len(theirs) != len(ours):
        return f'there are {len(theirs):,} there and {len(ours):,}'
    pairs = enumerate(zip(_filled(theirs), _filled(ours), strict=True))
    number, (there, here) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
    return f'class {number} is {there!r} there and {here!r}'


def unknown_class(where, theirs, whose, ours):
    """Why some of the classes at one place are not known at another: a line without its end, what to do.

    Args:
      where, whose: what each list is of, in words.
      theirs, ours: names; see `places`.
    """
    found = places(theirs, ours)
    names, others = _filled(theirs), _filled(ours)
    if len(names) != len(others) and None in (*theirs, *ours):
        return f'{where} has {_count(names)}, and {whose} {len(others):,}: they are not the same'
    strange = [name for name, place in zip(names, found, strict=True) if place is None]
    free = [name for number, name in enumerate(others) if number not in set(found)]
    twins = {_plain(name): name for name in free}
    twin = next((name for name in strange if _plain(name) in twins), None)
    if twin is not None:
        return (
            f'{where} has the class {twin!r} and {whose} {twins[_plain(twin)]!r}, which differ in case, spaces or '
            f'dashes only{_more(strange)}: rename one of them'
        )
    close = {name: difflib.get_close_matches(name, free, 1, 0.75) for name in strange[:100]}
    name = next((name for name in close if close[name]), strange[0])
    hint = f', did you mean {close[name][0]!r}?' if close[name] else '.'
    return f'{where} has the class {name!r}{_more(strange)}, and {whose} has not{hint} There are: {_listed(others)}'


def _plain(name):
    return ''.join(name.casefold().replace('_', ' ').replace('-', ' ').split())


def _more(names):
    return f' (and {len(names) - 1:,} more)' if len(names) > 1 else ''


def _count(names):
    return f'{len(names):,} class{"" if len(names) == 1 else "es"}'


class Relabelled:
    """A source whose labels count in another list of names."""

    def __init__(self, source, numbers, class_names, notes=()):
        self.source, self.numbers = source, tuple(numbers)
        self.class_names, self.name, self.notes = tuple(class_names), source.name, [*source.notes, *notes]

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        image, label, name = self.source[index]
        return Example(image, self.numbers[label], name)


def relabelled(source, numbers, class_names, notes=()):
    """A source with other numbers for its classes: `numbers[label]` counts in `class_names`. The rest stays."""
    if not isinstance(source, ArraySource):
        return Relabelled(source, numbers, class_names, notes)
    made = ArraySource(source.images, np.asarray(numbers, np.int32)[source.labels], class_names, source.name)
    made.notes = [*source.notes, *notes]
    return made


def like(source, names, whose, on_bad_image='stop'):
    """A test split whose labels count in the names of what is trained.

    Args:
      source: the split.
      names: of the classes that are trained, in their order; see `told`.
      whose: what they are of, in words.
      on_bad_image: 'stop', or 'skip': then the split may lack classes, and notes name them.

    Returns:
      The source itself, or one with its labels translated.

    Raises:
      UserError: it has a class that is not trained, or lacks one.
    """
    theirs = told(source)
    found = places(theirs, names)
    if None in found:
        raise UserError(unknown_class(source.name, theirs, whose, names))
    lacking = [name for number, name in enumerate(_filled(names)) if number not in set(found)]
    if lacking and on_bad_image == 'stop':
        raise UserError(
            f'{source.name} lacks the class {lacking[0]!r}{_more(lacking)} of {whose}: add images of it, or pass '
            '--config.on_bad_image=skip to test without it'
        )
    if found == list(range(len(names))):
        return source
    notes = [f'{source.name} lacks {_count(lacking)} of {whose}: {_listed(lacking)}'] if lacking else []
    return relabelled(source, found, _filled(names), notes)
