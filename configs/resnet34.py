"""ResNet-34: He et al., "Deep Residual Learning for Image Recognition", 2015.

    python train.py --config configs/resnet34.py --config.data_dir=DIR

Published: top-1 24.52, top-5 7.46 (table 3; ImageNet validation, ten crops); with `shortcut=A` 25.03, 7.76, with
`shortcut=C` 24.19, 7.40.
The recipe and our assumptions are those of resnet50.py, the variants those of resnet18.py.

Time: by arithmetic 3.4e18 FLOP, 9.4 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import resnet18, resnet50, variants


def get_config(variant=''):
    config = resnet50.recipe()
    config.architecture = 'resnet34'
    return variants.apply(config, variant, **resnet18.VARIANTS)
