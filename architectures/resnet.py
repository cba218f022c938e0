"""Residual networks; `resnext.py`, `wide_resnet.py` and `senet.py` build on them.

ResNet: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015 ("v1"), and "Identity Mappings in Deep
Residual Networks", 2016 (pre-activation, "v2").
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from architectures.entry import Entry, Paper, Theirs
from architectures.layers import Block, Network, choose, strided
from architectures.stages import stage
from runtime.errors import UserError

# Table 1: number of blocks in conv2_x to conv5_x.
DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}

SHORTCUTS = ('A', 'A_centered', 'B', 'C', 'none')


def no_gate(name, x, unit):
    """Return a residual branch unchanged; SENet's gate is `senet.squeeze_excite`."""
    return x


class ResidualBlock(Block):
    """The base of the blocks: their options and their shortcut.

    Options:
      width: features of the inner layers.
      stride: stride of the block.
      shortcut: as in section 3.3: 'A' takes every stride-th pixel and pads with zeros for the new channels, at the end
        ('A_centered': half of them in front), 'B' projects where the shape changes, 'C' projects everywhere; 'none' is
        no shortcut (a plain network).
      gate: (name, branch, unit) -> branch, before the addition.
      dropout: rate between the two convolutions of a pre-activated basic block (Wide ResNet, section 2.4).
      relu_before_gate: whether an activation follows a basic block's last batch norm, before its gate, as in timm's
        legacy_seresnet18 and 34.
    """

    width: int = 64
    stride: int = 1
    shortcut: str = 'B'
    gate: Callable = no_gate
    dropout: float = 0.0
    relu_before_gate: bool = False

    def identity(self, net, x, features, norm=None, kernel=1):
        """Return the shortcut of x, in the shape of the branch's output; `norm=False` projects without batch norm."""
        changes = x.shape[-1] != features or self.stride > 1
        if self.shortcut == 'C' or (self.shortcut == 'B' and changes):
            padding, options = kernel // 2, {'bias': None, 'linear': True, 'norm': norm}
            return net.conv('projection', x, features, kernel, stride=self.stride, padding=padding, **options)
        if not changes:
            return x
        new = features - x.shape[-1]
        before = new // 2 if self.shortcut == 'A_centered' else 0
        x = strided(x, self.stride)
        return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (before, new - before)))


class Basic(ResidualBlock):
    """Two 3x3 convolutions (figure 5, left)."""

    @nn.compact
    def __call__(self, x):
        net = self.layers(self.train)
        y = net.conv('conv1', x, self.width, 3, stride=self.stride, padding=1, bias=None)
        if self.shortcut == 'none':
            return net.conv('conv2', y, self.width, 3, padding=1, bias=None)
        y = net.conv('conv2', y, self.width, 3, padding=1, bias=None, linear=not self.relu_before_gate)
        return net.activate('sum', self.gate('gate', y, self) + self.identity(net, x, self.width))


class Bottleneck(ResidualBlock):
    """1x1, 3x3, 1x1 (figure 5, right).

    Options:
      features: features of the output.
      groups: groups of the 3x3 (ResNeXt's cardinality, its figure 3c).
      stride_in: '1x1', the first, as in the paper, or '3x3', as in fb.resnet.torch ("v1.5").
      reduce: features of the first 1x1, if not `width` (SENet-154).
      projection_kernel: side of the shortcut's convolution (SENet-154).
    """

    features: int = 256
    groups: int = 1
    stride_in: str = '1x1'
    reduce: int | None = None
    projection_kernel: int = 1

    @nn.compact
    def __call__(self, x):
        net = self.layers(self.train)
        first, second = (self.stride, 1) if self.stride_in == '1x1' else (1, self.stride)
        y = net.conv('conv1', x, self.reduce or self.width, 1, stride=first, bias=None)
        y = net.conv('conv2', y, self.width, 3, stride=second, padding=1, groups=self.groups, bias=None)
        if self.shortcut == 'none':
            return net.conv('conv3', y, self.features, 1, bias=None)
        y = net.conv('conv3', y, self.features, 1, bias=None, linear=True)
        y = self.gate('gate', y, self)
        return net.activate('sum', y + self.identity(net, x, self.features, kernel=self.projection_kernel))


class PreActivated(ResidualBlock):
    """Batch norm and ReLU before each convolution (He et al. 2016, figure 4e); 3x3, 3x3 or 1x1, 3x3, 1x1.

    A projection reads the activated input and has no batch norm. `first` leaves out the first activation, because the
    input of the network's first block is activated already.
    """

    features: int = 64
    bottleneck: bool = False
    first: bool = False

    @nn.compact
    def __call__(self, x):
        net = self.layers(self.train)
        activated = x if self.first else self.pre(net, 'preact', x)
        changes = x.shape[-1] != self.features or self.stride > 1
        shortcut = self.identity(net, activated if changes else x, self.features, norm=False)
        plain = {'bias': None, 'linear': True, 'norm': False}
        if self.bottleneck:
            y = net.conv('conv1', activated, self.width, 1, **plain)
            y = self.pre(net, 'conv1', y)
            y = net.conv('conv2', y, self.width, 3, stride=self.stride, padding=1, **plain)
            y = net.conv('conv3', self.pre(net, 'conv2', y), self.features, 1, **plain)
        else:
            y = net.conv('conv1', activated, self.width, 3, stride=self.stride, padding=1, **plain)
            y = net.dropout(self.pre(net, 'conv1', y), self.dropout)
            y = net.conv('conv2', y, self.width, 3, padding=1, **plain)
        return self.gate('gate', y, self) + shortcut

    def pre(self, net, name, x):
        return net.activate(name, net.norm(f'{name}_bn', x))


class ResNet(Network):
    """ResNet for ImageNet (table 1), and the plain, wide, aggregated and gated networks built on it.

    The defaults are those of the paper and its Caffe release: the stride is in a bottleneck's first 1x1, and the stem's
    pool rounds up. Batch norm follows each convolution; convolutions have no bias.

    Options:
      depths: number of blocks in conv2_x to conv5_x.
      bottleneck: use `Bottleneck` blocks instead of `Basic` ones.
      widths: inner features of a block, by stage.
      shortcut: 'A' (table 2's 18 and 34 layers), 'B', 'C', 'A_centered', 'none' (the plain networks).
      stride_in: '1x1' (v1, the paper) or '3x3' (v1.5: fb.resnet.torch, torchvision, timm).
      preactivation: v2, the blocks of He et al. 2016 as in fb.resnet.torch: stride in the 3x3, a BN-ReLU before the
        stem's pool and one after the last block.
      stem_pool: 'ceil' (Caffe) or 'padded' (Torch): both give 56x56, from different windows.
      groups: groups of the 3x3 convolutions.
      gate, relu_before_gate: see `ResidualBlock`.
      scan: run the equal blocks of a stage as one `jax.lax.scan`, so that only one is compiled. On CPU, use it only for
        very deep networks: a convolution's gradients are slow within a loop.
      remat: recompute each block in the backward pass, to train in a fraction of the memory.

    Input [B, 224, 224, 3].
    """

    batch_norm: bool = True
    depths: tuple = DEPTHS[18]
    bottleneck: bool = False
    widths: tuple = (64, 128, 256, 512)
    shortcut: str = 'B'
    stride_in: str = '1x1'
    preactivation: bool = False
    stem_pool: str = 'ceil'
    groups: int = 1
    fc_initializer: str = 'he_fan_out'
    gate: Callable = no_gate
    relu_before_gate: bool = False
    scan: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        choose('shortcut', self.shortcut, SHORTCUTS)
        choose('stride_in', self.stride_in, ('1x1', '3x3'))
        choose('stem_pool', self.stem_pool, ('ceil', 'padded'))
        net = self.layers(train)
        x = net.conv('conv1', images, 64, 7, stride=2, padding=3, bias=None)
        x = net.max_pool('pool1', x, 3, 2, **({'ceil': True} if self.stem_pool == 'ceil' else {'padding': 1}))
        for number, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True), start=2):
            kind, options = self.block(width, 64 * 2 ** (number - 2))
            first = {'stride': 1 if number == 2 else 2}
            if self.preactivation and number == 2:
                first['first'] = True
            x = stage(net, f'conv{number}_x', kind, depth, options, first, x, self.scan, self.remat)
        if self.preactivation:
            x = net.named('conv5_x', net.activate('postact', net.norm('postact_bn', x)))
        x = net.average('pool5', x, 7, dense)
        return net.logits('fc', x, dense, init=self.fc_initializer)

    def block(self, width, base):
        """Return the class of a stage's blocks and their options."""
        options = {'width': width, 'shortcut': self.shortcut, 'gate': self.gate}
        if self.preactivation:
            features = 4 * base if self.bottleneck else base
            return PreActivated, options | {'features': features, 'bottleneck': self.bottleneck}
        if self.bottleneck:
            return Bottleneck, options | {'features': 4 * base, 'groups': self.groups, 'stride_in': self.stride_in}
        return Basic, options | {'relu_before_gate': self.relu_before_gate}


def blocks_per_stage(depth, extra):
    """Return n for a CIFAR network of 6n + `extra` layers: three stages of n blocks of two layers.

    Raises:
      UserError: the network cannot have this depth.
    """
    if depth < 6 + extra or (depth - extra) % 6:
        raise UserError(f'depth must be 6n + {extra}, not {depth}')
    return (depth - extra) // 6


class CifarResNet(Network):
    """The ResNets and plain networks of section 4.2, with 6n + 2 layers, for 32x32 images; shortcut A.

    Options: `depth`; `width`, the features of the first stage, which the others double; `shortcut`, `scan`, `remat`, as
    in `ResNet`.
    """

    num_classes: int = 10
    batch_norm: bool = True
    depth: int = 20
    width: int = 16
    shortcut: str = 'A'
    scan: bool = False
    remat: bool = False

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        choose('shortcut', self.shortcut, SHORTCUTS)
        count = blocks_per_stage(self.depth, 2)
        net = self.layers(train)
        x = net.conv('conv1', images, self.width, 3, padding=1, bias=None)
        for number, width in enumerate((self.width, 2 * self.width, 4 * self.width), start=1):
            options = {'width': width, 'shortcut': self.shortcut}
            first = {'stride': 1 if number == 1 else 2}
            x = stage(net, f'stage{number}', Basic, count, options, first, x, self.scan, self.remat)
        return net.logits('fc', net.average('pool', x, 8, dense), dense)


PAPER = Paper('He et al.', 2015, 'Deep Residual Learning for Image Recognition', 'CVPR 2016, arXiv:1512.03385')
PADDED = {'stem_pool': 'padded'}  # options of torchvision's and timm's ResNets
V1_5 = {'stride_in': '3x3', **PADDED}
TIMM_ZERO = "timm initializes a block's last batch norm to 0, as later recipes do."

_entry = functools.partial(Entry, paper=PAPER, family='ResNet')
_cifar = functools.partial(_entry, CifarResNet, input_shape=(32, 32, 3))
_plain = {
    'family': 'plain',
    'notes': ("It is the residual network with `shortcut='A'` without the additions: the counts are equal.",),
}


def _imagenet(depth, *notes, theirs, **facts):
    preactivated = (
        f'With `preactivation=True` it has the parameters of resnetv2_{depth} of timm, where the first batch norm '
        "and ReLU come after the stem's pool, not before it."
    )
    options = {'depths': DEPTHS[depth], 'bottleneck': depth >= 50}
    return _entry(ResNet, options=options, theirs=theirs, notes=(TIMM_ZERO, *notes, preactivated), **facts)


def _basic(depth, **counts):
    shortcuts = "The shortcuts of the paper's table 2 have no parameters: `shortcut='A'`."
    return _imagenet(depth, shortcuts, theirs=(Theirs('torchvision', f'resnet{depth}', PADDED),), **counts)


def _bottleneck(depth, *notes, **counts):
    theirs = Theirs('torchvision', f'resnet{depth}', V1_5), Theirs('caffe', f'ResNet-{depth}-model')
    return _imagenet(depth, 'The version in torchvision and timm is called "v1.5".', *notes, theirs=theirs, **counts)


def torch_entry(depth, *notes, widths=(128, 256, 512, 1024), groups=1, **facts):
    """A network trained with fb.resnet.torch: wider or grouped 3x3 convolutions, which have the stride."""
    options = {'bottleneck': True, 'depths': DEPTHS[depth], 'widths': widths, 'groups': groups}
    return Entry(ResNet, options=options | V1_5 | {'fc_initializer': 'torch'}, notes=(TIMM_ZERO, *notes), **facts)


def _cifar_resnet(depth, **counts):
    return _cifar(
        options={'depth': depth},
        theirs=(Theirs('akamaster', f'resnet{depth}', {'shortcut': 'A_centered'}),),
        notes=(
            'The ResNets of torchvision and timm are the networks for ImageNet, with 11 million parameters or more, '
            'also when trained on CIFAR.',
            'Where a shortcut adds channels, they come last here, and on both sides there.',
        ),
        **counts,
    )


def _cifar_plain(depth, **counts):
    return _cifar(options={'depth': depth, 'shortcut': 'none'}, unpublished=True, **_plain, **counts)


NETWORKS = {
    'plain18': _entry(
        ResNet, options={'shortcut': 'none', 'depths': DEPTHS[18]}, **_plain,
        parameters=11_515_688, statistics=7_808, multiply_adds=1_794_805_760,
    ),
    'plain34': _entry(
        ResNet, options={'shortcut': 'none', 'depths': DEPTHS[34]}, **_plain,
        parameters=21_623_848, statistics=15_232, multiply_adds=3_644_493_824,
    ),
    'resnet18': _basic(18, parameters=11_689_512, statistics=9_600, multiply_adds=1_814_073_344),
    'resnet34': _basic(34, parameters=21_797_672, statistics=17_024, multiply_adds=3_663_761_408),
    'resnet50': _bottleneck(
        50, "The authors' Caffe file also has a bias in conv1: 25,557,096 parameters.",
        parameters=25_557_032, statistics=53_120, multiply_adds=3_857_973_248,
    ),
    'resnet101': _bottleneck(101, parameters=44_549_160, statistics=105_344, multiply_adds=7_570_194_432),
    'resnet152': _bottleneck(152, parameters=60_192_808, statistics=151_424, multiply_adds=11_282_415_616),
    'resnet20': _cifar_resnet(20, parameters=269_722, statistics=1_376, multiply_adds=40_551_040),
    'resnet32': _cifar_resnet(32, parameters=464_154, statistics=2_272, multiply_adds=68_862_592),
    'resnet44': _cifar_resnet(44, parameters=658_586, statistics=3_168, multiply_adds=97_174_144),
    'resnet56': _cifar_resnet(56, parameters=853_018, statistics=4_064, multiply_adds=125_485_696),
    'resnet110': _cifar_resnet(110, parameters=1_727_962, statistics=8_096, multiply_adds=252_887_680),
    'resnet1202': _cifar_resnet(1202, parameters=19_421_274, statistics=89_632, multiply_adds=2_829_238_912),
    'plain20': _cifar_plain(20, parameters=269_722, statistics=1_376, multiply_adds=40_551_040),
    'plain32': _cifar_plain(32, parameters=464_154, statistics=2_272, multiply_adds=68_862_592),
    'plain44': _cifar_plain(44, parameters=658_586, statistics=3_168, multiply_adds=97_174_144),
    'plain56': _cifar_plain(56, parameters=853_018, statistics=4_064, multiply_adds=125_485_696),
}  # fmt: skip
