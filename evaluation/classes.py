"""What the 1000 classes of ImageNet are called: by WordNet, by people, by ILSVRC's servers."""

import re
from pathlib import Path

from errors import UserError
from input_pipeline import labels, small_sets

_LINES = Path(__file__).with_name('imagenet_classes.txt').read_text().splitlines()
WNIDS = tuple(line.split(' ', 1)[0] for line in _LINES)  # sorted: the order of the outputs
NAMES = tuple(line.split(' ', 1)[1] for line in _LINES)


def is_wnid(name):
    """Whether a class is called by a WordNet id."""
    return re.fullmatch(r'n\d{8}', name) is not None


def readable(names):
    """The names of a source's classes in words, where they are ImageNet's."""
    if len(names) == len(WNIDS):
        given = [(name, wnid) for name, wnid in zip(names, WNIDS, strict=True) if is_wnid(name)]
        if given and all(name == wnid for name, wnid in given):
            return NAMES
    return tuple(names)


def of_network(config):
    """The names of a network's classes: ImageNet's, those of a small set, or their numbers."""
    if config.num_classes == 1000:
        return NAMES
    if config.dataset == 'cifar10' and config.num_classes == 10:
        return small_sets.CIFAR10
    return tuple(map(str, range(config.num_classes)))


def ilsvrc_ids(devkit):
    """{class: ILSVRC id} from the devkit's folder or its meta.mat.

    Raises:
      UserError: the devkit is not there, cannot be read, or is of other classes.
    """
    path = Path(devkit)
    found = [path] if path.is_file() else sorted(path.rglob('meta.mat'))
    if not found:
        raise UserError(f'{devkit} holds no meta.mat: --devkit names the folder of the ILSVRC2012 devkit')
    order = labels.devkit_order(found[0])
    if sorted(order) != list(WNIDS):
        raise UserError(f'{found[0]} is not of the 1000 classes of ILSVRC2012')
    return {WNIDS.index(wnid): place + 1 for place, wnid in enumerate(order)}
