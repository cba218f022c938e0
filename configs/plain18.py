"""The plain network of 18 layers, ResNet-18 without its shortcuts: He et al. 2015.

    python train.py --config configs/plain18.py --config.data_dir=DIR

Published: top-1 27.94 (table 2; ImageNet validation, ten crops).
The recipe, our assumptions and the variants are those of resnet50.py, as the paper compares the two.

Time: by arithmetic 1.7e18 FLOP, 4.6 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import resnet50, variants


def get_config(variant=''):
    config = resnet50.recipe()
    config.architecture = 'plain18'
    return variants.apply(config, variant, **resnet50.VARIANTS)
