"""ResNet-44 on CIFAR-10: He et al. 2015, section 4.2.

    python train.py --config configs/resnet44.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 7.17 (table 6; CIFAR-10 test, one run, one view).
The recipe, our assumptions and the variants are those of resnet20.py.

Time: by arithmetic 4.8e15 FLOP, 48 seconds at 100 TFLOP/s, which so small a network does not reach.
Measured: not run yet.
"""

from configs import resnet20, variants


def get_config(variant=''):
    config = resnet20.recipe()
    config.architecture = 'resnet44'
    return variants.apply(config, variant)
