"""ResNet-152: He et al., "Deep Residual Learning for Image Recognition", 2015.

    python train.py --config configs/resnet152.py --config.data_dir=DIR

Published: top-1 21.43, top-5 5.71 (table 3; ImageNet validation, ten crops); 19.38, 4.49 (table 4; fully convolutional,
five scales); one crop, the authors' release: 23.0, 6.7.
The recipe, our assumptions and the variants are those of resnet50.py.

Time: by arithmetic 1.0e19 FLOP, 28.9 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import resnet50, variants


def get_config(variant=''):
    config = resnet50.recipe()
    config.architecture = 'resnet152'
    return variants.apply(config, variant, **resnet50.VARIANTS)
