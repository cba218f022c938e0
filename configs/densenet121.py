"""DenseNet-121: Huang, Liu, van der Maaten and Weinberger, "Densely Connected Convolutional Networks", 2016.

    python train.py --config configs/densenet121.py --config.data_dir=DIR

Published: top-1 25.02, top-5 7.71 (table 3; ImageNet validation, one crop); ten crops 23.61, 6.66.

Section 4.2 of the paper has the pipeline of fb.resnet.torch (fb.py) and 90 epochs, with the rate divided after 30 and
60. Batch norm is over 64 images, for 256 on four GPUs as in the authors' example.

Variants: those of configs/variants.py.

Time: by arithmetic 2.0e18 FLOP, 5.4 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import fb, variants

VARIANTS = {'small': variants.Small(64)}


def recipe():
    config = fb.get_config()
    config.architecture = 'densenet121'
    config.architecture_options.group_size = 64
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)
