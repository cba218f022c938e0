"""The base of the recipes for CIFAR; by itself it is not a useful experiment."""

from configs import base


def get_config():
    config = base.get_config()
    config.dataset = 'cifar10'
    config.channels = 3
    config.colour.flip = True
    config.colour.padding = 4  # then a random crop of 32
    config.test_batch_size = 500
    config.steps_per_dispatch = 0
    return config


def cifar100(config):
    """A variant: the same experiment on the 100 fine classes of CIFAR-100."""
    config.dataset = 'cifar100'
    config.num_classes = 100
