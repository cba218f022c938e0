"""ResNet-32 on CIFAR-10: He et al. 2015, section 4.2.

    python train.py --config configs/resnet32.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 7.51 (table 6; CIFAR-10 test, one run, one view).
The recipe, our assumptions and the variants are those of resnet20.py.

Time: by arithmetic 3.4e15 FLOP, 34 seconds at 100 TFLOP/s, which so small a network does not reach.
Measured: not run yet.
"""

from configs import resnet20, variants


def get_config(variant=''):
    config = resnet20.recipe()
    config.architecture = 'resnet32'
    return variants.apply(config, variant)
