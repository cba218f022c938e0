"""SE-ResNet-101: Hu et al., "Squeeze-and-Excitation Networks", 2017.

    python train.py --config configs/se_resnet101.py --config.data_dir=DIR

Published: top-1 22.38, top-5 6.07 (table 2; ImageNet validation, one crop).
The recipe, our assumptions and the variants are those of se_resnet50.py.

Time: by arithmetic 5.8e18 FLOP, 16.2 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import se_resnet50, variants


def get_config(variant=''):
    config = se_resnet50.recipe()
    config.architecture = 'se_resnet101'
    return variants.apply(config, variant, **se_resnet50.VARIANTS)
