"""PReLU-net C, 22 wide layers: He et al., "Delving Deep into Rectifiers", 2015.

    python train.py --config configs/prelu_net_c.py --config.data_dir=DIR

Published: top-1 21.59, top-5 5.71 (table 6; ImageNet validation, dense, several scales); ten crops 24.27, 7.38 (table
5).
The recipe, our assumptions and the variants are those of prelu_net_a.py.

Time: by arithmetic 3.3e19 FLOP, 3.8 days at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import prelu_net_a, variants


def get_config(variant=''):
    config = prelu_net_a.recipe()
    config.architecture = 'prelu_net_c'
    return variants.apply(config, variant, **prelu_net_a.VARIANTS)
