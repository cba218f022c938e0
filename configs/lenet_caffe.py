"""Caffe's LeNet on MNIST: an example in Caffe (Jia et al. 2014), after LeNet-5.

    python train.py --config configs/lenet_caffe.py --config.data_dir=FOLDER_OF_THE_FOUR_IDX_FILES

Published: nothing in a paper. The weights trained by Caffe's example, converted with convert.py, make 86 errors on the
10,000 test images, 0.86%.

Brackets name the file of Caffe's example: its network [train_test] or its solver [solver].

Variants: those of configs/variants.py.

Measured: not run yet.
"""

from configs import base, variants


def recipe():
    config = base.get_config()
    config.dataset = 'mnist'
    config.image_size = 28
    config.pixel_range = (0.0, 255 / 256)  # [train_test] scale 0.00390625
    config.architecture = 'lenet_caffe'  # [train_test] with Caffe's xavier filler

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
