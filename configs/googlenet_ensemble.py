"""GoogLeNet's ensemble: seven networks from the same first weights, on images in seven orders: Szegedy et al. 2014.

    python train.py --config configs/googlenet_ensemble.py --config.data_dir=DIR

Published: top-5 6.67 (table 3; ImageNet validation, seven networks of 144 crops); of one crop 8.09, of ten 7.62.

The paper's section 7: the seven started from equal weights, by an oversight, and differ in how they sampled their
images and in the order of these. Deviation: one of them was wider, and the paper does not tell how; here all seven
are equal.

Variants: those of googlenet.py, of all seven at once. Time: seven times googlenet.py's.
Measured: not yet run here.
"""

from configs import googlenet, series


def get_config(variant=''):
    members = {f'googlenet_{number}': googlenet.get_config(variant) for number in range(7)}
    for number, member in enumerate(members.values()):
        member.seed = 0
        member.data_seed = number
    return series.create(**members)
