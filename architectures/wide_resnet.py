"""Wide ResNet: Zagoruyko and Komodakis, "Wide Residual Networks", 2016.

WRN-50-2 for ImageNet is `resnet.ResNet` with wider 3x3 convolutions; the class here is for CIFAR.
"""

import functools

import flax.linen as nn

from architectures.entry import Entry, Paper, Theirs
from architectures.layers import Network
from architectures.resnet import PreActivated, blocks_per_stage, torch_entry
from architectures.stages import stage


class WideResNet(Network):
    """Wide ResNet for CIFAR (table 1), with 6n + 4 layers: pre-activated blocks, `widen` times as wide.

    As in the authors' code, weights are initialized by fan in, and the classifier as in Torch.

    Options: `depth`, `widen`, `dropout` (0.3 in the paper's CIFAR runs with dropout), `scan`, `remat`.
    """

    num_classes: int = 10
    initializer: str = 'he_fan_in'
    batch_norm: bool = True
    depth: int = 28
    widen: int = 10
    dropout: float = 0.0
    scan: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        count = blocks_per_stage(self.depth, 4)
        net = self.layers(train)
        x = net.conv('conv1', images, 16, 3, padding=1, bias=None, linear=True, norm=False)
        for number, base in enumerate((16, 32, 64), start=2):
            width = base * self.widen
            options = {'width': width, 'features': width, 'dropout': self.dropout}
            first = {'stride': 1 if number == 2 else 2}
            x = stage(net, f'conv{number}', PreActivated, count, options, first, x, self.scan, self.remat)
        x = net.named('conv4', net.activate('postact', net.norm('postact_bn', x)))
        return net.logits('fc', net.average('pool', x, 8, dense), dense, init='torch')


PAPER = Paper('Zagoruyko and Komodakis', 2016, 'Wide Residual Networks', 'BMVC 2016, arXiv:1605.07146')
_cifar = functools.partial(Entry, WideResNet, paper=PAPER, family='WRN', input_shape=(32, 32, 3))

NETWORKS = {
    'wide_resnet50_2': torch_entry(
        50, paper=PAPER, family='WRN', theirs=(Theirs('torchvision', 'wide_resnet50_2'),),
        parameters=68_883_240, statistics=68_224, multiply_adds=11_398_021_120,
    ),
    'wrn_28_10': _cifar(
        options={'depth': 28, 'widen': 10}, parameters=36_479_194, statistics=17_952, multiply_adds=5_243_328_768
    ),
    'wrn_40_4': _cifar(
        options={'depth': 40, 'widen': 4}, parameters=8_949_210, statistics=10_784, multiply_adds=1_298_582_016
    ),
}  # fmt: skip
