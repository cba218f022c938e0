"""DenseNet-BC with 100 layers and growth 12 on CIFAR-10: Huang et al. 2016.

    python train.py --config configs/densenet_bc_100_12.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 4.51 (table 2; CIFAR-10 test, augmented, one view); without augmentation 5.92.

The recipe is section 4.2 of the paper; the errors are for training on all 50,000 images. Decay of all parameters is
from the authors' code. The number of GPUs is not stated; here batch norm is over the entire batch.

Variants, in addition to those of configs/variants.py:

    unaugmented     no flips or shifts, and a dropout of 0.2
    cifar100        CIFAR-100, with its mean and deviation. Published: 22.27; `unaugmented,cifar100`: 24.15
    svhn            SVHN's 604,388 training images, not augmented, for 40 epochs. Published: 1.76, for the best epoch on
                    6,000 held-out training images; here all are trained on, and the last epoch counts
    cifar10         the same recipe in 30 epochs

Time: by arithmetic 2.6e16 FLOP, 4 minutes at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import cifar, variants


def unaugmented(config):
    config.colour.flip = False
    config.colour.padding = 0
    config.architecture_options.dropout = 0.2


def cifar100(config):
    cifar.cifar100(config)
    config.mean = config.std = 'cifar100'


def svhn(config):
    unaugmented(config)
    config.dataset = 'svhn'
    config.train_split = 'train+extra'
    config.normalize = 'range'
    config.pixel_range = (0.0, 1.0)
    config.mean = config.std = 'none'
    config.num_epochs = 40.0
    config.learning_rates = ((20, 0.1), (10, 0.01), (10, 0.001))


def recipe():
    config = cifar.get_config()
    config.normalize = 'constant'
    config.mean = config.std = 'cifar10'

    config.architecture = 'densenet_bc_100_12'
    config.architecture_options.group_size = 64

    config.optimizer = 'nesterov'
    config.momentum = 0.9
    config.rate_inside = False
    config.decayed = 'all'
    config.weight_decay = 1e-4
    config.batch_size = config.reference_batch_size = 64
    config.num_epochs = 300.0
    config.learning_rates = ((150, 0.1), (75, 0.01), (75, 0.001))  # divided at 50% and 75%
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, unaugmented=unaugmented, cifar100=cifar100, svhn=svhn)
