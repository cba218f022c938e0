"""SE-ResNet-50: Hu, Shen, Albanie, Sun and Wu, "Squeeze-and-Excitation Networks", 2017.

    python train.py --config configs/se_resnet50.py --config.data_dir=DIR

Published: top-1 23.29, top-5 6.62 (table 2; ImageNet validation, one crop). The weights that the authors released come
from a longer recipe, with rotations and shifts of the pixels, and are better than the paper's rows.

Section 5.1 of the paper: batches of 1024, a rate of 0.6, divided by ten every 30 of 100 epochs. The paper leaves open,
and we assume: a decay of 1e-4, of weights only; a velocity that includes the rate, as in Caffe, on which the authors'
program is based; bilinear resizing and fb.resnet.torch's form of the area crop. The conference version balances the
classes of a batch, which the journal version does not mention; here they are not balanced. Batch norm is over the 32
images of each GPU.

Variants: those of configs/variants.py.

Time: by arithmetic 3.0e18 FLOP, 8.2 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import imagenet, variants

VARIANTS = {'small': variants.Small(64)}


def recipe():
    config = imagenet.get_config()
    config.crop.kind = 'area'
    config.crop.area = (0.08, 1.0)
    config.crop.aspect = (3 / 4, 4 / 3)
    config.crop.form = 'fb'
    config.colour.flip = True
    config.normalize = 'channel_mean'

    config.architecture = 'se_resnet50'
    config.architecture_options.group_size = 32

    config.optimizer = 'momentum'
    config.momentum = 0.9
    config.rate_inside = True
    config.decayed = 'weights'
    config.weight_decay = 1e-4
    config.batch_size = config.reference_batch_size = 1024
    config.num_epochs = 100.0
    config.learning_rates = ((30, 0.6), (30, 0.06), (30, 0.006), (10, 0.0006))
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)
