"""SE-ResNet-152: Hu et al., "Squeeze-and-Excitation Networks", 2017.

    python train.py --config configs/se_resnet152.py --config.data_dir=DIR

Published: top-1 21.57, top-5 5.73 (table 2; ImageNet validation, one crop).
The recipe, our assumptions and the variants are those of se_resnet50.py.

Time: by arithmetic 8.7e18 FLOP, 24.1 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import se_resnet50, variants


def get_config(variant=''):
    config = se_resnet50.recipe()
    config.architecture = 'se_resnet152'
    return variants.apply(config, variant, **se_resnet50.VARIANTS)
