"""DenseNet-201: Huang et al., "Densely Connected Convolutional Networks", 2016.

    python train.py --config configs/densenet201.py --config.data_dir=DIR

Published: top-1 22.58, top-5 6.34 (table 3; ImageNet validation, one crop); ten crops 21.46, 5.54.
The recipe, our assumptions and the variants are those of densenet121.py.

Time: by arithmetic 3.0e18 FLOP, 8.2 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import densenet121, variants


def get_config(variant=''):
    config = densenet121.recipe()
    config.architecture = 'densenet201'
    return variants.apply(config, variant, **densenet121.VARIANTS)
