"""All networks as data: the tables at the ends of the family files, joined."""

import traceback
from collections import ChainMap
from pathlib import Path

from architectures import (
    alexnet,
    densenet,
    inception,
    lenet,
    overfeat,
    prelu_net,
    resnet,
    resnext,
    senet,
    vgg,
    wide_resnet,
    zfnet,
)

# In chronological order. Add a new family file here.
FAMILIES = (
    lenet, alexnet, zfnet, overfeat, inception, vgg, prelu_net, resnet, wide_resnet, resnext, densenet, senet,
)  # fmt: skip

FOLDER = Path(__file__).parent

OWN = {}  # the networks of `architectures.register`

# {name: `entry.Entry`}: a view of the families' tables, in their order, then OWN.
NETWORKS = ChainMap(OWN, *(family.NETWORKS for family in reversed(FAMILIES)))


def file_of(name):
    """Return the file that defines a network: 'architectures/vgg.py'; for one of OWN, its module."""
    if name in OWN:
        return OWN[name].module.__module__
    family = next(family for family in FAMILIES if name in family.NETWORKS)
    return f'{family.__name__.replace(".", "/")}.py'


def unlisted(name):
    """Return what to do if the network of an unknown name is in a file that FAMILIES lacks, else ''."""
    listed = {Path(family.__file__).name for family in FAMILIES}
    for path in sorted(FOLDER.glob('*.py')):
        _, table, entries = path.read_text().partition('\nNETWORKS = {')
        if table and path.name not in listed and f"'{name}'" in entries:
            file = f'architectures/{path.name}'
            return f'it is in {file}, which architectures/catalogue.py lacks: import it there, and add it to FAMILIES'
    return ''


def line_of(error):
    """Return the line of a family file in which an exception was raised, ', FILE, line N', or '' if in none."""
    families = {family.__file__: f'{family.__name__.replace(".", "/")}.py' for family in FAMILIES}
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in families]
    return f', {families[lines[-1].filename]}, line {lines[-1].lineno}' if lines else ''
