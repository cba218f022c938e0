"""DenseNet-264: Huang et al., "Densely Connected Convolutional Networks", 2016.

    python train.py --config configs/densenet264.py --config.data_dir=DIR

Published: top-1 22.15, top-5 6.12 (table 3; ImageNet validation, one crop); ten crops 20.80, 5.29.
The recipe, our assumptions and the variants are those of densenet121.py.

Time: by arithmetic 4.0e18 FLOP, 11.1 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import densenet121, variants


def get_config(variant=''):
    config = densenet121.recipe()
    config.architecture = 'densenet264'
    return variants.apply(config, variant, **densenet121.VARIANTS)
