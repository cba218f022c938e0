"""The decade on one small data set: a network of each family, one after another, each with its recipe scaled down.

    python train.py --config configs/decade.py --config.data_dir=FOLDER_OF_CIFAR10S_BINARY_VERSION
    python train.py --config configs/decade.py:folder=DIR,small

Each is the `cifar10` variant of its recipe (variants.py): 30 epochs, small images, its own optimizer, crops and colors,
and rate drops at the same fractions of the run. There are no published errors for this.

Variants: `folder=DIR`, your own photographs, with `small` at small sizes (configs/variants.py); `epochs=N`;
`smallest`, just enough epochs for each network to be better than chance. Networks without normalization that start from
small random weights make no progress in their first 200 steps or so. Networks of 50 or more layers, whose loss jumps at
first, take batches of 32, with the rate scaled in proportion, for more steps.

Measured: `smallest`, on CIFAR-10's JPEG copy: every network below 90%, from 63.7 (LeNet-5) to 83.9 (OverFeat), in 67
minutes on 2 cores of an AMD EPYC with other load, 2026-11-26 (results/README.md). The 30 epochs: not run yet.
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
SMALLER_BATCHES = ('wide_resnet50_2', 'resnext50_32x4d', 'densenet121', 'se_resnet50')  # in the variant `smallest`


def get_config(variant=''):
    options = variants.parse(variant, ('folder=', 'small', 'epochs=', 'smallest'), 'decade')
    if 'small' in options and 'folder=' not in options:
        raise ValueError('small is for your own photographs: folder=DIR,small')
    if 'smallest' in options and 'epochs=' in options:
        raise ValueError(f'smallest and epochs= contradict each other in {variant!r}: keep one of them')

    def form(name):
        data = f'folder={options["folder="]}{",small" * ("small" in options)}' if 'folder=' in options else 'cifar10'
        epochs = SMALLEST[name] if 'smallest' in options else options.get('epochs=')
        return data if epochs is None else f'{data},epochs={epochs}'

    configs = {name: network.get_config(form(name)) for name, network in NETWORKS.items()}
    for name in SMALLER_BATCHES if 'smallest' in options else ():
        _set_batch_size(configs[name], 32)
    return series.create(**configs)


def _set_batch_size(config, size):
    """Set the batch size, and scale the rates in proportion."""
    scale = size / config.reference_batch_size
    config.learning_rate *= scale
    config.learning_rates = tuple((length, rate * scale) for length, rate in config.learning_rates)
    config.batch_size = config.reference_batch_size = size
