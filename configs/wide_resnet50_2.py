"""WRN-50-2-bottleneck on ImageNet: Zagoruyko and Komodakis, "Wide Residual Networks", 2016.

    python train.py --config configs/wide_resnet50_2.py --config.data_dir=DIR

Published: top-1 21.9, top-5 6.03 (table 8; ImageNet validation, one crop; table 9 has 5.79, another network's error).

The paper refers to fb.resnet.torch for all settings (fb.py): 90 epochs, the rate divided after 30 and 60. It does not
give the number of GPUs, and so the images per batch norm; here 32, as in ResNeXt.

Variants: those of configs/variants.py.

Time: by arithmetic 7.9e18 FLOP, 21.9 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import fb, variants


def recipe():
    config = fb.get_config()
    config.architecture = 'wide_resnet50_2'
    config.architecture_options.group_size = 32
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, small=variants.Small(64))
