"""OverFeat: Sermanet et al., "OverFeat: Integrated Recognition, Localization and Detection using Convolutional
Networks", 2013 (ICLR 2014)."""

import functools

import flax.linen as nn

from architectures.entry import Entry, Paper
from architectures.layers import Network, interleave, max_pool_at_offsets


class OverFeatFast(Network):
    """The fast model (table 1); 145,920,872 parameters. No normalization and no overlapping pools.

    `dense='fine'` pools layer 5 from each of the 2x2 offsets, and interleaves the score maps (section 3.3).

    Options: `dropout`, `window` (the side of the map that layer 6 reads: smaller for smaller training images).

    Input [B, 231, 231, 3].
    """

    readings = ('fine',)

    initializer: str = 'gaussian_0.01'
    dropout: float = 0.5
    window: int = 6

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        x = net.conv('layer1_conv', images, 96, 11, stride=4)
        x = net.max_pool('layer1', x, 2, 2)
        x = net.conv('layer2_conv', x, 256, 5)
        x = net.max_pool('layer2', x, 2, 2)
        x = net.conv('layer3', x, 512, 3, padding=1)
        x = net.conv('layer4', x, 1024, 3, padding=1)
        x = net.conv('layer5_conv', x, 1024, 3, padding=1)
        x = max_pool_at_offsets(x, 2) if dense == 'fine' else net.max_pool('layer5', x, 2, 2)
        x = net.dropout(net.fc('layer6', x, 3072, window=self.window), self.dropout)
        x = net.dropout(net.fc('layer7', x, 4096), self.dropout)
        scores = net.logits('output', x, dense)
        return interleave(scores, 2) if dense == 'fine' else scores


class OverFeatAccurate(Network):
    """The accurate model (table 3); 144,656,488 parameters.

    `dense='fine'` pools layer 6 from each of the 3x3 offsets, and interleaves the score maps (section 3.3).

    Options: `dropout`, `window` (the side of the map that layer 7 reads).

    Input [B, 221, 221, 3].
    """

    readings = ('fine',)

    initializer: str = 'gaussian_0.01'
    dropout: float = 0.5
    window: int = 5

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        x = net.conv('layer1_conv', images, 96, 7, stride=2)
        x = net.max_pool('layer1', x, 3, 3)
        x = net.conv('layer2_conv', x, 256, 7)
        x = net.max_pool('layer2', x, 2, 2)
        x = net.conv('layer3', x, 512, 3, padding=1)
        x = net.conv('layer4', x, 512, 3, padding=1)
        x = net.conv('layer5', x, 1024, 3, padding=1)
        x = net.conv('layer6_conv', x, 1024, 3, padding=1)
        x = max_pool_at_offsets(x, 3) if dense == 'fine' else net.max_pool('layer6', x, 3, 3)
        x = net.dropout(net.fc('layer7', x, 4096, window=self.window), self.dropout)
        x = net.dropout(net.fc('layer8', x, 4096), self.dropout)
        scores = net.logits('output', x, dense)
        return interleave(scores, 3) if dense == 'fine' else scores


PAPER = Paper(
    'Sermanet et al.', 2013,
    'OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks',
    'ICLR 2014, arXiv:1312.6229',
)  # fmt: skip
_NOTES = ('The weights that the authors released have these shapes; the threshold of their ReLU is 1e-6, not 0.',)
_entry = functools.partial(Entry, paper=PAPER, family='OverFeat', notes=_NOTES)

NETWORKS = {
    'overfeat_fast': _entry(
        OverFeatFast, input_shape=(231, 231, 3), parameters=145_920_872, multiply_adds=2_801_403_904
    ),
    'overfeat_accurate': _entry(
        OverFeatAccurate, input_shape=(221, 221, 3), parameters=144_656_488, multiply_adds=5_355_446_784
    ),
}
