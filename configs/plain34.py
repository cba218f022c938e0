"""The plain network of 34 layers, ResNet-34 without its shortcuts: He et al. 2015.

    python train.py --config configs/plain34.py --config.data_dir=DIR

Published: top-1 28.54, top-5 10.02 (table 3; ImageNet validation, ten crops).
The recipe, our assumptions and the variants are those of resnet50.py, as the paper compares the two.

Time: by arithmetic 3.4e18 FLOP, 9.3 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import resnet50, variants


def get_config(variant=''):
    config = resnet50.recipe()
    config.architecture = 'plain34'
    return variants.apply(config, variant, **resnet50.VARIANTS)
