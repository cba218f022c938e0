"""The networks as data: their papers, exact sizes, published errors, and what else goes by their names.

The sizes were counted from the papers and the authors' files, not with our modules: the tests compare the two.
"""

import dataclasses
from typing import NamedTuple


class Paper(NamedTuple):
    """Where a network was published; `year` is that of the first version."""

    authors: str
    year: int
    title: str
    venue: str

    @property
    def short(self):
        """Authors and year."""
        return f'{self.authors} {self.year}'

    def __str__(self):
        return f'{self.short}, "{self.title}", {self.venue}'


class Published(NamedTuple):
    """A published error of one network, in percent.

    Fields:
      top1, top5: the digits that are printed, '4.00'; None where not given.
      protocol: how the images were looked at; also which reading of the network, where it is not our default.
      source: where it is printed.
      dataset: the images.
    """

    top1: str | None
    top5: str | None
    protocol: str
    source: str
    dataset: str = 'ImageNet validation'

    @property
    def brief(self):
        """One figure, top-5 where there is one, and the protocol."""
        where = '' if self.dataset.startswith('ImageNet') else f'{self.dataset}, '
        return f'{self._errors()[-1]}, {where}{self.protocol}'

    def __str__(self):
        return f'{", ".join(self._errors())}; {self.dataset}, {self.protocol}; {self.source}'

    def _errors(self):
        return [f'{name} {error}' for name, error in (('top-1', self.top1), ('top-5', self.top5)) if error is not None]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered network, its options at their defaults.

    Fields:
      parameters: trainable scalars of the deployed network, without auxiliary heads.
      statistics: scalars of the running means and variances of batch norm.
      multiply_adds: of the convolutions and fully connected layers, for one image.
      published: the headline of its paper, or else of well-known weights; None where there is none of this network.
      differs: sentences on what torchvision, timm and Caffe files have under this name.
      input_shape: (H, W, C) of the image.
    """

    paper: Paper
    parameters: int
    statistics: int
    multiply_adds: int
    published: Published | None
    differs: tuple[str, ...]
    input_shape: tuple[int, int, int] = (224, 224, 3)
    num_classes: int = 1000

    @property
    def year(self):
        """Of the paper's first version."""
        return self.paper.year


# Papers

LENET5 = Paper(
    'LeCun et al.', 1998, 'Gradient-Based Learning Applied to Document Recognition', 'Proceedings of the IEEE 86(11)'
)
ALEXNET = Paper(
    'Krizhevsky et al.', 2012, 'ImageNet Classification with Deep Convolutional Neural Networks', 'NIPS 2012'
)
OWT = Paper('Krizhevsky', 2014, 'One weird trick for parallelizing convolutional neural networks', 'arXiv:1404.5997')
ZFNET = Paper(
    'Zeiler and Fergus', 2013, 'Visualizing and Understanding Convolutional Networks', 'ECCV 2014, arXiv:1311.2901'
)
OVERFEAT = Paper(
    'Sermanet et al.',
    2013,
    'OverFeat: Integrated Recognition, Localization and Detection using Convolutional Networks',
    'ICLR 2014, arXiv:1312.6229',
)
GOOGLENET = Paper('Szegedy et al.', 2014, 'Going Deeper with Convolutions', 'CVPR 2015, arXiv:1409.4842')
BN_INCEPTION = Paper(
    'Ioffe and Szegedy',
    2015,
    'Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift',
    'ICML 2015, arXiv:1502.03167',
)
VGG = Paper(
    'Simonyan and Zisserman',
    2014,
    'Very Deep Convolutional Networks for Large-Scale Image Recognition',
    'ICLR 2015, arXiv:1409.1556',
)
PRELU_NET = Paper(
    'He et al.',
    2015,
    'Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet Classification',
    'ICCV 2015, arXiv:1502.01852',
)
RESNET = Paper('He et al.', 2015, 'Deep Residual Learning for Image Recognition', 'CVPR 2016, arXiv:1512.03385')
WRN = Paper('Zagoruyko and Komodakis', 2016, 'Wide Residual Networks', 'BMVC 2016, arXiv:1605.07146')
RESNEXT = Paper(
    'Xie et al.', 2016, 'Aggregated Residual Transformations for Deep Neural Networks', 'CVPR 2017, arXiv:1611.05431'
)
DENSENET = Paper('Huang et al.', 2016, 'Densely Connected Convolutional Networks', 'CVPR 2017, arXiv:1608.06993')
SENET = Paper('Hu et al.', 2017, 'Squeeze-and-Excitation Networks', 'CVPR 2018, arXiv:1709.01507')

MNIST = {'input_shape': (32, 32, 1), 'num_classes': 10}
CIFAR10 = {'input_shape': (32, 32, 3), 'num_classes': 10}

# Published errors


def _by(protocol, source):
    """Errors by one protocol, of one table unless told."""
    return lambda top1, top5, source=source: Published(top1, top5, protocol, source)


def _cifar10(top1, protocol='one run', source='table 6'):
    return Published(top1, None, protocol, source, 'CIFAR-10 test')


_one_crop = _by('one crop', 'table 3')
_ten_crops = _by('ten crops', 'table 3')
_views_unstated = _by('ten crops by our reading', 'table 2')
_four_scales = _by('dense, four scales, fine stride', 'table 2')
_one_scale = _by('dense, scale 256', 'table 3')
_three_scales = _by('dense, three scales', 'table 4')
_several_scales = _by('dense, several scales', 'table 6')

# What others have

NONE = 'torchvision, timm and the Caffe repository have no such network.'
CAFFE = "The authors' Caffe file is this network."
TIMM_ZERO = 'timm starts the last batch norm of a block at 0, as later recipes do.'
PADDED = "pads the stem's pool: `stem_pool='padded'`."
V1_5 = (
    'is "v1.5": a block strides in its 3x3, not in its first 1x1, and the stem\'s pool is padded: '
    "`stride_in='3x3'`, `stem_pool='padded'`."
)
ZF = (
    NONE,
    'The Caffe file called ZF of SPP-net and Faster R-CNN pads its first convolutions and normalises over 3 channels; '
    'its maps have other sizes.',
)
OVERFEAT_RELEASE = (
    NONE,
    'The weights that the authors released have these shapes; their program cuts activations off at 1e-6, not at 0.',
)
PLAIN = (NONE, "It is the residual network with `shortcut='A'` less the additions: the counts are equal.")
CIFAR_RESNET = (
    NONE,
    'A ResNet of torchvision or timm trained on CIFAR is one of those for ImageNet, of 11 million parameters or more.',
    "Where a shortcut widens, the new channels stand last; some ports put half of them first: `shortcut='A_centered'`.",
)


def _vgg(theirs, *more):
    return (
        f'{theirs} of torchvision and timm is this network, from other first weights: in convolutions those of He, fan '
        "out. There the weights of fc6 go by channel, row, column; here by row, column, channel. timm's has no dropout "
        'unless asked.',
        f'With `batch_norm=True` it is their {theirs}_bn.',
        *more,
    )


def _preactivated(depth):
    return (
        f'With `preactivation=True` it has the parameters of resnetv2_{depth} of timm, in which the first batch norm '
        "and ReLU stand behind the stem's pool, not before it."
    )


def _basic(depth):
    return (
        f'resnet{depth} of torchvision and timm {PADDED} {TIMM_ZERO}',
        "In the paper's table 2 shortcuts have no parameters: `shortcut='A'`.",
        _preactivated(depth),
    )


def _bottleneck(depth, caffe=CAFFE):
    return (f'resnet{depth} of torchvision and timm {V1_5} {TIMM_ZERO}', caffe, _preactivated(depth))


def _torch(theirs, *more):
    return (f'{theirs} is this network. {TIMM_ZERO}', *more)


def _densenet(theirs):
    fans = 'after the fan in, where the authors have the fan out'
    return (f'{theirs} of torchvision and timm is this network, from other first weights: {fans}.',)


def _se_basic(depth):
    return (
        f'Not in the paper; legacy_seresnet{depth} of timm has one ReLU more a block, between the last batch norm and '
        'the gate, and a dropout of 0.2.',
        f'seresnet{depth} of timm has 8 units in the gates of conv2_x, not 4, and pads the pool of the stem.',
    )


def _se(name, timm):
    return (
        f'legacy_{name} of timm is this network, with a dropout of 0.2 besides; torchvision has none.',
        CAFFE,
        f'{name} of timm {timm} {TIMM_ZERO}',
    )


# name: paper; parameters, statistics, multiply-adds; the published error; what others have.
NETWORKS = {
    'lenet5': Entry(
        LENET5,
        *(61_706, 0, 416_520),
        None,
        (
            'torchvision and timm have none.',
            "Caffe's LeNet is another network: 28x28 images, 20 and 50 maps, 500 hidden units, 431,080 parameters.",
        ),
        **MNIST,
    ),
    'lenet5_1998': Entry(
        LENET5,
        *(60_000, 0, 325_680),
        Published('0.95', None, 'no distortions', 'section III', 'MNIST test'),
        (NONE, "With `pool='max'`, `c3='full'`, `output='dense'` it has the layers of `lenet5`, 61,706 parameters."),
        **MNIST,
    ),
    'lenet_caffe': Entry(
        LENET5,
        *(431_080, 0, 2_293_000),
        None,
        ("It is the network of Caffe's example, examples/mnist; torchvision and timm have none.",),
        input_shape=(28, 28, 1),
        num_classes=10,
    ),
    'alexnet': Entry(
        ALEXNET,
        *(60_965_224, 0, 724_406_816),
        _ten_crops('40.7', '18.2', 'table 2'),
        (
            'alexnet of torchvision is `alexnet_owt`, of one tower and other widths; timm has none.',
            "Caffe's bvlc_alexnet has these layers. Its response normalisation divides alpha by n and has k = 1, and "
            "the biases that start at 1 here start at 0.1: `lrn='caffe'`, `hidden_bias=0.1`. Its fc6 and fc7 start "
            'with a standard deviation of 0.005.',
            "Caffe's CaffeNet pools before it normalises: `pool_before_norm=True`, `lrn='caffe'`.",
        ),
        (227, 227, 3),
    ),
    'alexnet_owt': Entry(
        OWT,
        *(61_100_840, 0, 714_188_480),
        _one_crop('43.478', '20.934', "torchvision's weights IMAGENET1K_V1"),
        (
            'alexnet of torchvision is this network, from other first weights; timm and Caffe have none.',
            "The author's file (cuda-convnet2) normalises after conv1 and conv2 and drops out after fc6 and fc7: "
            "`lrn='cuda_convnet'`, `dropout_first=False`. It rounds sizes up where this pads conv1.",
        ),
    ),
    'zfnet': Entry(ZFNET, 62_357_608, 0, 1_168_032_896, _views_unstated('38.4', '16.5'), ZF),
    'zfnet_wide': Entry(ZFNET, 107_627_624, 0, 2_476_704_896, _views_unstated('37.5', '16.0'), ZF),
    'overfeat_fast': Entry(
        OVERFEAT, 145_920_872, 0, 2_801_403_904, _four_scales('38.57', '16.39'), OVERFEAT_RELEASE, (231, 231, 3)
    ),
    'overfeat_accurate': Entry(
        OVERFEAT, 144_656_488, 0, 5_355_446_784, _four_scales('35.74', '14.18'), OVERFEAT_RELEASE, (221, 221, 3)
    ),
    'googlenet': Entry(
        GOOGLENET,
        *(6_998_552, 0, 1_582_671_872),
        Published(None, '7.89', '144 crops', 'table 3'),
        (
            'googlenet of torchvision is another network: batch norm and no biases, 3x3 convolutions for 5x5, no '
            'response normalisation; 6,624,904 parameters. timm has none.',
            "Caffe's bvlc_googlenet is this network; what the paper leaves open here follows it.",
        ),
    ),
    'bn_inception': Entry(
        BN_INCEPTION,
        *(11_295_240, 20_032, 2_032_600_064),
        Published('21.99', '5.82', '144 crops', 'figure 4'),
        (
            'torchvision and timm have none; bninception of pretrained-models.pytorch is this network.',
            "SENet's authors have a Caffe file of it with gates. Its convolutions have no biases: `conv_bias=None`.",
            'TF-slim (Inception v2) keeps the printed totals: `narrow_projection=True`, `conv_bias=None`; its first '
            'convolution is separable, not plain.',
        ),
    ),
    'vgg_a': Entry(VGG, 132_863_336, 0, 7_609_090_048, _one_scale('29.6', '10.4'), _vgg('vgg11')),
    'vgg_a_lrn': Entry(VGG, 132_863_336, 0, 7_609_090_048, _one_scale('29.7', '10.5'), (NONE,)),
    'vgg_b': Entry(VGG, 133_047_848, 0, 11_308_466_176, _three_scales('28.2', '9.6'), _vgg('vgg13')),
    'vgg_c': Entry(VGG, 133_638_952, 0, 11_770_888_192, _three_scales('26.3', '8.2'), (NONE,)),
    'vgg_d': Entry(VGG, 138_357_544, 0, 15_470_264_320, _three_scales('24.8', '7.5'), _vgg('vgg16', CAFFE)),
    'vgg_e': Entry(VGG, 143_667_240, 0, 19_632_062_464, _three_scales('24.8', '7.5'), _vgg('vgg19', CAFFE)),
    'prelu_net_a': Entry(PRELU_NET, 178_032_072, 0, 19_058_106_368, _several_scales('22.97', '6.28'), (NONE,)),
    'prelu_net_b': Entry(PRELU_NET, 183_343_048, 0, 23_219_904_512, _several_scales('22.85', '6.27'), (NONE,)),
    'prelu_net_c': Entry(PRELU_NET, 330_623_944, 0, 53_463_130_112, _several_scales('21.59', '5.71'), (NONE,)),
    'plain18': Entry(RESNET, 11_515_688, 7_808, 1_794_805_760, _ten_crops('27.94', None, 'table 2'), PLAIN),
    'plain34': Entry(RESNET, 21_623_848, 15_232, 3_644_493_824, _ten_crops('28.54', '10.02'), PLAIN),
    'resnet18': Entry(
        RESNET,
        *(11_689_512, 9_600, 1_814_073_344),
        Published('27.88', None, 'ten crops, shortcuts A', 'table 2'),
        _basic(18),
    ),
    'resnet34': Entry(RESNET, 21_797_672, 17_024, 3_663_761_408, _ten_crops('24.52', '7.46'), _basic(34)),
    'resnet50': Entry(
        RESNET,
        *(25_557_032, 53_120, 3_857_973_248),
        _ten_crops('22.85', '6.71'),
        _bottleneck(50, "The authors' Caffe file is this network with a bias in conv1: 25,557,096 parameters."),
    ),
    'resnet101': Entry(RESNET, 44_549_160, 105_344, 7_570_194_432, _ten_crops('21.75', '6.05'), _bottleneck(101)),
    'resnet152': Entry(RESNET, 60_192_808, 151_424, 11_282_415_616, _ten_crops('21.43', '5.71'), _bottleneck(152)),
    'resnet20': Entry(RESNET, 269_722, 1_376, 40_551_040, _cifar10('8.75'), CIFAR_RESNET, **CIFAR10),
    'resnet32': Entry(RESNET, 464_154, 2_272, 68_862_592, _cifar10('7.51'), CIFAR_RESNET, **CIFAR10),
    'resnet44': Entry(RESNET, 658_586, 3_168, 97_174_144, _cifar10('7.17'), CIFAR_RESNET, **CIFAR10),
    'resnet56': Entry(RESNET, 853_018, 4_064, 125_485_696, _cifar10('6.97'), CIFAR_RESNET, **CIFAR10),
    'resnet110': Entry(
        RESNET, 1_727_962, 8_096, 252_887_680, _cifar10('6.43', 'best of five runs'), CIFAR_RESNET, **CIFAR10
    ),
    'resnet1202': Entry(RESNET, 19_421_274, 89_632, 2_829_238_912, _cifar10('7.93'), CIFAR_RESNET, **CIFAR10),
    'plain20': Entry(RESNET, 269_722, 1_376, 40_551_040, None, PLAIN, **CIFAR10),
    'plain32': Entry(RESNET, 464_154, 2_272, 68_862_592, None, PLAIN, **CIFAR10),
    'plain44': Entry(RESNET, 658_586, 3_168, 97_174_144, None, PLAIN, **CIFAR10),
    'plain56': Entry(RESNET, 853_018, 4_064, 125_485_696, None, PLAIN, **CIFAR10),
    'wide_resnet50_2': Entry(
        WRN,
        *(68_883_240, 68_224, 11_398_021_120),
        _one_crop('21.9', '6.03', 'table 8'),
        _torch('wide_resnet50_2 of torchvision and timm'),
    ),
    'wrn_28_10': Entry(
        WRN, 36_479_194, 17_952, 5_243_328_768, _cifar10('4.00', 'median of five runs', 'table 5'), (NONE,), **CIFAR10
    ),
    'wrn_40_4': Entry(
        WRN, 8_949_210, 10_784, 1_298_582_016, _cifar10('4.53', 'median of five runs', 'table 5'), (NONE,), **CIFAR10
    ),
    'resnext50_32x4d': Entry(
        RESNEXT,
        *(25_028_904, 68_224, 4_230_479_872),
        _one_crop('22.2', None),
        _torch('resnext50_32x4d of torchvision and timm'),
    ),
    'resnext101_32x4d': Entry(
        RESNEXT,
        *(44_177_704, 137_856, 7_969_996_800),
        _one_crop('21.2', '5.6', 'table 4'),
        _torch('resnext101_32x4d of timm', 'torchvision has resnext101_32x8d, which is wider.'),
    ),
    'resnext101_64x4d': Entry(
        RESNEXT,
        *(83_455_272, 202_880, 15_460_270_080),
        _one_crop('20.4', '5.3', 'table 4'),
        _torch(
            'resnext101_64x4d of torchvision and timm',
            "torchvision's weights come from a much later recipe: their errors are not the paper's.",
        ),
    ),
    'densenet121': Entry(
        DENSENET, 7_978_856, 83_648, 2_834_161_664, _one_crop('25.02', '7.71'), _densenet('densenet121')
    ),
    'densenet169': Entry(
        DENSENET, 14_149_480, 158_400, 3_359_843_328, _one_crop('23.80', '6.85'), _densenet('densenet169')
    ),
    'densenet201': Entry(
        DENSENET, 20_013_928, 229_056, 4_291_365_888, _one_crop('22.58', '6.34'), _densenet('densenet201')
    ),
    'densenet264': Entry(
        DENSENET,
        *(33_337_704, 398_528, 5_751_653_376),
        _one_crop('22.15', '6.12'),
        (
            'torchvision has its class, not its name: `DenseNet(32, (6, 12, 64, 48))`.',
            'densenet264d of timm is another network: growth 48, a stem of three convolutions, 72,736,216 parameters.',
        ),
    ),
    'densenet161': Entry(
        DENSENET,
        *(28_681_000, 219_936, 7_727_907_072),
        _one_crop('22.33', '6.15', 'table 3 of the earlier versions on arXiv'),
        _densenet('densenet161'),
    ),
    'densenet_bc_100_12': Entry(
        DENSENET, 769_162, 23_988, 287_929_692, _cifar10('4.51', 'augmented', 'table 2'), (NONE,), **CIFAR10
    ),
    'se_resnet18': Entry(SENET, 11_778_592, 9_600, 1_814_160_384, None, _se_basic(18)),
    'se_resnet34': Entry(SENET, 21_958_868, 17_024, 3_663_918_592, None, _se_basic(34)),
    'se_resnet50': Entry(
        SENET, 28_088_024, 53_120, 3_860_488_192, _one_crop('23.29', '6.62', 'table 2'), _se('seresnet50', V1_5)
    ),
    'se_resnet101': Entry(
        SENET, 49_326_872, 105_344, 7_574_937_600, _one_crop('22.38', '6.07', 'table 2'), _se('seresnet101', V1_5)
    ),
    'se_resnet152': Entry(
        SENET, 66_821_848, 151_424, 11_288_993_792, _one_crop('21.57', '5.73', 'table 2'), _se('seresnet152', V1_5)
    ),
    'se_resnext50_32x4d': Entry(
        SENET,
        27_559_896,
        68_224,
        4_232_994_816,
        _one_crop('21.10', '5.49', 'table 2'),
        _se('seresnext50_32x4d', PADDED),
    ),
    'se_resnext101_32x4d': Entry(
        SENET,
        48_955_416,
        137_856,
        7_974_739_968,
        _one_crop('20.70', '5.01', 'table 2'),
        _se('seresnext101_32x4d', PADDED),
    ),
    'senet154': Entry(
        SENET,
        *(115_088_984, 247_552, 20_688_363_520),
        _one_crop('18.68', '4.47', 'table 8'),
        (
            'legacy_senet154 of timm is this network; torchvision has none.',
            CAFFE,
            f"senet154 of timm pads the stem's pool and has no dropout unless asked. {TIMM_ZERO}",
        ),
    ),
}
