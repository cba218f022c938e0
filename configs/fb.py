"""The base of the recipes that follow fb.resnet.torch: Wide ResNet, ResNeXt and DenseNet on ImageNet.

The pipeline and the optimizer are those of that program, which the authors of ResNeXt and DenseNet used unchanged.
"""

from configs import imagenet


def get_config():
    config = imagenet.get_config()
    config.crop.kind = 'area'  # 8% to 100% of the area, 3:4 to 4:3, wide as likely as tall
    config.crop.area = (0.08, 1.0)
    config.crop.aspect = (3 / 4, 4 / 3)
    config.crop.form = 'fb'
    config.crop.filter = 'bicubic'
    config.test_crop.filter = 'bicubic'
    config.test_crop.truncate = True
    config.test_crop.center_rounds = 'up'
    config.colour.jitter = 'fb'  # brightness, contrast, saturation, 0.4 each, in random order
    config.colour.lighting = 'fb'
    config.colour.lighting_deviation = 0.1
    config.colour.flip = True
    config.normalize = 'constant'
    config.mean = config.std = 'fb'

    config.optimizer = 'nesterov'
    config.momentum = 0.9
    config.rate_inside = False
    config.decayed = 'all'  # batch norm's parameters and biases, too
    config.weight_decay = 1e-4
    config.batch_size = config.reference_batch_size = 256
    config.num_epochs = 90.0
    config.learning_rates = ((30, 0.1), (30, 0.01), (30, 0.001))
    return config
