"""VGG, configuration D (16 layers): Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", 2014.

    python train.py --config configs/vgg_d.py --config.data_dir=DIR

The paper's section in brackets. Scale jitter: --config.crop.short_side="(256, 512)". The rate was divided by ten when
the validation accuracy stopped rising, three times in 74 epochs; here at 0.5, 0.75 and 0.9 of them. The paper begins
the deep networks from the weights of a shallow one.
"""

from configs import imagenet


def get_config():
    config = imagenet.get_config()
    config.crop.kind = 'random'  # [3.1] of the isotropically rescaled photograph
    config.crop.short_side = (256, 256)  # [3.1] S = 256
    config.colour.flip = True  # [3.1]
    config.colour.lighting = 'cc2'  # [3.1] "random RGB colour shift", by reference to AlexNet
    config.normalize = 'constant'  # [2.1] the mean RGB value alone
    config.mean = 'vgg'

    config.architecture = 'vgg_d'

    config.optimizer = 'momentum'  # [3.1]
    config.momentum = 0.9
    config.rate_inside = True  # Caffe
    config.decayed = 'weights'
    config.weight_decay = 5e-4
    config.batch_size = 256
    config.num_epochs = 74.0
    config.learning_rates = ((37, 0.01), (18.5, 0.001), (11.1, 0.0001), (7.4, 0.00001))
    config.log_every_steps = 20
    config.checkpoint_every_steps = 5000
    return config
