"""ResNet-1202 on CIFAR-10: He et al. 2015, section 4.2.

    python train.py --config configs/resnet1202.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 7.93 (table 6; CIFAR-10 test, one run, one view).
The recipe, our assumptions and the variants are those of resnet110.py; we assume that it has the warm-up, too. Its
equal blocks run as a scan, which computes the same and compiles in minutes.
`--config.architecture_options.remat=True` saves memory.

Time: by arithmetic 1.4e17 FLOP, 23 minutes at 100 TFLOP/s, which a network of such small layers does not reach.
Measured: not run yet.
"""

from configs import resnet110, variants


def get_config(variant=''):
    config = resnet110.recipe()
    config.architecture = 'resnet1202'
    config.architecture_options.scan = True
    config.architecture_options.remat = False
    return variants.apply(config, variant)
