"""ResNeXt-101 (64x4d): Xie et al. 2016.

    python train.py --config configs/resnext101_64x4d.py --config.data_dir=DIR

Published: top-1 20.4, top-5 5.3 (table 4; ImageNet validation, one crop); one crop of 320: 19.1, 4.4 (table 5).
The recipe, our assumptions and the variants are those of resnext50_32x4d.py.

Time: by arithmetic 1.2e19 FLOP, 33.0 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import resnext50_32x4d, variants


def get_config(variant=''):
    config = resnext50_32x4d.recipe()
    config.architecture = 'resnext101_64x4d'
    return variants.apply(config, variant, **resnext50_32x4d.VARIANTS)
