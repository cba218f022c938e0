"""SENet: Hu, Shen, Albanie, Sun, Wu, "Squeeze-and-Excitation Networks", 2017."""

import flax.linen as nn

from architectures.entry import Entry, Paper, Theirs
from architectures.layers import Block, Network, global_average
from architectures.resnet import DEPTHS, PADDED, TIMM_ZERO, V1_5, Bottleneck, ResNet
from architectures.stages import stage

REDUCTION = 16


class SqueezeExcite(Block):
    """Scale each channel by a weight computed from the means of all (section 3): average, C/16 units, C units, sigmoid.

    Both layers have biases, as in the released networks; the ablations of the journal version have none.
    """

    @nn.compact
    def __call__(self, x):
        net, channels = self.layers(self.train), x.shape[-1]
        weights = net.fc('squeeze', global_average(x), channels // REDUCTION)
        return x * nn.sigmoid(net.fc('excite', weights, channels, linear=True))


def squeeze_excite(name, x, unit):
    """Apply the gate of a residual branch, after its last batch norm and before the addition (figure 3)."""
    return SqueezeExcite(train=unit.train, name=name, **unit.shared)(x)


class SENet154(Network):
    """SENet-154 (section 5.4 and appendix): a gated 64x4d ResNeXt-152 with changes; 115,088,984 parameters.

    The first 1x1 of each block has half the width, the stem is three 3x3 convolutions, the projections of stride 2 are
    3x3, and dropout comes before the classifier.

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


PAPER = Paper('Hu et al.', 2017, 'Squeeze-and-Excitation Networks', 'CVPR 2018, arXiv:1709.01507')
_DROPOUT = "timm's also have a dropout of 0.2; torchvision has no SE networks."


def _theirs(timm, caffe):
    """The authors' weights: Cadene's copy, which timm calls legacy, and the originals."""
    return Theirs('timm_legacy', f'legacy_{timm}'), Theirs('caffe', caffe)


def _entry(depth, notes=(_DROPOUT, TIMM_ZERO), options=None, **facts):
    """A gated ResNet or ResNeXt."""
    options = {'depths': DEPTHS[depth], 'bottleneck': depth >= 50, 'gate': squeeze_excite, **(options or {})}
    return Entry(ResNet, options=options, paper=PAPER, family='SENet', notes=notes, **facts)


def _basic(depth, **counts):
    notes = (
        f'It is not in the paper. legacy_seresnet{depth} also has a dropout of 0.2.',
        f'seresnet{depth} of timm has 8 units in the gates of conv2_x, not 4, and pads the pool of the stem.',
    )
    theirs = (Theirs('timm_legacy', f'legacy_seresnet{depth}', {'relu_before_gate': True}),)
    return _entry(depth, notes, theirs=theirs, unpublished=True, **counts)


def _resnet(depth, **counts):
    name = f'seresnet{depth}'
    theirs = *_theirs(name, f'SE-ResNet-{depth}'), Theirs('timm', name, V1_5)
    return _entry(depth, theirs=theirs, **counts)


def _resnext(depth, **counts):
    name = f'seresnext{depth}_32x4d'
    theirs = *_theirs(name, f'SE-ResNeXt-{depth}'), Theirs('timm', name, PADDED)
    options = {'widths': (128, 256, 512, 1024), 'groups': 32, 'stride_in': '3x3'}
    return _entry(depth, options=options, theirs=theirs, **counts)


NETWORKS = {
    'se_resnet18': _basic(18, parameters=11_778_592, statistics=9_600, multiply_adds=1_814_160_384),
    'se_resnet34': _basic(34, parameters=21_958_868, statistics=17_024, multiply_adds=3_663_918_592),
    'se_resnet50': _resnet(50, parameters=28_088_024, statistics=53_120, multiply_adds=3_860_488_192),
    'se_resnet101': _resnet(101, parameters=49_326_872, statistics=105_344, multiply_adds=7_574_937_600),
    'se_resnet152': _resnet(152, parameters=66_821_848, statistics=151_424, multiply_adds=11_288_993_792),
    'se_resnext50_32x4d': _resnext(50, parameters=27_559_896, statistics=68_224, multiply_adds=4_232_994_816),
    'se_resnext101_32x4d': _resnext(101, parameters=48_955_416, statistics=137_856, multiply_adds=7_974_739_968),
    'senet154': Entry(
        SENet154, paper=PAPER, family='SENet', theirs=_theirs('senet154', 'SENet-154'),
        notes=(f"senet154 of timm pads the stem's pool and has no dropout by default. {TIMM_ZERO}",),
        parameters=115_088_984, statistics=247_552, multiply_adds=20_688_363_520,
    ),
}  # fmt: skip
