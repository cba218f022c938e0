"""GoogLeNet: Szegedy et al., "Going Deeper with Convolutions", 2014; BN-Inception: Ioffe and Szegedy, "Batch
Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015."""

import flax.linen as nn
import jax.numpy as jnp

from architectures import layers
from architectures.entry import Entry, Paper, Theirs
from architectures.layers import Block, Network

# GoogLeNet, table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
GOOGLENET = {
    '3a': (64, 96, 128, 16, 32, 32),
    '3b': (128, 128, 192, 32, 96, 64),
    '4a': (192, 96, 208, 16, 48, 64),
    '4b': (160, 112, 224, 24, 64, 64),
    '4c': (128, 128, 256, 24, 64, 64),
    '4d': (112, 144, 288, 32, 64, 64),
    '4e': (256, 160, 320, 32, 128, 128),
    '5a': (256, 160, 320, 32, 128, 128),
    '5b': (384, 192, 384, 48, 128, 128),
}

# BN-Inception, figure 5: #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool, pool proj. The stride is 2 if
# there is no 1x1. The paper prints 576 outputs for 4c and 4d, but its widths add up to 608; these are the widths.
BN_INCEPTION = {
    '3a': (64, 64, 64, 64, 96, 'avg', 32),
    '3b': (64, 64, 96, 64, 96, 'avg', 64),
    '3c': (0, 128, 160, 64, 96, 'max', 0),
    '4a': (224, 64, 96, 96, 128, 'avg', 128),
    '4b': (192, 96, 128, 96, 128, 'avg', 128),
    '4c': (160, 128, 160, 128, 160, 'avg', 128),
    '4d': (96, 128, 192, 160, 192, 'avg', 128),
    '4e': (0, 128, 192, 192, 256, 'max', 0),
    '5a': (352, 192, 320, 160, 224, 'avg', 128),
    '5b': (352, 192, 320, 192, 224, 'max', 128),
}


class GoogLeNetModule(Block):
    """An inception module (figure 2b): four concatenated branches; their widths are a row of the table."""

    row: tuple = ()
    conv_bias: float = 0.2

    @nn.compact
    def __call__(self, x):
        net, bias = self.layers(self.train), self.conv_bias
        n1x1, reduce3, n3x3, reduce5, n5x5, projection = self.row
        pooled = layers.max_pool(x, 3, 1, padding=1)
        branches = [
            net.conv('1x1', x, n1x1, 1, bias=bias),
            net.conv('3x3', net.conv('3x3_reduce', x, reduce3, 1, bias=bias), n3x3, 3, padding=1, bias=bias),
            net.conv('5x5', net.conv('5x5_reduce', x, reduce5, 1, bias=bias), n5x5, 5, padding=2, bias=bias),
            net.conv('pool_proj', pooled, projection, 1, bias=bias),
        ]
        return jnp.concatenate(branches, axis=-1)


class GoogLeNet(Network):
    """GoogLeNet (section 5 and table 1): 6,998,552 parameters without its auxiliary heads, 13,378,280 with them.

    No batch norm; response normalization after pool1 and conv2. Pools round up. In training, two auxiliary classifiers
    read 4a and 4d; `init(..., train=True)` creates their parameters. What the paper leaves open is as in Caffe's
    bvlc_googlenet: the constants of the normalization, `caffe_xavier` weights, biases of 0.2.

    Options: `lrn`, `dropout` before the classifier, `auxiliary_dropout`, `auxiliary_heads`, `auxiliary_window` (the
    side of the map that the heads' first fully connected layer reads: smaller for smaller training images).

    Input [B, 224, 224, 3].
    """

    initializer: str = 'caffe_xavier'
    lrn: str = 'caffe'
    dropout: float = 0.4
    auxiliary_dropout: float = 0.7
    auxiliary_heads: bool = True
    auxiliary_window: int = 4

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        x = net.conv('conv1', images, 64, 7, stride=2, padding=3, bias=0.2)
        x = net.lrn(net.max_pool('pool1', x, 3, 2, ceil=True))
        x = net.conv('conv2_reduce', x, 64, 1, bias=0.2)
        x = net.conv('conv2', x, 192, 3, padding=1, bias=0.2)
        x = net.max_pool('pool2', net.lrn(x), 3, 2, ceil=True)
        for name, row in GOOGLENET.items():
            x = GoogLeNetModule(row=row, train=train, name=f'inception_{name}', **self.shared)(x)
            x = net.named(f'inception_{name}', x)
            if name in ('3b', '4e'):
                x = net.max_pool('pool3' if name == '3b' else 'pool4', x, 3, 2, ceil=True)
            if name in ('4a', '4d') and train and self.auxiliary_heads:
                net.auxiliary(f'loss_{name}', self.auxiliary_head(net, f'loss_{name}', x))
        x = net.average('pool5', x, 7, dense)
        return net.logits('classifier', net.dropout(x, self.dropout), dense)

    def auxiliary_head(self, net, name, x):
        """Section 5: average pool 5x5/3, 128 1x1 convolutions, 1024 units, 70% dropout, the classifier."""
        x = layers.average_pool(x, 5, 3)
        x = net.conv(f'{name}_conv', x, 128, 1, bias=0.2)
        x = net.fc(f'{name}_fc', x, 1024, window=self.auxiliary_window, bias=0.2)
        x = net.dropout(x, self.auxiliary_dropout)
        return net.logits(f'{name}_classifier', x, dense=False)


class BNInceptionModule(Block):
    """A module of BN-Inception: two 3x3 convolutions replace each 5x5. Its widths are a row of the table."""

    row: tuple = ()
    conv_bias: float | None = 0.0

    @nn.compact
    def __call__(self, x):
        net, bias = self.layers(self.train), self.conv_bias
        n1x1, reduce3, n3x3, reduce_double, n_double, pool, projection = self.row
        stride = 1 if n1x1 else 2
        once = net.conv('3x3_reduce', x, reduce3, 1, bias=bias)
        twice = net.conv('double_3x3_reduce', x, reduce_double, 1, bias=bias)
        twice = net.conv('double_3x3_1', twice, n_double, 3, padding=1, bias=bias)
        branches = [
            net.conv('3x3', once, n3x3, 3, stride=stride, padding=1, bias=bias),
            net.conv('double_3x3_2', twice, n_double, 3, stride=stride, padding=1, bias=bias),
        ]
        if n1x1:
            branches.insert(0, net.conv('1x1', x, n1x1, 1, bias=bias))
        if pool == 'avg':
            pooled = layers.average_pool(x, 3, 1, padding=1)
        elif projection:
            pooled = layers.max_pool(x, 3, 1, padding=1)
        else:
            pooled = layers.max_pool(x, 3, 2, ceil='same')  # matches the convolutions' maps, even if odd
        branches.append(net.conv('pool_proj', pooled, projection, 1, bias=bias) if projection else pooled)
        return jnp.concatenate(branches, axis=-1)


class BNInception(Network):
    """BN-Inception (section 4.2.1 and figure 5); 11,295,240 parameters, 20,032 running statistics.

    Batch norm before every ReLU, no response normalization, no dropout; average pools count their padding. The paper
    contradicts itself: its text has a separable first convolution, and its totals for 4c, 4d and 4e are 576, 576 and
    1024, while the widths add up to 608, 608 and 1056. As in the Caffe files of its time, the widths count here and the
    first convolution is a plain one. The paper does not give the initialization; `he_fan_in` is our choice.

    Options: `conv_bias` (None: no bias, which has no effect before batch norm), `narrow_projection` (pool
    projections of 96 in 4c and 4d, which give the printed totals), `dropout` (the paper's first Inception had one).

    Input [B, 224, 224, 3].
    """

    initializer: str = 'he_fan_in'
    batch_norm: bool = True
    conv_bias: float | None = 0.0
    narrow_projection: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net, bias = self.layers(train), self.conv_bias
        x = net.conv('conv1', images, 64, 7, stride=2, padding=3, bias=bias)
        x = net.max_pool('pool1', x, 3, 2, ceil=True)
        x = net.conv('conv2_reduce', x, 64, 1, bias=bias)
        x = net.conv('conv2', x, 192, 3, padding=1, bias=bias)
        x = net.max_pool('pool2', x, 3, 2, ceil=True)
        for name, row in BN_INCEPTION.items():
            if self.narrow_projection and name in ('4c', '4d'):
                row = (*row[:-1], 96)
            x = BNInceptionModule(
                row=row, conv_bias=bias, train=train, name=f'inception_{name}', **self.shared
            )(x)  # fmt: skip
            x = net.named(f'inception_{name}', x)
        x = net.average('global_pool', x, 7, dense)
        return net.logits('classifier', net.dropout(x, self.dropout), dense)


GOOGLENET_PAPER = Paper('Szegedy et al.', 2014, 'Going Deeper with Convolutions', 'CVPR 2015, arXiv:1409.4842')
BN_INCEPTION_PAPER = Paper(
    'Ioffe and Szegedy', 2015,
    'Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift',
    'ICML 2015, arXiv:1502.03167',
)  # fmt: skip

NETWORKS = {
    'googlenet': Entry(
        GoogLeNet, paper=GOOGLENET_PAPER, family='GoogLeNet', parameters=6_998_552, multiply_adds=1_582_671_872,
        theirs=(Theirs('caffe', 'bvlc_googlenet'),),
        notes=(
            'What the paper leaves open here follows that file.',
            'googlenet of torchvision is another network: batch norm and no biases, 3x3 convolutions for 5x5, no '
            'response normalization; 6,624,904 parameters. timm does not have it.',
        ),
    ),
    'bn_inception': Entry(
        BNInception, paper=BN_INCEPTION_PAPER, family='BN-Inception',
        parameters=11_295_240, statistics=20_032, multiply_adds=2_032_600_064,
        theirs=(
            Theirs('cadene_bgr', 'bninception'),
            Theirs('caffe', 'BN-Inception', {'conv_bias': None}),
            Theirs('caffe_fork', 'bn_inception'),
        ),
        notes=(
            "The Caffe file is by SENet's authors, who also have one with gates. torchvision and timm do not have it.",
            'TF-slim (Inception v2) keeps the printed totals: `narrow_projection=True`, `conv_bias=None`; its first '
            'convolution is separable, not plain.',
        ),
    ),
}  # fmt: skip
