"""The original LeNet-5 on MNIST with random planar affine distortions: LeCun et al. 1998, section III.C.

    python train.py --config configs/lenet5_distorted.py --config.data_dir=FOLDER_OF_THE_FOUR_IDX_FILES

The recipe of lenet5_1998.py on the paper's artificial training set: each of the 60,000 originals and nine distorted
copies of it, 600,000 patterns, each seen twice in the 20 epochs of 60,000. Published: 0.8% test error (82 of 10,000).

The paper names translation, scaling, squeezing and horizontal shear but gives no magnitudes: the ranges are ours
(`input_pipeline/distortion.py`).

Measured, 2 cores, 2026-11-24: 0.72, 0.59, 0.58% for seeds 0, 1, 2; six minutes a run (results/README.md).
"""

from configs import lenet5_1998, variants


def get_config(variant=''):
    config = lenet5_1998.recipe()
    config.distortion.versions = 10
    config.distortion.translation = 2.0
    config.distortion.scaling = 0.15
    config.distortion.squeezing = 0.15
    config.distortion.shear = 0.3
    return variants.apply(config, variant, **lenet5_1998.VARIANTS)
