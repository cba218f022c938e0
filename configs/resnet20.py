"""ResNet-20 on CIFAR-10: He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2.

    python train.py --config configs/resnet20.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 8.75 (table 6; CIFAR-10 test, one run, one view).

The recipe is section 4.2 of the paper, which trains on 45,000 images to choose settings and on all 50,000 for its
results, as here. The paper leaves open, and we assume: as for ImageNet (resnet50.py), the velocity includes the rate,
only weights decay, and batch norm's statistics are measured again after training; batch norm is over the 64 images of
each of the two GPUs; the flip comes before the padding, which adds zeros after the mean is subtracted.

Variants: those of configs/variants.py; `cifar10` is the same recipe in 30 epochs.

Time: by arithmetic 2.0e15 FLOP, 20 seconds at 100 TFLOP/s, which so small a network does not reach.
Measured: `:cifar10,epochs=24`, 16.20% on its JPEG copy after 53 minutes on 2 cores, 2026-11-25 (results/README.md).
"""

from configs import cifar, variants

EPOCH = 50_000 / 128  # steps


def recipe():
    config = cifar.get_config()
    config.normalize = 'mean_image'  # of each pixel

    config.architecture = 'resnet20'
    config.architecture_options.group_size = 64

    config.optimizer = 'momentum'
    config.momentum = 0.9
    config.rate_inside = True
    config.decayed = 'weights'
    config.weight_decay = 1e-4
    config.batch_size = config.reference_batch_size = 128
    config.num_epochs = 64_000 / EPOCH
    config.learning_rates = (  # divided after 32,000 and 48,000 steps
        (32_000 / EPOCH, 0.1),
        (16_000 / EPOCH, 0.01),
        (16_000 / EPOCH, 0.001),
    )
    config.recompute_batch_stats = 200
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant)
