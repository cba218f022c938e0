"""VGG A, 11 layers: Simonyan and Zisserman 2014; the first of the family, from which the deeper ones start.

    python train.py --config configs/vgg_a.py --config.data_dir=DIR

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014. Published: top-1
29.6, top-5 10.4 (table 3; ImageNet validation, dense, scale 256).

Brackets name the section of the paper. The rate was divided by ten three times, when the validation accuracy stopped
rising, and training ended after 370 thousand steps, 74 epochs. The paper leaves open, and we assume: the rule for
plateaus (an improvement of less than 0.1 points in five epochs); decay of weights only and a velocity that includes the
rate, as in Caffe; lighting with the scale of the code of AlexNet's author; the mean color of the released weights.

Deviation: the initial weights are Glorot's, with which, as the paper notes, the stages are unnecessary [3.1]. Those
that it prints, normal with variance 0.01, are far too large for eleven layers and colors of 0 to 255: on 16 photographs
the first loss is 5.8e8 and the second not finite (CPU, 2026-11-24, `printed` with a batch of 16); with Glorot's it
falls. Many reimplementations use a standard deviation of 0.01 instead.

Variants, in addition to those of configs/variants.py, here and in the deeper networks:
- `fixed`: the rate is divided after 0.5, 0.75 and 0.9 of the run.
- `s384`: short side 384, rate 0.001, from the weights of the same network at 256 (`--config.init_from`) [3.1].
- `jitter`: short sides of 256 to 512, from the weights at 384, all layers fine-tuned [3.1]. Rate and length are not
  given; here 0.001 and 74 epochs.
- `printed`: initial weights with variance 0.01.
- `lecture`: rate 0.1 (the paper: 0.01), decay 0.005 (5e-4), initial weights with variance 0.1 (0.01), short sides of
  either 256 or 512 (any from 256 to 512), no lighting. It is for study: expect it to diverge. The lecture's chain of
  networks is vgg_chain.py:lecture.

Time: in the paper, two to three weeks per network on four Titan Black; by arithmetic 4.3e18 FLOP, 12.0 hours at 100
TFLOP/s.
Measured: `:cifar10,epochs=3`, 42.55% on the JPEG copy, 2026-11-25 (results/README.md).
"""

from configs import imagenet, variants

# [3.1] A's first four convolutions, matched by shape, and its fully connected layers.
FROM_A = ('conv1_1', 'conv2_1', 'conv3_1', 'conv3_2', 'fc6', 'fc7', 'fc8')


def _steps(*rates):
    """Return a schedule that drops the rate after 0.5, 0.75 and 0.9 of the 74 epochs."""
    return tuple(zip((37, 18.5, 11.1, 7.4), rates, strict=True))


def printed(config):
    config.architecture_options.initializer = 'gaussian_0.1'


def s384(config):
    _fine_tune(config, short_side=(384, 384))


def jitter(config):
    _fine_tune(config, short_side=(256, 512))


def _fine_tune(config, short_side):
    config.crop.short_side = short_side
    config.test_crop.short_side = (384, 384)  # [4.1] S, or the middle of its range
    config.init_layers = ()  # all
    config.learning_rate = 0.001
    config.learning_rates = _steps(0.001, 0.0001, 0.00001, 0.000001)


def lecture(config):
    config.crop.short_side = (256, 512)
    config.crop.ends_only = True
    config.test_crop.short_side = (384, 384)
    config.colour.lighting = 'none'
    config.architecture_options.initializer = 'gaussian_0.316'
    config.init_layers = ()
    config.weight_decay = 0.005
    config.learning_rate = 0.1
    config.learning_rates = _steps(0.1, 0.01, 0.001, 0.0001)


VARIANTS = {
    'small': variants.Small(32, window=1),
    's384': s384,
    'jitter': jitter,
    'printed': printed,
    'lecture': lecture,
}


def recipe():
    config = imagenet.get_config()
    config.crop.kind = 'random'  # [3.1] of the isotropically rescaled photograph
    config.crop.short_side = (256, 256)  # [3.1] S = 256
    config.colour.flip = True  # [3.1]
    config.colour.lighting = 'cc2'  # [3.1] "random RGB colour shift", citing AlexNet
    config.normalize = 'constant'  # [2.1] only the mean RGB value
    config.mean = 'vgg'

    config.architecture = 'vgg_a'
    config.architecture_options.initializer = 'xavier'  # [3.1] the note on Glorot and Bengio 2010

    config.optimizer = 'momentum'  # [3.1]
    config.momentum = 0.9
    config.rate_inside = True  # Caffe
    config.decayed = 'weights'
    config.weight_decay = 5e-4
    config.batch_size = config.reference_batch_size = 256
    config.num_epochs = 74.0
    config.schedule = 'plateau'
    config.learning_rate = 0.01
    config.plateau.drops = 3
    config.learning_rates = _steps(0.01, 0.001, 0.0001, 0.00001)
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)
