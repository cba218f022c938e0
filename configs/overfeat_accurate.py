"""OverFeat, the accurate model: Sermanet et al. 2013.

    python train.py --config configs/overfeat_accurate.py --config.data_dir=DIR

Published: top-1 35.74, top-5 14.18 (table 2; ImageNet validation, dense, four scales, fine stride).
The recipe, our assumptions and the variants are those of overfeat_fast.py, in crops of 221.

Time: by arithmetic 3.7e18 FLOP, 10.3 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import overfeat_fast, variants


def get_config(variant=''):
    config = overfeat_fast.recipe()
    config.architecture = 'overfeat_accurate'
    config.image_size = 221
    return variants.apply(config, variant, small=variants.Small(77, window=1))
