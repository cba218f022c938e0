"""Label sets: ReaL, ImageNetV2, -A, -R and -Sketch for ImageNet's classes, and a subset of the classes for any network.

A label set maps a source's labels to classes of the network, and may restrict the outputs to some of its classes.
"""

import os
from collections.abc import Callable
from typing import Annotated, NamedTuple

import msgspec
import numpy as np

from input_pipeline import classes
from input_pipeline.classes import NAMES, WNIDS, is_wnid
from runtime import foreign
from runtime.errors import UserError, nearest


def _numbers(text):
    return tuple(map(int, text.replace('\n', '').split(',')))


# The 200 classes of ImageNet-A and of ImageNet-R, as indices into the 1000 classes in the order of their WordNet ids.
IMAGENET_A = _numbers(
    """6,11,13,15,17,22,23,27,30,37,39,42,47,50,57,70,71,76,79,89,90,94,96,97,99,105,107,108,110,113,124,125,130,132,143,
144,150,151,207,234,235,254,277,283,287,291,295,298,301,306,307,308,309,310,311,313,314,315,317,319,323,324,326,327,
330,334,335,336,347,361,363,372,378,386,397,400,401,402,404,407,411,416,417,420,425,428,430,437,438,445,456,457,461,
462,470,472,483,486,488,492,496,514,516,528,530,539,542,543,549,552,557,561,562,569,572,573,575,579,589,606,607,609,
614,626,627,640,641,642,643,658,668,677,682,684,687,701,704,719,736,746,749,752,758,763,765,768,773,774,776,779,780,
786,792,797,802,803,804,813,815,820,823,831,833,835,839,845,847,850,859,862,870,879,880,888,890,897,900,907,913,924,
932,933,934,937,943,945,947,951,954,956,957,959,971,972,980,981,984,986,987,988"""
)
IMAGENET_R = _numbers(
    """1,2,4,6,8,9,11,13,22,23,26,29,31,39,47,63,71,76,79,84,90,94,96,97,99,100,105,107,113,122,125,130,132,144,145,147,
148,150,151,155,160,161,162,163,171,172,178,187,195,199,203,207,208,219,231,232,234,235,242,245,247,250,251,254,259,
260,263,265,267,269,276,277,281,288,289,291,292,293,296,299,301,308,309,310,311,314,315,319,323,327,330,334,335,337,
338,340,341,344,347,353,355,361,362,365,366,367,368,372,388,390,393,397,401,407,413,414,425,428,430,435,437,441,447,
448,457,462,463,469,470,471,472,476,483,487,515,546,555,558,570,579,583,587,593,594,596,609,613,617,621,629,637,657,
658,701,717,724,763,768,774,776,779,780,787,805,812,815,820,824,833,847,852,866,875,883,889,895,907,928,931,932,933,
934,936,937,943,945,947,948,949,951,953,954,957,963,965,967,980,981,983,988"""
)


class LabelSet(NamedTuple):
    """A mapping from the labels of a source to classes of a network.

    Fields:
      name: its name in a result.
      classes: the network's classes to score, in order, or None for all.
      label: function from a source's label to the class, an index into `classes`.
      names: names of the classes.
      accepted: function from an example's index to its right classes, () if it does not count; or None.
    """

    name: str
    classes: tuple | None
    label: Callable
    names: tuple
    accepted: Callable | None = None


_IMAGENET = ('imagenet_v2', 'imagenet_a', 'imagenet_r', 'imagenet_sketch', 'real')  # for its 1000 classes
KNOWN = ('subset=own', 'subset=all', *_IMAGENET[:-1], 'real=FILE')


def names_of(members):
    """Return the names of the classes of an ensemble's members (`scoring.Member`); None if no member has them."""
    return next((member.class_names for member in members if member.class_names), None)


def fitting(source, names):
    """Return the labels that score a source among all classes of a network: 'subset=all' if the source has only some
    of them, else ''."""
    indices = [] if names is None else classes.positions(classes.known_names(source), names)
    return 'subset=all' if None not in indices and 0 < len(indices) < len(names) else ''


def create(text, source, num_classes, names=None):
    """Create the label set of a name for a source.

    Args:
      text: '' for the source's own labels, matched to the network's classes by name.
        'subset=own' or 'subset=all' if the source has only some of the network's classes: errors over their outputs
        alone, or over all outputs.
        'imagenet_v2' (folders called 0 to 999, whose alphabetical order is not that of the classes), 'imagenet_a',
        'imagenet_r' (folders of 200 WordNet ids), 'imagenet_sketch' (folders of all WordNet ids), or 'real=FILE',
        ReaL's real.json: the right classes of each image, in the order of file names; images without any are left out.
      source: from `input_pipeline.sources`.
      num_classes: number of the network's classes.
      names: names of the network's classes, see `classes.known_names`; None if its checkpoint does not have them.

    Raises:
      UserError: if there is no such label set, or the source does not fit it.
    """
    name, _, path = text.partition('=')
    if not text:
        return _own_labels(source, num_classes, names)
    if text in ('subset=own', 'subset=all'):
        return _subset(text, source, num_classes, names)
    if name not in _IMAGENET or (name == 'real') != bool(path):
        raise UserError(f'no labels {text!r}{nearest(text, KNOWN)} There are: {", ".join(KNOWN)}.')
    if num_classes != 1000:
        raise UserError(f"--labels {text} needs ImageNet's 1000 classes, and the network has {num_classes}")
    if not classes.are_imagenet(names):
        difference = classes.first_difference(WNIDS, names)
        raise UserError(f"--labels {text} needs ImageNet's classes, and the network has others: {difference}")
    if name == 'real':
        return LabelSet('ReaL', None, int, NAMES, _real(path, source))
    if name == 'imagenet_v2':
        if sorted(source.class_names) != sorted(map(str, range(1000))):
            raise UserError(f'{source.name} is not ImageNetV2: its folders are not called 0 to 999')
        numbers = [int(folder) for folder in source.class_names]
        return LabelSet('ImageNetV2', None, lambda label: numbers[label], NAMES)
    if name == 'imagenet_sketch':
        if tuple(source.class_names) != WNIDS:
            difference = classes.first_difference(WNIDS, source.class_names)
            raise UserError(f'{source.name} is not ImageNet-Sketch, with a folder for each WordNet id: {difference}')
        return LabelSet('ImageNet-Sketch', None, int, NAMES)
    subset = {'imagenet_a': IMAGENET_A, 'imagenet_r': IMAGENET_R}[name]
    if len(source.class_names) != len(subset):
        raise UserError(f'{source.name} has {len(source.class_names)} classes, and {name} {len(subset)}')
    for folder, number in zip(source.class_names, subset, strict=True):
        if is_wnid(folder) and folder != WNIDS[number]:
            raise UserError(f'{source.name} is not {name}: it has {folder} in place of {WNIDS[number]}')
    title = {'imagenet_a': 'ImageNet-A', 'imagenet_r': 'ImageNet-R'}[name]
    return LabelSet(title, subset, int, tuple(NAMES[number] for number in subset))


def _own_labels(source, num_classes, names):
    """Return the label set of a source that has all of the network's classes."""
    theirs, count = classes.known_names(source), len(source.class_names)
    if names is None:  # a checkpoint of an older version: only the number of classes can be compared
        if count != num_classes:
            is_subset = num_classes == len(WNIDS) and set(theirs) <= set(WNIDS)
            raise UserError(
                f'{source.name} has {count:,} classes, and the network {num_classes:,}: they are not the same'
                + (f'; {_ADVICE}' if is_subset else '')
            )
        return LabelSet('', None, int, classes.readable(source.class_names))
    indices = classes.positions(theirs, names)
    if None in indices:
        raise UserError(_unknown(source, names))
    if count < num_classes:
        raise UserError(f"{source.name} has {count:,} of the network's {num_classes:,} classes: {_ADVICE}")
    names = [name if name is not None else source.class_names[indices.index(k)] for k, name in enumerate(names)]
    return LabelSet('', None, indices.__getitem__, classes.readable(names))


_ADVICE = (
    'pass evaluate.py --labels subset=own for the errors over their outputs alone, or subset=all for those over all '
    'outputs'
)


def _subset(text, source, num_classes, names):
    """Return the label set of a source that has some of the network's classes."""
    theirs = classes.known_names(source)
    if names is None and num_classes == len(WNIDS) and set(theirs) <= set(WNIDS):
        names = WNIDS
    if names is None:
        raise UserError(
            f'--labels {text} finds classes by name, and the checkpoint, of an older version, does not have the names: '
            'train one more step with this version, or convert it again'
        )
    indices = classes.positions(theirs, names)
    if None in indices:
        raise UserError(_unknown(source, names))
    names = classes.readable_or_numbers(names)
    title = f'{text} ({len(indices):,} of {num_classes:,} classes, '
    if text == 'subset=all':
        return LabelSet(f'{title}errors over all {num_classes:,} outputs)', None, indices.__getitem__, names)
    return LabelSet(f'{title}errors over their outputs alone)', tuple(indices), int, tuple(names[k] for k in indices))


def _unknown(source, names):
    message = classes.unknown_class(source.name, classes.known_names(source), 'the network', names)
    numbered = sorted(source.class_names) == sorted(map(str, range(len(WNIDS))))
    return message + ('; for ImageNetV2 pass --labels imagenet_v2' if numbered and tuple(names) == WNIDS else '')


def restrict(logs, subset):
    """Return the log-probabilities [K] of a subset of the classes, renormalized; `subset` None keeps all."""
    if subset is None or logs is None:
        return logs
    logs = logs[np.array(subset)]
    return logs - np.logaddexp.reduce(logs)


_Class = Annotated[int, msgspec.Meta(ge=0, lt=len(WNIDS))]


def _real(path, source):
    try:
        lists = foreign.read_json(path, list[tuple[_Class, ...]], 'real.json, a list of lists of classes,')
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}): pass real.json as --labels real=FILE') from None
    if len(lists) != len(source):
        raise UserError(f'{path} has {len(lists):,} images, and {source.name} {len(source):,}')
    if not hasattr(source, 'files'):
        return lists.__getitem__
    names = [os.path.basename(os.fsdecode(file)) for file in source.files]  # the source is ordered by class folder
    ranks = np.argsort(np.argsort(names))
    return lambda number: lists[ranks[number]]
