"""The decade on one small data set: a network of each family in turn, each by its own recipe in proportion.

    python train.py --config configs/decade.py --config.data_dir=FOLDER_OF_CIFAR10S_BINARY_VERSION
    python train.py --config configs/decade.py:folder=DIR

Each is the `cifar10` form of its recipe (variants.py): 30 epochs, small images, its own optimiser, crops and colours,
the rate's changes at the same parts of the run. Nothing is published of it.

Variants: `folder=DIR`, the photographs of DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE; `epochs=N`; `smallest`, for
each network as many epochs as it takes to leave chance behind. Those without normalisation that start from small random
weights stand still for their first 200 steps or so; those of 50 layers and more, whose loss first jumps, take batches
of 32 at a rate in proportion, for more steps.

Measured: not yet run here.
"""

from configs import (
    alexnet,
    bn_inception,
    densenet121,
    googlenet,
    lenet5,
    overfeat_fast,
    prelu_net_a,
    resnet18,
    resnext50_32x4d,
    se_resnet50,
    series,
    variants,
    vgg_a,
    wide_resnet50_2,
    zfnet,
)

NETWORKS = {
    'lenet5': lenet5,
    'alexnet': alexnet,
    'zfnet': zfnet,
    'overfeat_fast': overfeat_fast,
    'googlenet': googlenet,
    'vgg_a': vgg_a,
    'prelu_net_a': prelu_net_a,
    'bn_inception': bn_inception,
    'resnet18': resnet18,
    'wide_resnet50_2': wide_resnet50_2,
    'resnext50_32x4d': resnext50_32x4d,
    'densenet121': densenet121,
    'se_resnet50': se_resnet50,
}


SMALLEST = {  # epochs of CIFAR-10
    'lenet5': 0.25,
    'alexnet': 1.5,
    'zfnet': 1.5,
    'overfeat_fast': 1.5,
    'googlenet': 0.25,
    'vgg_a': 0.25,
    'prelu_net_a': 1.5,
    'bn_inception': 0.25,
    'resnet18': 0.5,
    'wide_resnet50_2': 0.3,
    'resnext50_32x4d': 0.3,
    'densenet121': 0.3,
    'se_resnet50': 0.3,
}
SMALLER_BATCHES = ('wide_resnet50_2', 'resnext50_32x4d', 'densenet121', 'se_resnet50')  # of the smallest form


def get_config(variant=''):
    chosen = variants.parse(variant, ('folder=', 'epochs=', 'smallest'), 'decade')
    if 'smallest' in chosen and 'epochs=' in chosen:
        raise ValueError(f'smallest and epochs= contradict each other in {variant!r}: keep one of them')

    def form(name):
        data = f'folder={chosen["folder="]}' if 'folder=' in chosen else 'cifar10'
        epochs = SMALLEST[name] if 'smallest' in chosen else chosen.get('epochs=')
        return data if epochs is None else f'{data},epochs={epochs}'

    configs = {name: network.get_config(form(name)) for name, network in NETWORKS.items()}
    for name in SMALLER_BATCHES if 'smallest' in chosen else ():
        _set_batch_size(configs[name], 32)
    return series.create(**configs)


def _set_batch_size(config, size):
    """Another batch, at a rate in proportion."""
    scale = size / config.reference_batch_size
    config.learning_rate *= scale
    config.learning_rates = tuple((length, rate * scale) for length, rate in config.learning_rates)
    config.batch_size = config.reference_batch_size = size
