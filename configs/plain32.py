"""The plain network of 32 layers on CIFAR-10, ResNet-32 without its shortcuts: He et al. 2015, section 4.2.

    python train.py --config configs/plain32.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: a curve alone (figure 6, left): deeper plain networks have the larger errors, in training too.
The recipe, our assumptions and the variants are those of resnet20.py.

Time: by arithmetic 3.4e15 FLOP, 34 seconds at 100 TFLOP/s, which so small a network does not reach.
Measured: not run yet.
"""

from configs import resnet20, variants


def get_config(variant=''):
    config = resnet20.recipe()
    config.architecture = 'plain32'
    return variants.apply(config, variant)
