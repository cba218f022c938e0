"""DenseNet-169: Huang et al., "Densely Connected Convolutional Networks", 2016.

    python train.py --config configs/densenet169.py --config.data_dir=DIR

Published: top-1 23.80, top-5 6.85 (table 3; ImageNet validation, one crop); ten crops 22.08, 5.92.
The recipe, our assumptions and the variants are those of densenet121.py.

Time: by arithmetic 2.3e18 FLOP, 6.5 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import densenet121, variants


def get_config(variant=''):
    config = densenet121.recipe()
    config.architecture = 'densenet169'
    return variants.apply(config, variant, **densenet121.VARIANTS)
