"""GoogLeNet's ensemble: seven networks with the same initial weights and seven orders of images: Szegedy et al. 2014.

    python train.py --config configs/googlenet_ensemble.py --config.data_dir=DIR

Published: top-5 6.67 (table 3; ImageNet validation, seven networks with 144 crops each); one crop 8.09, ten 7.62.

Section 7 of the paper: due to an oversight, the seven started from equal weights; they differ in the sampling and the
order of the images. Deviation: one of them was wider, but the paper does not say how; here all seven are equal.

Variants: those of googlenet.py, for all seven. Time: seven times googlenet.py's.
Measured: not run yet.
"""

from configs import googlenet, series


def get_config(variant=''):
    members = {f'googlenet_{number}': googlenet.get_config(variant) for number in range(7)}
    for number, member in enumerate(members.values()):
        member.seed = 0
        member.data_seed = number
    return series.create(**members)
