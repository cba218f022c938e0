"""SENet: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", 2017."""

import flax.linen as nn

from architectures.layers import Block, Network, global_average
from architectures.resnet import Bottleneck
from architectures.stages import stage

REDUCTION = 16


class SqueezeExcite(Block):
    """A weight for each channel, from the means of all of them (section 3): average, C/16 units, C units, sigmoid.

    Both layers have biases, as in the released networks; the journal version leaves them out in its ablations.
    """

    @nn.compact
    def __call__(self, x):
        net, channels = self.layers(self.train), x.shape[-1]
        weights = net.fc('squeeze', global_average(x), channels // REDUCTION)
        return x * nn.sigmoid(net.fc('excite', weights, channels, linear=True))


def squeeze_excite(name, x, unit):
    """The gate of a residual branch, after its last batch norm and before the addition (figure 3)."""
    return SqueezeExcite(train=unit.train, name=name, **unit.shared)(x)


class SENet154(Network):
    """SENet-154 (section 5.4 and appendix): a gated 64x4d ResNeXt-152 with changes; 115,088,984 parameters.

    The first 1x1 of each block is halved, the stem is three 3x3 convolutions, the projections of stride 2 are 3x3, and
    dropout stands before the classifier.

    Options: `depths` (blocks of each stage), `dropout`, `scan`, `remat`, as in `resnet.ResNet`.

    Input [B, 224, 224, 3].
    """

    batch_norm: bool = True
    depths: tuple = (3, 8, 36, 3)
    dropout: float = 0.2
    scan: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        x = net.conv('conv1_1', images, 64, 3, stride=2, padding=1, bias=None)
        x = net.conv('conv1_2', x, 64, 3, padding=1, bias=None)
        x = net.conv('conv1_3', x, 128, 3, padding=1, bias=None)
        x = net.max_pool('pool1', x, 3, 2, ceil=True)
        for number, (depth, width) in enumerate(zip(self.depths, (256, 512, 1024, 2048), strict=True), start=2):
            first = {'stride': 2, 'projection_kernel': 3} if number > 2 else {}
            options = {
                **{'reduce': width // 2, 'width': width, 'features': width},
                **{'groups': 64, 'stride_in': '3x3', 'gate': squeeze_excite},
            }
            x = stage(net, f'conv{number}_x', Bottleneck, depth, options, first, x, self.scan, self.remat)
        x = net.average('pool5', x, 7, dense)
        return net.logits('classifier', net.dropout(x, self.dropout), dense)
