"""Caffe's LeNet on MNIST: the example that came with Caffe (Jia et al. 2014), after LeNet-5.

    python train.py --config configs/lenet_caffe.py --config.data_dir=FOLDER_OF_THE_FOUR_IDX_FILES

Published: nothing in a paper; the weights that Caffe's authors' example makes, converted (convert.py), have 86 errors
in the 10,000 test images, 0.86%.

In brackets the file of Caffe's example: its network [train_test] and its solver [solver].

Variants: those of configs/variants.py.

Measured: not yet run here.
"""

from configs import base, variants


def recipe():
    config = base.get_config()
    config.dataset = 'mnist'
    config.image_size = 28
    config.pixel_range = (0.0, 255 / 256)  # [train_test] scale 0.00390625
    config.architecture = 'lenet_caffe'  # [train_test] with its xavier filler

    config.optimizer = 'momentum'  # [solver]
    config.momentum = 0.9
    config.rate_inside = True  # Caffe
    config.weight_decay = 5e-4  # [solver] of all parameters
    config.bias_rate = 2.0  # [train_test] lr_mult
    config.batch_size = config.reference_batch_size = 64  # [train_test]
    config.num_epochs = 10_000 * 64 / 60_000  # [solver] 10,000 steps
    config.schedule = 'inverse'  # [solver] inv: 0.01 * (1 + 0.0001 step)^-0.75
    config.learning_rate = 0.01
    config.decay_every = 10_000 * 64 / 60_000
    config.decay_power = 0.75
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, small=variants.Small(32, window=5))
