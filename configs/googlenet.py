"""GoogLeNet: Szegedy et al., "Going Deeper with Convolutions", 2014.

    python train.py --config configs/googlenet.py --config.data_dir=DIR

Published: top-5 7.89 (table 3; ImageNet validation, 144 crops); one crop 10.07, ten crops 9.15.

Brackets name the section of the paper. It trains by asynchronous SGD; here SGD is synchronous. It does not give rate,
batch, decay, initial weights and length; these are from Caffe's reproduction, bvlc_googlenet: batch 32, rate 0.01,
decay 2e-4, 250 epochs. The sampling for the competition changed over time and is not described; here it is the sampling
that the paper recommends. The paper tests averaged weights but does not say over how many steps; here the average is
exponential with a decay of 0.9999, as in its authors' later code.

Variants: those of configs/variants.py. The ensemble of seven is googlenet_ensemble.py.

Time: by arithmetic 3.0e18 FLOP, 8.4 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import imagenet, variants


def recipe():
    config = imagenet.get_config()
    config.crop.kind = 'area'  # [6] 8% to 100% of the area, 3:4 to 4:3
    config.crop.area = (0.08, 1.0)
    config.crop.aspect = (3 / 4, 4 / 3)
    config.crop.form = 'fb'  # wide as likely as tall
    config.crop.filter = 'random'  # [6] nearest, area, bilinear, cubic, with equal probability
    config.colour.flip = True
    config.colour.jitter = 'howard'  # [6] the photometric distortions of Howard 2013
    config.colour.lighting = 'cc2'  # the last of these
    config.normalize = 'constant'  # [5] zero mean
    config.mean = 'caffe_googlenet'

    config.architecture = 'googlenet'
    config.auxiliary_weight = 0.3  # [5]

    config.optimizer = 'momentum'  # [6]
    config.momentum = 0.9
    config.rate_inside = True  # Caffe, with its double rate for biases
    config.decayed = 'weights'
    config.bias_rate = 2.0
    config.weight_decay = 2e-4
    config.batch_size = config.reference_batch_size = 32
    config.num_epochs = 250.0
    config.schedule = 'every'  # [6] the rate times 0.96 every 8 epochs
    config.learning_rate = 0.01
    config.decay_every = 8.0
    config.decay_factor = 0.96
    config.average = 'ema'  # [6] Polyak averaging
    config.average_decay = 0.9999
    config.log_every_steps = 40
    config.checkpoint_every_steps = 20_000
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, small=variants.Small(80, auxiliary_window=1))
