"""Other labels: ReaL's, ImageNetV2's, -A's and -R's for ImageNet's classes, and a part of the classes for any network.

A label set turns a source's labels into classes of the network, and may keep some of its classes only.
"""

import json
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from input_pipeline import classes
from input_pipeline.classes import NAMES, WNIDS, is_wnid
from runtime.errors import UserError, first_line, nearest


def _numbers(text):
    return tuple(map(int, text.replace('\n', '').split(',')))


# The 200 classes of ImageNet-A and of ImageNet-R, of the 1000 in the order of their WordNet ids.
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
    """How labels of a source become classes of a network.

    Fields:
      name: what a result says of it.
      classes: of the network's classes those that are asked for, in order, or None for all.
      label: a source's label -> the class, its place among `classes`.
      names: of the classes.
      accepted: example number -> classes that are right, () where it does not count; or None.
    """

    name: str
    classes: tuple | None
    label: Callable
    names: tuple
    accepted: Callable | None = None


KNOWN = ('subset=own', 'subset=all', 'imagenet_v2', 'imagenet_a', 'imagenet_r', 'real=FILE')


def names_of(members):
    """The names of the classes of an ensemble (`scoring.Member`), or of its only member; None where nobody tells."""
    return next((member.class_names for member in members if member.class_names), None)


def fitting(source, names):
    """The labels under which a network is asked for a source's classes among all of its own: 'subset=all' where the
    source has but a part of them, else ''."""
    found = [] if names is None else classes.positions(classes.known_names(source), names)
    return 'subset=all' if None not in found and 0 < len(found) < len(names) else ''


def create(text, source, num_classes, names=None):
    """The label set of a name for a source.

    Args:
      text: '' for the source's own labels: each counts as the network's class of the same name.
        'subset=own' or 'subset=all' where the source has but some of the network's classes: errors over their outputs
        alone, or over all the outputs.
        'imagenet_v2' (folders called 0 to 999: the text order of their names is not the classes'), 'imagenet_a',
        'imagenet_r' (folders of 200 WordNet ids), or 'real=FILE', ReaL's real.json: some right classes an image, in the
        order of file names; images without any are left out.
      source: of `input_pipeline.sources`.
      num_classes: of the network.
      names: of the network's classes, see `classes.known_names`; None where its checkpoint does not tell.

    Raises:
      UserError: no such set, or a source that is not its.
    """
    name, _, path = text.partition('=')
    if not text:
        return _whole(source, num_classes, names)
    if text in ('subset=own', 'subset=all'):
        return _subset(text, source, num_classes, names)
    if name not in ('imagenet_v2', 'imagenet_a', 'imagenet_r', 'real') or (name == 'real') != bool(path):
        raise UserError(f'no labels {text!r}{nearest(text, KNOWN)} There are: {", ".join(KNOWN)}.')
    if num_classes != 1000:
        raise UserError(f"--labels {text} is of ImageNet's 1000 classes, and the network has {num_classes}")
    if not classes.are_imagenet(names):
        difference = classes.first_difference(WNIDS, names)
        raise UserError(f"--labels {text} is of ImageNet's classes, and the network has others: {difference}")
    if name == 'real':
        return LabelSet('ReaL', None, int, NAMES, _real(path, source))
    if name == 'imagenet_v2':
        if sorted(source.class_names) != sorted(map(str, range(1000))):
            raise UserError(f'{source.name} is not ImageNetV2: its folders are not called 0 to 999')
        numbers = [int(folder) for folder in source.class_names]
        return LabelSet('ImageNetV2', None, lambda label: numbers[label], NAMES)
    some = {'imagenet_a': IMAGENET_A, 'imagenet_r': IMAGENET_R}[name]
    if len(source.class_names) != len(some):
        raise UserError(f'{source.name} has {len(source.class_names)} classes, and {name} {len(some)}')
    for given, number in zip(source.class_names, some, strict=True):
        if is_wnid(given) and given != WNIDS[number]:
            raise UserError(f'{source.name} is not {name}: {given} stands where that has {WNIDS[number]}')
    title = {'imagenet_a': 'ImageNet-A', 'imagenet_r': 'ImageNet-R'}[name]
    return LabelSet(title, some, int, tuple(NAMES[number] for number in some))


def _whole(source, num_classes, names):
    """The source's own labels, which are of all the network's classes."""
    theirs, count = classes.known_names(source), len(source.class_names)
    if names is None:  # a checkpoint of an older version: all that can be compared is their number
        if count != num_classes:
            some = num_classes == len(WNIDS) and set(theirs) <= set(WNIDS)
            raise UserError(
                f'{source.name} has {count:,} classes, and the network {num_classes:,}: they are not the same'
                + (f'; {_ASK}' if some else '')
            )
        return LabelSet('', None, int, classes.readable(source.class_names))
    found = classes.positions(theirs, names)
    if None in found:
        raise UserError(_unknown(source, names))
    if count < num_classes:
        raise UserError(f"{source.name} has {count:,} of the network's {num_classes:,} classes: {_ASK}")
    called = [name if name is not None else source.class_names[found.index(k)] for k, name in enumerate(names)]
    return LabelSet('', None, found.__getitem__, classes.readable(called))


_ASK = (
    'pass evaluate.py --labels subset=own for the errors over their outputs alone, or subset=all for those over all '
    'outputs'
)


def _subset(text, source, num_classes, names):
    """The source's own labels, which are of some of the network's classes."""
    theirs = classes.known_names(source)
    if names is None and num_classes == len(WNIDS) and set(theirs) <= set(WNIDS):
        names = WNIDS
    if names is None:
        raise UserError(
            f'--labels {text} finds classes by their names, and the checkpoint, of an older version, does not tell its '
            'own: train a step more with this version, or convert it again'
        )
    found = classes.positions(theirs, names)
    if None in found:
        raise UserError(_unknown(source, names))
    called = classes.readable_or_numbers(names)
    title = f'{text} ({len(found):,} of {num_classes:,} classes, '
    if text == 'subset=all':
        return LabelSet(f'{title}errors over all {num_classes:,} outputs)', None, found.__getitem__, called)
    return LabelSet(f'{title}errors over their outputs alone)', tuple(found), int, tuple(called[k] for k in found))


def _unknown(source, names):
    message = classes.unknown_class(source.name, classes.known_names(source), 'the network', names)
    numbers = sorted(source.class_names) == sorted(map(str, range(len(WNIDS))))
    return message + ('; ImageNetV2 is tested by --labels imagenet_v2' if numbers and tuple(names) == WNIDS else '')


def chosen(logs, some):
    """Of log-probabilities [K] those of some classes, whose probabilities then sum to 1; None is all."""
    if some is None or logs is None:
        return logs
    picked = logs[np.array(some)]
    return picked - np.logaddexp.reduce(picked)


def _real(path, source):
    try:
        with open(path) as file:
            lists = json.load(file)
        lists = [tuple(map(int, found)) for found in lists]
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror}): --labels real=FILE names real.json') from None
    except (ValueError, TypeError) as error:
        raise UserError(f'{path} is not real.json, a list of lists of classes ({first_line(error)})') from None
    if len(lists) != len(source):
        raise UserError(f'{path} has {len(lists):,} images, and {source.name} {len(source):,}')
    if not hasattr(source, 'files'):
        return lists.__getitem__
    names = [os.path.basename(os.fsdecode(file)) for file in source.files]  # class folders have another order
    places = np.argsort(np.argsort(names))
    return lambda number: lists[places[number]]
