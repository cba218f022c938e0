"""All networks as data: the tables at the ends of the family files, joined."""

from collections import ChainMap

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

# {name: `entry.Entry`}: a view of the families' tables, in their order.
NETWORKS = ChainMap(*(family.NETWORKS for family in reversed(FAMILIES)))


def file_of(name):
    """Return the file that defines a network: 'architectures/vgg.py'."""
    family = next(family for family in FAMILIES if name in family.NETWORKS)
    return f'{family.__name__.replace(".", "/")}.py'
