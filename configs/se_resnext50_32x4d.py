"""SE-ResNeXt-50 (32x4d): Hu et al., "Squeeze-and-Excitation Networks", 2017.

    python train.py --config configs/se_resnext50_32x4d.py --config.data_dir=DIR

Published: top-1 21.10, top-5 5.49 (table 2; ImageNet validation, one crop).
The recipe, our assumptions and the variants are those of se_resnet50.py.

Time: by arithmetic 3.3e18 FLOP, 9.0 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import se_resnet50, variants


def get_config(variant=''):
    config = se_resnet50.recipe()
    config.architecture = 'se_resnext50_32x4d'
    return variants.apply(config, variant, **se_resnet50.VARIANTS)
