"""Wide ResNet: Zagoruyko and Komodakis, "Wide Residual Networks", 2016.

WRN-50-2 for ImageNet is `resnet.ResNet` with wider 3x3 convolutions; here are those for CIFAR.
"""

import flax.linen as nn

from architectures.layers import Network
from architectures.resnet import PreActivated, blocks_a_stage
from architectures.stages import stage


class WideResNet(Network):
    """Wide ResNet for CIFAR (table 1), of 6n + 4 layers: pre-activated blocks, `widen` times as wide.

    Weights start with the fan in and the classifier as Torch's, as in the authors' code.

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
        count = blocks_a_stage(self.depth, 4)
        net = self.layers(train)
        x = net.conv('conv1', images, 16, 3, padding=1, bias=None, linear=True, norm=False)
        for number, base in enumerate((16, 32, 64), start=2):
            width = base * self.widen
            options = {'width': width, 'features': width, 'dropout': self.dropout}
            first = {'stride': 1 if number == 2 else 2}
            x = stage(net, f'conv{number}', PreActivated, count, options, first, x, self.scan, self.remat)
        x = net.named('conv4', net.activate('postact', net.norm('postact_bn', x)))
        return net.logits('fc', net.average('pool', x, 8, dense), dense, init='torch')
