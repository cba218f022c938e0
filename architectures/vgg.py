"""VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014."""

import flax.linen as nn

from architectures.entry import Entry, Paper, Theirs
from architectures.layers import Network, choose

# Table 1, one column per network: the convolutions of each block, conv<side>-<features>; a 2x2 max pool ends a block.
COLUMNS = {
    'A': (
        ('3-64',),
        ('3-128',),
        ('3-256', '3-256'),
        ('3-512', '3-512'),
        ('3-512', '3-512'),
    ),
    'A-LRN': (
        ('3-64', 'LRN'),
        ('3-128',),
        ('3-256', '3-256'),
        ('3-512', '3-512'),
        ('3-512', '3-512'),
    ),
    'B': (
        ('3-64', '3-64'),
        ('3-128', '3-128'),
        ('3-256', '3-256'),
        ('3-512', '3-512'),
        ('3-512', '3-512'),
    ),
    'C': (
        ('3-64', '3-64'),
        ('3-128', '3-128'),
        ('3-256', '3-256', '1-256'),
        ('3-512', '3-512', '1-512'),
        ('3-512', '3-512', '1-512'),
    ),
    'D': (
        ('3-64', '3-64'),
        ('3-128', '3-128'),
        ('3-256', '3-256', '3-256'),
        ('3-512', '3-512', '3-512'),
        ('3-512', '3-512', '3-512'),
    ),
    'E': (
        ('3-64', '3-64'),
        ('3-128', '3-128'),
        ('3-256', '3-256', '3-256', '3-256'),
        ('3-512', '3-512', '3-512', '3-512'),
        ('3-512', '3-512', '3-512', '3-512'),
    ),
}


class VGG(Network):
    """A column of table 1: 11 to 19 layers with weights, 132,863,336 to 143,667,240 parameters.

    Every convolution has stride 1 and keeps the size of its map. The paper initializes weights with a VARIANCE of 0.01,
    a standard deviation of 0.1 (the lecture's variance of 0.1 is initializer='gaussian_0.316'). Only A starts from such
    weights; the deeper networks start from a trained A.

    Options: `column`, `lrn` (of A-LRN), `dropout`, `window` (the side of the map that fc6 reads: smaller for smaller
    training images); `batch_norm` makes it torchvision's vgg*_bn.

    Input [B, 224, 224, 3].
    """

    initializer: str = 'gaussian_0.1'
    column: str = 'D'
    lrn: str = 'paper'
    dropout: float = 0.5
    window: int = 7

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        choose('column', self.column, COLUMNS)
        net, x = self.layers(train), images
        for block, row in enumerate(COLUMNS[self.column], start=1):
            for number, entry in enumerate(row, start=1):
                if entry == 'LRN':
                    x = net.lrn(x)
                    continue
                side, features = map(int, entry.split('-'))
                x = net.conv(f'conv{block}_{number}', x, features, side, padding=side // 2)
            x = net.max_pool(f'pool{block}', x, 2, 2)
        x = net.dropout(net.fc('fc6', x, 4096, window=self.window), self.dropout)
        x = net.dropout(net.fc('fc7', x, 4096), self.dropout)
        return net.logits('fc8', x, dense)


PAPER = Paper(
    'Simonyan and Zisserman', 2014, 'Very Deep Convolutional Networks for Large-Scale Image Recognition',
    'ICLR 2015, arXiv:1409.1556',
)  # fmt: skip
_NOTES = (
    'torchvision initializes convolutions as He et al. by fan out. It orders the weights of fc6 by channel, row, '
    'column; here the order is row, column, channel. timm has no dropout by default.',
)


def _entry(column, torch='', *caffe, **counts):
    """A column of table 1; `torch` and `caffe` name torchvision's network and the authors' weights."""
    theirs = [Theirs('torchvision', torch), Theirs('torchvision', f'{torch}_bn', {'batch_norm': True})] * bool(torch)
    return Entry(
        VGG, options={'column': column}, paper=PAPER, family='VGG',
        theirs=(*theirs, *(Theirs('caffe', name) for name in caffe)), notes=_NOTES * bool(torch), **counts,
    )  # fmt: skip


NETWORKS = {
    'vgg_a': _entry('A', 'vgg11', parameters=132_863_336, multiply_adds=7_609_090_048),
    'vgg_a_lrn': _entry('A-LRN', parameters=132_863_336, multiply_adds=7_609_090_048),
    'vgg_b': _entry('B', 'vgg13', parameters=133_047_848, multiply_adds=11_308_466_176),
    'vgg_c': _entry('C', parameters=133_638_952, multiply_adds=11_770_888_192),
    'vgg_d': _entry('D', 'vgg16', 'VGG_ILSVRC_16_layers', parameters=138_357_544, multiply_adds=15_470_264_320),
    'vgg_e': _entry('E', 'vgg19', 'VGG_ILSVRC_19_layers', parameters=143_667_240, multiply_adds=19_632_062_464),
}
