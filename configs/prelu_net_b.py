"""PReLU-net B, 22 layers: He et al., "Delving Deep into Rectifiers", 2015.

    python train.py --config configs/prelu_net_b.py --config.data_dir=DIR

Published: top-1 22.85, top-5 6.27 (table 6; ImageNet validation, dense, several scales); ten crops 25.53, 8.13 (table
5).
The recipe, our assumptions and the variants are those of prelu_net_a.py.

Time: by arithmetic 1.4e19 FLOP, 39.7 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import prelu_net_a, variants


def get_config(variant=''):
    config = prelu_net_a.recipe()
    config.architecture = 'prelu_net_b'
    return variants.apply(config, variant, **prelu_net_a.VARIANTS)
