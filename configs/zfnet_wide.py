"""ZFNet with 512, 1024, 512 maps in layers 3 to 5: Zeiler and Fergus 2013, table 2's model (b).

    python train.py --config configs/zfnet_wide.py --config.data_dir=DIR

Published: top-1 37.5, top-5 16.0 (table 2; ImageNet validation; we assume ten crops).
The recipe, our assumptions and the variants are those of zfnet.py; `lecture` changes nothing: this is the lecture's
ZFNet.

Time: by arithmetic 1.3e18 FLOP, 3.7 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import variants, zfnet


def get_config(variant=''):
    config = zfnet.recipe()
    config.architecture = 'zfnet_wide'
    return variants.apply(config, variant, **zfnet.VARIANTS)
