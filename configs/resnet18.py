"""ResNet-18: He et al., "Deep Residual Learning for Image Recognition", 2015.

    python train.py --config configs/resnet18.py --config.data_dir=DIR

Published: top-1 27.88 (table 2; ImageNet validation, ten crops, shortcuts A).
The recipe, our assumptions and the variants are those of resnet50.py. In addition, `shortcut=A`, `B` (the default) or
`C` selects a shortcut of section 3.3; the published error is that of resnet18.py:shortcut=A.

Time: by arithmetic 1.7e18 FLOP, 4.6 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import resnet50, variants


def shortcut(config, kind):
    config.architecture_options.shortcut = kind


VARIANTS = {**resnet50.VARIANTS, 'shortcut': shortcut}


def get_config(variant=''):
    config = resnet50.recipe()
    config.architecture = 'resnet18'
    return variants.apply(config, variant, **VARIANTS)
