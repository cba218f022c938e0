"""AlexNet in one tower: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

    python train.py --config configs/alexnet_owt.py --config.data_dir=DIR

Published: top-1 43.478, top-5 20.934 (torchvision's weights IMAGENET1K_V1, by torchvision's recipe, not by this one;
ImageNet validation, one crop). We have no figure of the paper's own for it.

The paper is about speed and takes its model's settings from AlexNet: the recipe is that of alexnet.py, in crops of 224.
What it leaves unsaid is read as there: length, drops of the rate, decay, lighting and its factor. The network follows
torchvision in what it leaves out (`architectures/alexnet.py`).

Variants: those of configs/variants.py, and of alexnet.py `cuda_convnet2` (the rates of the program behind this paper)
and `unscaled`.

Time: by arithmetic 4.9e17 FLOP, 82 minutes at 100 TFLOP/s.
Measured: not yet run here.
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
