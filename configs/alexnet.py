"""AlexNet: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012.

    python train.py --config configs/alexnet.py --config.data_dir=DIR

The paper's section in brackets. Where it leaves something open we read it so: crops are of 227 pixels, which is what
the first layer's arithmetic needs, and not of the 224 that are printed; the mean that is subtracted is the part of the
mean image under the crop; lighting has the scale of the author's own code (`colour.lighting`). The rate was divided by
ten by hand, three times, when the validation error stopped falling; here at a third each of 90 epochs.
"""

from configs import imagenet


def get_config():
    config = imagenet.get_config()
    config.image_size = 227
    for crop in (config.crop, config.test_crop):  # [2] short side 256, the central square
        crop.short_side = (256, 256)
        crop.square = True
    config.crop.kind = 'random'  # [4.1]
    config.colour.flip = True  # [4.1]
    config.colour.lighting = 'cc2'  # [4.1]
    config.colour.lighting_deviation = 0.1
    config.colour.scale = 1 / 1.1  # the author's code, with its lighting
    config.normalize = 'mean_image'  # [2] the mean activity over the training set, of each pixel

    config.architecture = 'alexnet'

    config.optimizer = 'momentum'  # [5]
    config.momentum = 0.9
    config.rate_inside = True
    config.decayed = 'weights'
    config.weight_decay = 5e-4
    config.batch_size = 128
    config.num_epochs = 90.0
    config.learning_rates = ((30, 0.01), (30, 0.001), (30, 0.0001))
    config.log_every_steps = 20
    config.checkpoint_every_steps = 5000
    return config
