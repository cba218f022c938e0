"""The networks of all families as data: the tables at the ends of the family files, joined."""

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

# In the decade's order. A new family file is added here.
FAMILIES = (
    lenet, alexnet, zfnet, overfeat, inception, vgg, prelu_net, resnet, wide_resnet, resnext, densenet, senet,
)  # fmt: skip

# {name: `entry.Entry`}; a view of the tables, in the order of the families.
NETWORKS = ChainMap(*(family.NETWORKS for family in reversed(FAMILIES)))


def file_of(name):
    """The file whose table has a network: 'architectures/vgg.py'."""
    family = next(family for family in FAMILIES if name in family.NETWORKS)
    return f'{family.__name__.replace(".", "/")}.py'
