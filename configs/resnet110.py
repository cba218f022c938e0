"""ResNet-110 on CIFAR-10: He et al. 2015, section 4.2.

    python train.py --config configs/resnet110.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 6.43 (table 6; CIFAR-10 test, best of five runs; their mean 6.61).
The recipe, our assumptions and the variants are those of resnet20.py, with the paper's warm-up: a rate of 0.01 until
the training error is below 80%, measured over 100 steps. We assume that the schedule counts these steps, too.

Time: by arithmetic 1.2e16 FLOP, 2 minutes at 100 TFLOP/s, which a network of such small layers does not reach.
Measured: not run yet.
"""

from configs import resnet20, variants


def recipe():
    config = resnet20.recipe()
    config.architecture = 'resnet110'
    config.warmup.learning_rate = 0.01
    config.warmup.until_error = 80.0
    config.warmup.steps = 100
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant)
