"""WRN-28-10 on CIFAR-10: Zagoruyko and Komodakis, "Wide Residual Networks", 2016.

    python train.py --config configs/wrn_28_10.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 4.00 (table 5; CIFAR-10 test, median of five runs, one view); with dropout 3.89 (table 6).

The recipe is section 3 of the paper. The authors' code changes the rate at the start of epoch 60, after 59 full epochs,
resets the velocity then, and drops each epoch's last, smaller batch. Here the rate changes after 60, 120 and 160
epochs, as in the paper, the velocity is not reset, and batches continue into the next epoch.

Variants, in addition to those of configs/variants.py: `dropout`, 0.3 between the convolutions of a block; `cifar100`,
on CIFAR-100 (published: 19.25), normalized by CIFAR-10's mean and deviation, as in the authors' code; `cifar10` is the
same recipe in 30 epochs.

Time: by arithmetic 3.1e17 FLOP, 52 minutes at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import cifar, variants


def dropout(config):
    config.architecture_options.dropout = 0.3


VARIANTS = {'dropout': dropout, 'cifar100': cifar.cifar100}


def recipe():
    config = cifar.get_config()
    config.colour.padding_mode = 'reflect'
    config.normalize = 'constant'  # mean and deviation, as in tables 5, 6 and 9; table 4 whitens
    config.mean = config.std = 'cifar10'

    config.architecture = 'wrn_28_10'
    config.architecture_options.group_size = 128  # one GPU

    config.optimizer = 'nesterov'
    config.momentum = 0.9
    config.rate_inside = False
    config.decayed = 'all'  # the authors' code
    config.weight_decay = 5e-4
    config.batch_size = config.reference_batch_size = 128
    config.num_epochs = 200.0
    config.learning_rates = ((60, 0.1), (60, 0.02), (40, 0.004), (40, 0.0008))
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)
