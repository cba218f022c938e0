"""ZFNet: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013 (ECCV 2014)."""

import functools

import flax.linen as nn

from architectures.entry import Entry, Paper
from architectures.layers import Network


class ZFNet(Network):
    """ZFNet (figure 3); 62,357,608 parameters, 107,627,624 with the wider layers of table 2's model (b).

    AlexNet in one tower, with smaller windows and strides at the start. The sizes 110-55-26-13-6 are rounded up, as in
    cuda-convnet: conv1 and the pools hang over the bottom and right. Contrast normalization follows the pool in layers
    1 and 2; the paper gives no constants, so these are AlexNet's.

    Options: `widths` of layers 3 to 5 (the lecture's are in `zfnet_wide`), `lrn`, `dropout`, `window` (the side of
    the map that layer 6 reads: smaller for smaller training images).

    Input [B, 224, 224, 3].
    """

    initializer: str = 'gaussian_0.01'
    widths: tuple = (384, 384, 256)
    lrn: str = 'paper'
    dropout: float = 0.5
    window: int = 6

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        x = net.conv('layer1_conv', images, 96, 7, stride=2, ceil=True)
        x = net.named('layer1', net.lrn(net.max_pool('layer1_pool', x, 3, 2, ceil=True)))
        x = net.conv('layer2_conv', x, 256, 5, stride=2)
        x = net.named('layer2', net.lrn(net.max_pool('layer2_pool', x, 3, 2, ceil=True)))
        x = net.conv('layer3', x, self.widths[0], 3, padding=1)
        x = net.conv('layer4', x, self.widths[1], 3, padding=1)
        x = net.conv('layer5_conv', x, self.widths[2], 3, padding=1)
        x = net.max_pool('layer5', x, 3, 2, ceil=True)
        x = net.dropout(net.fc('layer6', x, 4096, window=self.window), self.dropout)
        x = net.dropout(net.fc('layer7', x, 4096), self.dropout)
        return net.logits('output', x, dense)


PAPER = Paper(
    'Zeiler and Fergus', 2013, 'Visualizing and Understanding Convolutional Networks', 'ECCV 2014, arXiv:1311.2901'
)
_NOTES = (
    'The Caffe file "ZF" of SPP-net and Faster R-CNN pads its first convolutions and normalizes over 3 channels; '
    'its maps have other sizes.',
)
_entry = functools.partial(Entry, ZFNet, paper=PAPER, family='ZFNet', notes=_NOTES)

NETWORKS = {
    'zfnet': _entry(parameters=62_357_608, multiply_adds=1_168_032_896),
    'zfnet_wide': _entry(options={'widths': (512, 1024, 512)}, parameters=107_627_624, multiply_adds=2_476_704_896),
}
