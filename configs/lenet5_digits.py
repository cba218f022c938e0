"""LeNet-5 on scikit-learn's handwritten digits: a complete run in seconds, with nothing to download.

    python train.py --config configs/lenet5_digits.py

1,797 scans of 8x8 pixels in 17 gray levels (1,437 for training, 360 for testing, stratified by class), resized to
32x32. The network is LeNet-5 as it is taught, with 61,706 parameters. The recipe is ours, not from a paper: SGD with
momentum, and mild random distortions because there are few digits.
"""

from configs import base, variants


def get_config(variant=''):
    config = base.get_config()
    config.dataset = 'digits'
    config.fit = 'resize'
    config.distortion.versions = 30
    config.distortion.translation = 2.0
    config.distortion.scaling = 0.1
    config.distortion.squeezing = 0.1
    config.distortion.shear = 0.2

    config.architecture = 'lenet5'
    config.architecture_options.activation = 'relu'

    config.optimizer = 'momentum'
    config.momentum = 0.9
    config.weight_decay = 1e-4
    config.batch_size = config.reference_batch_size = 32
    config.num_epochs = 30.0
    config.learning_rates = ((20, 0.02), (7, 0.004), (3, 0.0008))
    config.log_every_steps = 45
    return variants.apply(config, variant, lecture="the lecture's LeNet-5 is configs/lenet5.py:lecture")
