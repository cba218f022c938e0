"""ResNet-101: He et al., "Deep Residual Learning for Image Recognition", 2015.

    python train.py --config configs/resnet101.py --config.data_dir=DIR

Published: top-1 21.75, top-5 6.05 (table 3; ImageNet validation, ten crops); 19.87, 4.60 (table 4; fully convolutional,
five scales); one crop, the authors' release: 23.6, 7.1.
The recipe, our assumptions and the variants are those of resnet50.py.

Time: by arithmetic 7.0e18 FLOP, 19.4 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import resnet50, variants


def get_config(variant=''):
    config = resnet50.recipe()
    config.architecture = 'resnet101'
    return variants.apply(config, variant, **resnet50.VARIANTS)
