"""The base of the recipes for ILSVRC2012; by itself it is not a useful experiment."""

from configs import base


def get_config():
    config = base.get_config()
    config.dataset = 'imagenet'
    config.test_split = 'validation'
    config.num_classes = 1000
    config.channels = 3
    config.image_size = 224
    config.test_crop.kind = 'center'  # one view, of short side 256
    config.test_batch_size = 128
    config.log_every_steps = 20
    config.checkpoint_every_steps = 5000
    return config
