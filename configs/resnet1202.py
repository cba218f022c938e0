"""ResNet-1202 on CIFAR-10: He et al. 2015, section 4.2.

    python train.py --config configs/resnet1202.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 7.93 (table 6; CIFAR-10 test, one run, one view).
Recipe, readings and variants are those of resnet110.py, whose warm-up it has by our reading. Its equal blocks run as a
scan, which computes the same and compiles in minutes; `--config.architecture_options.remat=True` fits it into less
memory.

Time: by arithmetic 1.4e17 FLOP, 23 minutes at 100 TFLOP/s, which a network of so small layers does not come near.
Measured: not yet run here.
"""

from configs import resnet110, variants


def get_config(variant=''):
    config = resnet110.recipe()
    config.architecture = 'resnet1202'
    config.architecture_options.scan = True
    config.architecture_options.remat = False
    return variants.apply(config, variant)
