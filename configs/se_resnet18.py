"""SE-ResNet-18: Hu et al., "Squeeze-and-Excitation Networks", 2017.

    python train.py --config configs/se_resnet18.py --config.data_dir=DIR

Published: nothing; the paper has no network of this depth.
The recipe, our assumptions and the variants are those of se_resnet50.py.

Time: by arithmetic 1.4e18 FLOP, 3.9 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import se_resnet50, variants


def get_config(variant=''):
    config = se_resnet50.recipe()
    config.architecture = 'se_resnet18'
    return variants.apply(config, variant, **se_resnet50.VARIANTS)
