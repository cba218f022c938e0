"""VGG E, 19 layers: Simonyan and Zisserman 2014.

    python train.py --config configs/vgg_a.py --config.data_dir=DIR
    python train.py --config configs/vgg_e.py --config.data_dir=DIR --config.init_from=runs/vgg_a
    python train.py --config configs/vgg_e.py:s384 --config.data_dir=DIR --config.init_from=runs/vgg_e
    python train.py --config configs/vgg_e.py:jitter --config.data_dir=DIR --config.init_from=runs/vgg_e_s384

Published: top-1 24.8, top-5 7.5 (table 4; ImageNet validation, dense, three scales, trained with jitter).
The recipe, our assumptions and the variants are those of vgg_a.py. The commands are the paper's stages: A, then this
network with the seven layers of A that fit, then larger scales. Without `init_from` all weights are Glorot's, which the
paper found to work, too. We match four of A's convolutions to layers by their shapes.

Time: by arithmetic 1.1e19 FLOP, 31.0 hours at 100 TFLOP/s per stage.
Measured: not run yet.
"""

from configs import variants, vgg_a


def get_config(variant=''):
    config = vgg_a.recipe()
    config.architecture = 'vgg_e'
    config.init_layers = vgg_a.FROM_A
    return variants.apply(config, variant, **vgg_a.VARIANTS)
