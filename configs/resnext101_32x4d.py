"""ResNeXt-101 (32x4d): Xie et al. 2016.

    python train.py --config configs/resnext101_32x4d.py --config.data_dir=DIR

Published: top-1 21.2, top-5 5.6 (table 4; ImageNet validation, one crop).
The recipe, our assumptions and the variants are those of resnext50_32x4d.py.

Time: by arithmetic 6.1e18 FLOP, 17.0 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import resnext50_32x4d, variants


def get_config(variant=''):
    config = resnext50_32x4d.recipe()
    config.architecture = 'resnext101_32x4d'
    return variants.apply(config, variant, **resnext50_32x4d.VARIANTS)
