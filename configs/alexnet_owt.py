"""AlexNet in one tower: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

    python train.py --config configs/alexnet_owt.py --config.data_dir=DIR

Published: top-1 43.478, top-5 20.934 (torchvision's weights IMAGENET1K_V1, by torchvision's recipe, not by this one;
ImageNet validation, one crop). We have no error from the paper itself.

The paper is about speed and takes the settings from AlexNet: the recipe is that of alexnet.py with crops of 224. What
the paper leaves open is as there: length, rate drops, decay, lighting and its factor. Where the paper leaves the
network open, it is torchvision's (`architectures/alexnet.py`).

Variants: those of configs/variants.py, and alexnet.py's `cuda_convnet2` (the rates of the program of this paper) and
`unscaled`.

Time: by arithmetic 4.9e17 FLOP, 82 minutes at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import alexnet, variants


def recipe():
    config = alexnet.recipe()
    config.architecture = 'alexnet_owt'
    config.image_size = 224
    return config


def get_config(variant=''):
    small = variants.Small(64, window=1, hidden_bias=0.1)
    return variants.apply(recipe(), variant, small=small, **alexnet.OF_THE_AUTHOR)
