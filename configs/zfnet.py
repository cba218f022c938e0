"""ZFNet: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013.

    python train.py --config configs/zfnet.py --config.data_dir=DIR

Published: top-1 38.4, top-5 16.5 (table 2; ImageNet validation; it does not give the views, we assume ten crops).

Brackets name the section of the paper. It leaves open, and we assume: AlexNet's decay of 5e-4, of weights only; the
rate divided by ten, three times, at plateaus; initial weights that are normal with a standard deviation of 0.01 (it
says 0.01, but equal weights cannot learn); no lighting, which it does not mention.

Variants, in addition to those of configs/variants.py:
- `fixed`: the rate is divided after each quarter of the 70 epochs.
- `lecture`: layers 3 to 5 with 512, 1024, 512 maps, table 2's model (b); figure 3 has 384, 384, 256.

Time: in the paper, 12 days on one GTX 580; by arithmetic 6.3e17 FLOP, 105 minutes at 100 TFLOP/s.
Measured: `:cifar10,epochs=1.5`, 73.44% on the JPEG copy, 2026-11-25 (results/README.md).
"""

from configs import imagenet, variants


def lecture(config):
    config.architecture_options.widths = (512, 1024, 512)


VARIANTS = {'small': variants.Small(64, window=1), 'lecture': lecture}


def recipe():
    config = imagenet.get_config()
    for crop in (config.crop, config.test_crop):  # [3] short side 256, the central square
        crop.short_side = (256, 256)
        crop.square = True
    config.crop.kind = 'one_of_five'  # [3] corners and center; with flips, ten crops
    config.colour.flip = True
    config.normalize = 'mean_image'  # [3] of each pixel

    config.architecture = 'zfnet'

    config.optimizer = 'momentum'  # [3]
    config.momentum = 0.9
    config.rate_inside = True  # cuda-convnet
    config.decayed = 'weights'
    config.weight_decay = 5e-4
    config.filter_rms = 0.1  # [3] filters of convolutions are rescaled to it
    config.batch_size = config.reference_batch_size = 128
    config.num_epochs = 70.0
    config.schedule = 'plateau'
    config.learning_rate = 0.01
    config.plateau.drops = 3
    config.learning_rates = ((17.5, 0.01), (17.5, 0.001), (17.5, 0.0001), (17.5, 0.00001))
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)
