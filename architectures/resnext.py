"""ResNeXt: Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", 2016.

A ResNet whose bottlenecks have grouped 3x3 convolutions (figure 3c): `resnet.ResNet`; `groups` is the cardinality.
"""

import functools

from architectures.entry import Paper, Theirs
from architectures.resnet import torch_entry

PAPER = Paper(
    'Xie et al.', 2016, 'Aggregated Residual Transformations for Deep Neural Networks', 'CVPR 2017, arXiv:1611.05431'
)
_entry = functools.partial(torch_entry, paper=PAPER, family='ResNeXt')

NETWORKS = {
    'resnext50_32x4d': _entry(
        50, groups=32, theirs=(Theirs('torchvision', 'resnext50_32x4d'),),
        parameters=25_028_904, statistics=68_224, multiply_adds=4_230_479_872,
    ),
    'resnext101_32x4d': _entry(
        101, 'torchvision has resnext101_32x8d, which is wider.', groups=32,
        theirs=(Theirs('timm', 'resnext101_32x4d'),),
        parameters=44_177_704, statistics=137_856, multiply_adds=7_969_996_800,
    ),
    'resnext101_64x4d': _entry(
        101, "torchvision's weights come from a much later recipe: their errors are not the paper's.",
        widths=(256, 512, 1024, 2048), groups=64, theirs=(Theirs('torchvision', 'resnext101_64x4d'),),
        parameters=83_455_272, statistics=202_880, multiply_adds=15_460_270_080,
    ),
}  # fmt: skip
