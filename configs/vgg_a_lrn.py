"""VGG A-LRN, A with a response normalisation after its first layer: Simonyan and Zisserman 2014.

    python train.py --config configs/vgg_a_lrn.py --config.data_dir=DIR

Published: top-1 29.7, top-5 10.5 (table 3; ImageNet validation, dense, scale 256).
Recipe, readings and variants are those of vgg_a.py; how it started is not told, here as A.

Time: by arithmetic 4.3e18 FLOP, 12.0 hours at 100 TFLOP/s.
Measured: not yet run here.
"""

from configs import variants, vgg_a


def get_config(variant=''):
    config = vgg_a.recipe()
    config.architecture = 'vgg_a_lrn'
    return variants.apply(config, variant, **vgg_a.VARIANTS)
