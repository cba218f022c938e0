"""AlexNet: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012.

    python train.py --config configs/alexnet.py --config.data_dir=DIR

Published: top-1 40.7, top-5 18.2 (table 2; ImageNet validation, ten crops of the central square).

Brackets name the section of the paper. Where it leaves something open, our assumptions are:
- Crops have 227 pixels, as the arithmetic of the first layer requires, not the 224 in print.
- The center of the mean image is subtracted from every crop, as in the author's code (Caffe: the part under the crop).
- Lighting has the scale of the author's code (`colour.lighting`). That code also multiplies the training pixels, but
  not the test pixels, by 1/1.1, with or without lighting; the paper does not mention it.
- All layers have the same learning rate, also their biases. Only weights decay.
- The rate was divided by ten manually, three times, when the validation error stopped falling: here, when it has
  improved by less than 0.1 points in five epochs.

Variants, in addition to those of configs/variants.py:
- `fixed`: the rate is divided by ten after each quarter of the 90 epochs, independently of the error. Our choice.
- `cuda_convnet2`: the rates of the author's later program: 0.01, 0.0015874, 0.00025198 and 0.00004 for a quarter of the
  epochs each, which is a factor of 250 in three equal steps.
- `unscaled`: without the factor of 1/1.1.
- `lecture`: pooling before normalization, one tower, biases that start at 0 (the paper: 1 in conv2, conv4, conv5 and
  the hidden fully connected layers), rate drops by the training loss instead of the validation error, photographs
  warped to 256x256 instead of cropped to their central square.
- `cifar10` and `folder=DIR` start those biases at 0.1, as Caffe does: with 1, training on small images gets stuck at a
  loss of ln(classes).

Time: in the paper, five to six days on two GTX 580; by arithmetic 5.0e17 FLOP, 84 minutes at 100 TFLOP/s.
Measured: `:cifar10,epochs=3`, 58.51% on the JPEG copy, 2026-11-25 (results/README.md).
"""

from configs import imagenet, variants


def cuda_convnet2(config):
    config.schedule = 'steps'
    config.learning_rates = ((22.5, 0.01), (22.5, 0.0015874), (22.5, 0.00025198), (22.5, 0.00004))


def unscaled(config):
    config.colour.scale = 1.0


def lecture(config):
    config.architecture_options.pool_before_norm = True
    config.architecture_options.groups = 1
    config.architecture_options.hidden_bias = 0.0
    config.plateau.metric = 'train_loss'
    config.plateau.threshold = 0.01
    for crop in (config.crop, config.test_crop):
        crop.square = False
        crop.warp = True


OF_THE_AUTHOR = {'cuda_convnet2': cuda_convnet2, 'unscaled': unscaled}
VARIANTS = {'small': variants.Small(67, window=1, hidden_bias=0.1), 'lecture': lecture, **OF_THE_AUTHOR}


def recipe():
    config = imagenet.get_config()
    config.image_size = 227
    for crop in (config.crop, config.test_crop):  # [2] short side 256, the central square
        crop.short_side = (256, 256)
        crop.square = True
    config.crop.kind = 'random'  # [4.1]
    config.colour.flip = True  # [4.1]
    config.colour.lighting = 'cc2'  # [4.1]
    config.colour.lighting_deviation = 0.1
    config.colour.scale = 1 / 1.1  # the author's code, only in training; not in the paper
    config.normalize = 'mean_image'  # [2] the mean activity over the training set, of each pixel
    config.colour.mean_under_crop = False

    config.architecture = 'alexnet'

    config.optimizer = 'momentum'  # [5]
    config.momentum = 0.9
    config.rate_inside = True
    config.decayed = 'weights'
    config.weight_decay = 5e-4
    config.batch_size = config.reference_batch_size = 128
    config.num_epochs = 90.0
    config.schedule = 'plateau'
    config.learning_rate = 0.01
    config.plateau.drops = 3
    config.learning_rates = ((22.5, 0.01), (22.5, 0.001), (22.5, 0.0001), (22.5, 0.00001))
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)
