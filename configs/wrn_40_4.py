"""WRN-40-4 on CIFAR-10: Zagoruyko and Komodakis 2016.

    python train.py --config configs/wrn_40_4.py --config.data_dir=FOLDER_OF_THE_BINARY_VERSION

Published: top-1 4.53 (table 5; CIFAR-10 test, median of five runs, one view).
The recipe, our assumptions and the variants are those of wrn_28_10.py.

Time: by arithmetic 7.8e16 FLOP, 13 minutes at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import variants, wrn_28_10


def get_config(variant=''):
    config = wrn_28_10.recipe()
    config.architecture = 'wrn_40_4'
    return variants.apply(config, variant, **wrn_28_10.VARIANTS)
