"""The plain network of 20 layers on CIFAR-10, ResNet-20 without its shortcuts: He et al. 2015, section 4.2.

    python train.py --config configs/plain20.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: a curve alone (figure 6, left): deeper plain networks have the larger errors, in training too.
The recipe, our assumptions and the variants are those of resnet20.py.

Time: by arithmetic 2.0e15 FLOP, 20 seconds at 100 TFLOP/s, which so small a network does not reach.
Measured: `cifar10,epochs=10` on CIFAR-10's JPEG copy, 2 cores of an AMD EPYC, 2026-11-26: test error 23.54% (ResNet-20:
21.79%), training error 23.83% (results/README.md). The 64,000 steps: not yet run here.
"""

from configs import resnet20, variants


def get_config(variant=''):
    config = resnet20.recipe()
    config.architecture = 'plain20'
    return variants.apply(config, variant)
