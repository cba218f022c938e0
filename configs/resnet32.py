"""ResNet-32 on CIFAR-10: He et al. 2015, section 4.2.

    python train.py --config configs/resnet32.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 7.51 (table 6; CIFAR-10 test, one run, one view).
Recipe, readings and variants are those of resnet20.py.

Time: by arithmetic 3.4e15 FLOP, 34 seconds at 100 TFLOP/s, which so small a network does not come near.
Measured: not yet run here.
"""

from configs import resnet20, variants


def get_config(variant=''):
    config = resnet20.recipe()
    config.architecture = 'resnet32'
    return variants.apply(config, variant)
