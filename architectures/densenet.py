"""DenseNet: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", 2016."""

import dataclasses
import functools

import flax.linen as nn
import jax.numpy as jnp

from architectures.entry import Entry, Paper, Theirs
from architectures.layers import Block, Network, average_pool, separate_gradient

# Table 1: number of layers in the four dense blocks.
BLOCKS = {
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    264: (6, 12, 64, 48),
    161: (6, 12, 36, 24),  # growth 48; not in the conference version
}

PLAIN = {'bias': None, 'linear': True, 'norm': False}


class DenseLayer(Block):
    """BN-ReLU-1x1 to 4k maps, BN-ReLU-3x3 to k maps (DenseNet-B, section 3); returns the k new maps."""

    growth: int = 32
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x):
        net = self.layers(self.train)
        y = net.conv('conv1', net.activate('conv1', net.norm('conv1_bn', x)), 4 * self.growth, 1, **PLAIN)
        y = net.dropout(y, self.dropout)
        y = net.activate('conv2', net.norm('conv2_bn', y))
        return net.dropout(net.conv('conv2', y, self.growth, 3, padding=1, **PLAIN), self.dropout)


class DenseBlock(Block):
    """A sequence of layers, each of which reads the block's input and the maps of all previous layers."""

    count: int = 6
    options: dict = dataclasses.field(default_factory=dict)
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        layer = nn.remat(DenseLayer) if self.remat else DenseLayer
        for number in range(1, self.count + 1):
            new = layer(**self.shared, **self.options, train=self.train, name=f'layer{number}')(x)
            x = jnp.concatenate([x, new], axis=-1)
            if number % 8 == 0:
                x = separate_gradient(x)
        return x


class Transition(Block):
    """BN-ReLU-1x1 to half of the maps (theta = 0.5), then 2x2 average pooling."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x):
        net = self.layers(self.train)
        x = net.activate('conv', net.norm('conv_bn', x))
        x = net.dropout(net.conv('conv', x, x.shape[-1] // 2, 1, **PLAIN), self.dropout)
        return average_pool(x, 2, 2)


class DenseNet(Network):
    """DenseNet-BC (table 1): every layer of a dense block reads the maps of all previous layers.

    As in the authors' code, weights are initialized by fan out, and the classifier as in Torch.

    Options:
      blocks: number of layers in each dense block.
      growth: k, the maps that a layer adds.
      cifar: use the stem for 32x32 images: one 3x3 convolution and no pooling.
      dropout: rate after each convolution but the first (0.2 in the paper, without augmentation).
      remat: recompute each layer in the backward pass, to train in a fraction of the memory.

    Input [B, 224, 224, 3], or [B, 32, 32, 3].
    """

    batch_norm: bool = True
    blocks: tuple = BLOCKS[121]
    growth: int = 32
    cifar: bool = False
    dropout: float = 0.0
    remat: bool = False

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        layer = {'growth': self.growth, 'dropout': self.dropout}
        options = self.shared | {'train': train}
        if self.cifar:
            x = net.conv('convolution', images, 2 * self.growth, 3, padding=1, **PLAIN)
        else:
            x = net.conv('convolution', images, 2 * self.growth, 7, stride=2, padding=3, bias=None)
            x = net.max_pool('pooling', x, 3, 2, padding=1)
        for number, count in enumerate(self.blocks, start=1):
            name = f'dense_block_{number}'
            x = net.named(name, DenseBlock(count=count, options=layer, remat=self.remat, name=name, **options)(x))
            if number < len(self.blocks):
                name = f'transition_{number}'
                x = net.named(name, Transition(dropout=self.dropout, name=name, **options)(x))
        x = net.activate('norm', net.norm('norm_bn', x))
        x = net.average('pool', x, 8 if self.cifar else 7, dense)
        return net.logits('classifier', x, dense, init='torch')


PAPER = Paper('Huang et al.', 2016, 'Densely Connected Convolutional Networks', 'CVPR 2017, arXiv:1608.06993')
_entry = functools.partial(Entry, DenseNet, paper=PAPER, family='DenseNet')


def _imagenet(depth, *notes, growth=32, **counts):
    """A column of table 1."""
    init = 'torchvision and timm initialize by fan in, the authors by fan out.'
    options = {'blocks': BLOCKS[depth], 'growth': growth}
    return _entry(options=options, theirs=(Theirs('torchvision', f'densenet{depth}'),), notes=(init, *notes), **counts)


NETWORKS = {
    'densenet121': _imagenet(121, parameters=7_978_856, statistics=83_648, multiply_adds=2_834_161_664),
    'densenet169': _imagenet(169, parameters=14_149_480, statistics=158_400, multiply_adds=3_359_843_328),
    'densenet201': _imagenet(201, parameters=20_013_928, statistics=229_056, multiply_adds=4_291_365_888),
    'densenet264': _imagenet(
        264, 'torchvision has the class but not this name: `DenseNet(32, (6, 12, 64, 48))`.',
        'densenet264d of timm is another network: growth 48, three convolutions in the stem, 72,736,216 parameters.',
        parameters=33_337_704, statistics=398_528, multiply_adds=5_751_653_376,
    ),
    'densenet161': _imagenet(161, growth=48, parameters=28_681_000, statistics=219_936, multiply_adds=7_727_907_072),
    'densenet_bc_100_12': _entry(
        options={'blocks': (16, 16, 16), 'growth': 12, 'cifar': True, 'num_classes': 10}, input_shape=(32, 32, 3),
        parameters=769_162, statistics=23_988, multiply_adds=287_929_692,
    ),
}  # fmt: skip
