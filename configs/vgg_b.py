"""VGG B, 13 layers: Simonyan and Zisserman 2014.

    python train.py --config configs/vgg_a.py --config.data_dir=DIR
    python train.py --config configs/vgg_b.py --config.data_dir=DIR --config.init_from=runs/vgg_a

Published: top-1 28.2, top-5 9.6 (table 4; ImageNet validation, dense, three scales); at one scale 28.7, 9.9 (table
3).
The recipe, our assumptions and the variants are those of vgg_a.py. The commands are the paper's stages: A, then this
network with the seven layers of A that fit. B was trained only at the short side 256. Without `init_from` all weights
are Glorot's, which the paper found to work, too. We match four of A's convolutions to layers by their shapes.

Time: by arithmetic 6.4e18 FLOP, 17.9 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import variants, vgg_a


def get_config(variant=''):
    config = vgg_a.recipe()
    config.architecture = 'vgg_b'
    config.init_layers = vgg_a.FROM_A
    return variants.apply(config, variant, **vgg_a.VARIANTS)
