"""VGG A-LRN, A with response normalization after its first layer: Simonyan and Zisserman 2014.

    python train.py --config configs/vgg_a_lrn.py --config.data_dir=DIR

Published: top-1 29.7, top-5 10.5 (table 3; ImageNet validation, dense, scale 256).
The recipe, our assumptions and the variants are those of vgg_a.py; we assume that it was initialized as A.

Time: by arithmetic 4.3e18 FLOP, 12.0 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import variants, vgg_a


def get_config(variant=''):
    config = vgg_a.recipe()
    config.architecture = 'vgg_a_lrn'
    return variants.apply(config, variant, **vgg_a.VARIANTS)
