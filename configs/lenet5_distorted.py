"""The original LeNet-5 on MNIST with random planar affine distortions.

python train.py --config configs/lenet5_distorted.py --config.data_dir=FOLDER_OF_THE_FOUR_IDX_FILES
"""

from configs import lenet5_1998


def get_config():
    config = lenet5_1998.get_config()
    config.name = 'configs/lenet5_distorted.py'
    config.distortion.versions = 10
    return config
