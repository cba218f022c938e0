"""VGG B, 13 layers: Simonyan and Zisserman 2014.

    python train.py --config configs/vgg_a.py --config.data_dir=DIR
    python train.py --config configs/vgg_b.py --config.data_dir=DIR --config.init_from=runs/vgg_a

Published: top-1 28.2, top-5 9.6 (table 4; ImageNet validation, dense, three scales); at one scale 28.7, 9.9 (table
3).
Recipe, readings and variants are those of vgg_a.py. The commands are the paper's stages: A, then this network with the
seven layers of A that fit. B was trained at the short side 256 alone. Without `init_from` all its weights are
Glorot's, which the paper found to do, too. Which layers four of A's convolutions became is read by their shapes.

Time: by arithmetic 6.4e18 FLOP, 17.9 hours at 100 TFLOP/s.
Measured: not yet run here.
"""

from configs import variants, vgg_a


def get_config(variant=''):
    config = vgg_a.recipe()
    config.architecture = 'vgg_b'
    config.init_layers = vgg_a.FROM_A
    return variants.apply(config, variant, **vgg_a.VARIANTS)
