"""OverFeat, the fast model: Sermanet et al. 2013.

    python train.py --config configs/overfeat_fast.py --config.data_dir=DIR

Sermanet, Eigen, Zhang, Mathieu, Fergus and LeCun, "OverFeat: Integrated Recognition, Localization and Detection using
Convolutional Networks", 2013. Published: top-1 38.57, top-5 16.39 (table 2; ImageNet validation, dense, four scales,
fine stride).

Brackets name the section of the paper. The paper leaves open, and we assume: the end after 90 epochs (the last change
of the rate is after 80); a velocity without the rate and decay of all parameters, as in Torch; one random crop of the
five, or its flip, each time that an image is used; the scalar mean and deviation of the authors' release.

Variants: those of configs/variants.py.

Time: by arithmetic 1.9e18 FLOP, 5.4 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import imagenet, variants


def recipe():
    config = imagenet.get_config()
    config.image_size = 231
    config.crop.kind = 'random'  # [3.1] of the photograph with a short side of 256
    config.crop.short_side = (256, 256)
    config.colour.flip = True  # [3.1]
    config.normalize = 'constant'
    config.mean = config.std = 'overfeat'

    config.architecture = 'overfeat_fast'

    config.optimizer = 'momentum'  # [3.1]
    config.momentum = 0.6
    config.rate_inside = False
    config.decayed = 'all'
    config.weight_decay = 1e-5
    config.batch_size = config.reference_batch_size = 128
    config.num_epochs = 90.0
    config.learning_rates = (  # [3.1] halved after 30, 50, 60, 70 and 80 epochs
        (30, 0.05),
        (20, 0.025),
        (10, 0.0125),
        (10, 0.00625),
        (10, 0.003125),
        (10, 0.0015625),
    )
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, small=variants.Small(71, window=1))
