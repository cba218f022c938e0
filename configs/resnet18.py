"""ResNet-18: He et al., "Deep Residual Learning for Image Recognition", 2015.

    python train.py --config configs/resnet18.py --config.data_dir=DIR

Published: top-1 27.88 (table 2; ImageNet validation, ten crops, shortcuts A).
Recipe, readings and variants are those of resnet50.py, and `shortcut=A`, `B` (the default) or `C` of section 3.3:
resnet18.py:shortcut=A is the network of the published figure.

Time: by arithmetic 1.7e18 FLOP, 4.6 hours at 100 TFLOP/s.
Measured: not yet run here.
"""

from configs import resnet50, variants


def shortcut(config, kind):
    config.architecture_options.shortcut = kind


VARIANTS = {**resnet50.VARIANTS, 'shortcut': shortcut}


def get_config(variant=''):
    config = resnet50.recipe()
    config.architecture = 'resnet18'
    return variants.apply(config, variant, **VARIANTS)
