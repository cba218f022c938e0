"""SENet-154: Hu et al., "Squeeze-and-Excitation Networks", 2017, section 5.4 and appendix.

    python train.py --config configs/senet154.py --config.data_dir=DIR

Published: top-1 18.68, top-5 4.47 (table 8; ImageNet validation, one crop); one crop of 320: 17.28, 3.79.

The recipe of se_resnet50.py with the appendix's batches of 2048 on 64 GPUs, rate of 1.0 and label smoothing, with
Inception-v3's 0.1. The paper does not give length and drops; they are as in that recipe. It freezes batch norm in the
last epochs, but does not say in how many: here a second command, `senet154.py:frozen --config.init_from=DIR`, continues
for five epochs with the running statistics.

Variants: those of configs/variants.py and `frozen`.

Time: by arithmetic 1.6e19 FLOP, 44.2 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import se_resnet50, variants


def recipe():
    config = se_resnet50.recipe()
    config.architecture = 'senet154'
    config.label_smoothing = 0.1
    config.batch_size = config.reference_batch_size = 2048
    config.learning_rates = ((30, 1.0), (30, 0.1), (30, 0.01), (10, 0.001))
    return config


def frozen(config):
    """Continue a finished run at its last rate; batch norm uses its running statistics."""
    config.architecture_options.frozen_norm = True
    config.num_epochs = 5.0
    config.learning_rates = ((5, 0.001),)


def get_config(variant=''):
    return variants.apply(recipe(), variant, **se_resnet50.VARIANTS, frozen=frozen)
