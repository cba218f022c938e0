"""VGG C, 16 layers, three of them 1x1: Simonyan and Zisserman 2014.

    python train.py --config configs/vgg_a.py --config.data_dir=DIR
    python train.py --config configs/vgg_c.py --config.data_dir=DIR --config.init_from=runs/vgg_a
    python train.py --config configs/vgg_c.py:s384 --config.data_dir=DIR --config.init_from=runs/vgg_c
    python train.py --config configs/vgg_c.py:jitter --config.data_dir=DIR --config.init_from=runs/vgg_c_s384

Published: top-1 26.3, top-5 8.2 (table 4; ImageNet validation, dense, three scales, trained with jitter).
The recipe, our assumptions and the variants are those of vgg_a.py. The commands are the paper's stages: A, then this
network with the seven layers of A that fit, then larger scales. Without `init_from` all weights are Glorot's, which the
paper found to work, too. We match four of A's convolutions to layers by their shapes.

Time: by arithmetic 6.7e18 FLOP, 18.6 hours at 100 TFLOP/s per stage.
Measured: not run yet.
"""

from configs import variants, vgg_a


def get_config(variant=''):
    config = vgg_a.recipe()
    config.architecture = 'vgg_c'
    config.init_layers = vgg_a.FROM_A
    return variants.apply(config, variant, **vgg_a.VARIANTS)
