"""ResNeXt-50 (32x4d): Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", 2016.

    python train.py --config configs/resnext50_32x4d.py --config.data_dir=DIR

Published: top-1 22.2 (table 3; ImageNet validation, one crop).

Section 4 of the paper has the pipeline and schedule of fb.resnet.torch (fb.py), with the rate divided three times. From
the authors' code: 100 epochs, so that the third division is after 90, and Nesterov's momentum, where the paper says
momentum. Batch norm is over the 32 images of each of eight GPUs.

Variants: those of configs/variants.py.

Time: by arithmetic 3.3e18 FLOP, 9.0 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import fb, variants

VARIANTS = {'small': variants.Small(64)}


def recipe():
    config = fb.get_config()
    config.architecture = 'resnext50_32x4d'
    config.architecture_options.group_size = 32
    config.num_epochs = 100.0
    config.learning_rates = ((30, 0.1), (30, 0.01), (30, 0.001), (10, 0.0001))
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)
