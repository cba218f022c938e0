"""GoogLeNet: Szegedy et al., "Going Deeper with Convolutions", 2014.

    python train.py --config configs/googlenet.py --config.data_dir=DIR

The paper's section in brackets. It trains by asynchronous SGD and leaves rate, batch, decay and length unsaid; those
are of Caffe's reproduction, bvlc_googlenet: batch 32, rate 0.01, decay 2e-4, 250 epochs.
"""

from configs import imagenet


def get_config():
    config = imagenet.get_config()
    config.crop.kind = 'area'  # [6] 8% to 100% of the area, 3:4 to 4:3
    config.crop.area = (0.08, 1.0)
    config.crop.aspect = (3 / 4, 4 / 3)
    config.crop.form = 'fb'  # wide and tall as likely
    config.crop.filter = 'random'  # [6] nearest, area, bilinear, cubic, with equal probability
    config.colour.flip = True
    config.colour.jitter = 'howard'  # [6] the photometric distortions of Howard 2013
    config.colour.lighting = 'cc2'  # the last of them
    config.normalize = 'constant'  # [5] zero mean
    config.mean = 'caffe_googlenet'

    config.architecture = 'googlenet'
    config.auxiliary_weight = 0.3  # [5]

    config.optimizer = 'momentum'  # [6]
    config.momentum = 0.9
    config.rate_inside = True  # Caffe, with its habit for biases
    config.decayed = 'weights'
    config.bias_rate = 2.0
    config.weight_decay = 2e-4
    config.batch_size = 32
    config.num_epochs = 250.0
    config.schedule = 'every'  # [6] the rate times 0.96 every 8 epochs
    config.learning_rate = 0.01
    config.decay_every = 8.0
    config.decay_factor = 0.96
    config.log_every_steps = 40
    config.checkpoint_every_steps = 20_000
    return config
