"""The papers' tables of errors, in per cent of ImageNet's validation images unless told otherwise, as data.

A row is of one network, or of several, under one protocol: `vgg_d vgg_e` is an ensemble. `trained` are the short sides
that it was trained on, where a table has several. What a table leaves out is `-`.
"""

import re
from typing import NamedTuple


class Row(NamedTuple):
    """A line of a paper's table.

    Fields:
      networks: our names.
      trained: (low, high) short side of the training images, or None.
      protocol: of `protocols.py`.
      top1, top5: None where there is none.
      table: where it is printed.
      note: options of the network, `shortcut=A`; other images.
    """

    networks: tuple
    trained: tuple | None
    protocol: str
    top1: float | None
    top5: float | None
    table: str
    note: str = ''

    @property
    def errors(self):
        """As papers print them: 24.4/7.2."""
        return '/'.join('-' if error is None else f'{error:g}' for error in (self.top1, self.top5))


def _table(table, text):
    """Rows of lines: networks | trained | protocol | top-1 | top-5 | note."""
    rows = []
    for line in text.strip().splitlines():
        networks, trained, protocol, top1, top5, *note = (field.strip() for field in line.split('|'))
        sides = tuple(map(int, trained.split('-'))) if trained else None
        if sides and len(sides) == 1:
            sides *= 2
        errors = [None if error in ('', '-') else float(error) for error in (top1, top5)]
        rows.append(Row(tuple(networks.split()), sides, protocol, *errors, table, *note))
    return tuple(rows)


TABLES = {
    'vgg3': _table(
        'Simonyan and Zisserman 2014, table 3',
        """
        vgg_a     | 256     | vgg_dense:256 | 29.6 | 10.4
        vgg_a_lrn | 256     | vgg_dense:256 | 29.7 | 10.5
        vgg_b     | 256     | vgg_dense:256 | 28.7 | 9.9
        vgg_c     | 256     | vgg_dense:256 | 28.1 | 9.4
        vgg_c     | 384     | vgg_dense:384 | 28.1 | 9.3
        vgg_c     | 256-512 | vgg_dense:384 | 27.3 | 8.8
        vgg_d     | 256     | vgg_dense:256 | 27.0 | 8.8
        vgg_d     | 384     | vgg_dense:384 | 26.8 | 8.7
        vgg_d     | 256-512 | vgg_dense:384 | 25.6 | 8.1
        vgg_e     | 256     | vgg_dense:256 | 27.3 | 9.0
        vgg_e     | 384     | vgg_dense:384 | 26.9 | 8.7
        vgg_e     | 256-512 | vgg_dense:384 | 25.5 | 8.0
        """,
    ),
    'vgg4': _table(
        'Simonyan and Zisserman 2014, table 4',
        """
        vgg_b | 256     | vgg_dense:224,256,288 | 28.2 | 9.6
        vgg_c | 256     | vgg_dense:224,256,288 | 27.7 | 9.2
        vgg_c | 384     | vgg_dense:352,384,416 | 27.8 | 9.2
        vgg_c | 256-512 | vgg_dense:256,384,512 | 26.3 | 8.2
        vgg_d | 256     | vgg_dense:224,256,288 | 26.6 | 8.6
        vgg_d | 384     | vgg_dense:352,384,416 | 26.5 | 8.6
        vgg_d | 256-512 | vgg_dense:256,384,512 | 24.8 | 7.5
        vgg_e | 256     | vgg_dense:224,256,288 | 26.9 | 8.7
        vgg_e | 384     | vgg_dense:352,384,416 | 26.7 | 8.6
        vgg_e | 256-512 | vgg_dense:256,384,512 | 24.8 | 7.5
        """,
    ),
    'vgg5': _table(
        'Simonyan and Zisserman 2014, table 5',
        """
        vgg_d | 256-512 | vgg_dense:256,384,512     | 24.8 | 7.5
        vgg_d | 256-512 | vgg_multicrop:256,384,512 | 24.6 | 7.5
        vgg_d | 256-512 | vgg_both:256,384,512      | 24.4 | 7.2
        vgg_e | 256-512 | vgg_dense:256,384,512     | 24.8 | 7.5
        vgg_e | 256-512 | vgg_multicrop:256,384,512 | 24.6 | 7.4
        vgg_e | 256-512 | vgg_both:256,384,512      | 24.4 | 7.1
        """,
    ),
    'vgg6': _table(
        'Simonyan and Zisserman 2014, table 6',
        """
        vgg_d vgg_e | 256-512 | vgg_dense:256,384,512     | 24.0 | 7.1
        vgg_d vgg_e | 256-512 | vgg_multicrop:256,384,512 | 23.9 | 7.2
        vgg_d vgg_e | 256-512 | vgg_both:256,384,512      | 23.7 | 6.8
        """,
    ),
    'googlenet3': _table(
        'Szegedy et al. 2014, table 3',
        """
        googlenet | | single_224      | - | 10.07
        googlenet | | ten_crop_square | - | 9.15
        googlenet | | googlenet_144   | - | 7.89
        googlenet googlenet googlenet googlenet googlenet googlenet googlenet | | single_224      | - | 8.09
        googlenet googlenet googlenet googlenet googlenet googlenet googlenet | | ten_crop_square | - | 7.62
        googlenet googlenet googlenet googlenet googlenet googlenet googlenet | | googlenet_144   | - | 6.67
        """,
    ),
    'resnet3': _table(
        'He et al. 2015, table 3',
        """
        vgg_d       | | ten_crop_full | 28.07 | 9.33
        googlenet   | | ten_crop_full | -     | 9.15
        prelu_net_c | | ten_crop_full | 24.27 | 7.38
        plain34     | | ten_crop_full | 28.54 | 10.02
        resnet34    | | ten_crop_full | 25.03 | 7.76 | shortcut=A
        resnet34    | | ten_crop_full | 24.52 | 7.46 | shortcut=B
        resnet34    | | ten_crop_full | 24.19 | 7.40 | shortcut=C
        resnet50    | | ten_crop_full | 22.85 | 6.71
        resnet101   | | ten_crop_full | 21.75 | 6.05
        resnet152   | | ten_crop_full | 21.43 | 5.71
        """,
    ),
    'resnet4': _table(
        'He et al. 2015, table 4',
        """
        prelu_net_c  | | prelu_dense:256,384,480         | 21.59 | 5.71
        bn_inception | | googlenet_144                   | 21.99 | 5.81
        resnet34     | | resnet_fcn:224,256,384,480,640  | 21.84 | 5.71 | shortcut=B
        resnet34     | | resnet_fcn:224,256,384,480,640  | 21.53 | 5.60 | shortcut=C
        resnet50     | | resnet_fcn:224,256,384,480,640  | 20.74 | 5.25
        resnet101    | | resnet_fcn:224,256,384,480,640  | 19.87 | 4.60
        resnet152    | | resnet_fcn:224,256,384,480,640  | 19.38 | 4.49
        """,
    ),
}

MORE = (
    *_table(
        'LeCun et al. 1998, section III',
        """
        lenet5_1998 | | mnist_single | 0.95 | - | MNIST, no distortions
        lenet5_1998 | | mnist_single | 0.8  | - | MNIST, distortions
        """,
    ),
    *_table(
        'Krizhevsky et al. 2012, table 2',
        """
        alexnet                                 | | ten_crop_square:227 | 40.7 | 18.2
        alexnet alexnet alexnet alexnet alexnet | | ten_crop_square:227 | 38.1 | 16.4
        """,
    ),
    *_table('BVLC, bvlc_alexnet', 'alexnet | | single_227_warped | 42.9 | 19.8'),
    *_table('BVLC, bvlc_googlenet', 'googlenet | | single_224_warped | 31.3 | 11.1'),
    *_table(
        'Zeiler and Fergus 2013, table 2',
        """
        zfnet                                    | | ten_crop_square | 38.4 | 16.5
        zfnet zfnet zfnet zfnet zfnet            | | ten_crop_square | 36.7 | 15.3
        zfnet_wide                               | | ten_crop_square | 37.5 | 16.0
        zfnet zfnet zfnet zfnet zfnet zfnet_wide | | ten_crop_square | 36.0 | 14.7
        """,
    ),
    *_table(
        'Sermanet et al. 2013, table 2',
        """
        overfeat_fast     | | overfeat_coarse:1           | 39.28 | 17.12
        overfeat_fast     | | overfeat_fine:1             | 39.01 | 16.97
        overfeat_fast     | | overfeat_fine:1,2,4,6       | 38.57 | 16.39
        overfeat_fast     | | overfeat_fine:1,2,3,4,5,6   | 38.12 | 16.27
        overfeat_accurate | | ten_crop_square:221         | 35.60 | 14.71 | corners, middle and flip
        overfeat_accurate | | overfeat_fine:1,2,4,6       | 35.74 | 14.18
        """,
    ),
    *_table('He et al. 2015b, of VGG-16', 'vgg_d | | ten_crop_full | 28.07 | 9.33'),
    *_table(
        'He et al. 2015a, table 4',
        """
        prelu_net_a | | prelu_dense:256         | 25.81 | 8.08
        prelu_net_a | | prelu_dense:384         | 24.20 | 7.03
        prelu_net_a | | prelu_dense:480         | 24.83 | 7.39
        prelu_net_a | | prelu_dense:256,384,480 | 22.97 | 6.28
        """,
    ),
    *_table(
        'He et al. 2015a, table 5',
        """
        prelu_net_a | | ten_crop_full | 25.59 | 8.23
        prelu_net_b | | ten_crop_full | 25.53 | 8.13
        prelu_net_c | | ten_crop_full | 24.27 | 7.38
        """,
    ),
    *_table(
        'He et al. 2015a, table 6',
        """
        prelu_net_b | | prelu_dense:256,384,480 | 22.85 | 6.27
        prelu_net_c | | prelu_dense:256,384,480 | 21.59 | 5.71
        """,
    ),
    *_table(
        'Ioffe and Szegedy 2015, figure 4',
        """
        bn_inception | | single_224    | 25.2  | 7.82
        bn_inception | | googlenet_144 | 21.99 | 5.82
        bn_inception bn_inception bn_inception bn_inception bn_inception bn_inception | | googlenet_144 | 20.1 | 4.9
        """,
    ),
    *_table(
        'He et al. 2015b, table 2',
        """
        plain18  | | ten_crop_full | 27.94 | -
        resnet18 | | ten_crop_full | 27.88 | - | shortcut=A
        plain34  | | ten_crop_full | 28.54 | -
        resnet34 | | ten_crop_full | 25.03 | - | shortcut=A
        """,
    ),
    *_table(
        'He et al., released models',
        """
        resnet50  | | single_224 | 24.7 | 7.8
        resnet101 | | single_224 | 23.6 | 7.1
        resnet152 | | single_224 | 23.0 | 6.7
        """,
    ),
    *_table(
        'fb.resnet.torch',
        """
        resnet18  | | single_224 | 30.43 | 10.76
        resnet34  | | single_224 | 26.73 | 8.74
        resnet50  | | single_224 | 24.01 | 7.02 | stride_in=3x3
        resnet101 | | single_224 | 22.44 | 6.21 | stride_in=3x3
        resnet152 | | single_224 | 22.16 | 6.16 | stride_in=3x3
        """,
    ),
    *_table(
        'He et al. 2015b, table 6',
        """
        resnet20   | | cifar_single | 8.75 | - | CIFAR-10
        resnet32   | | cifar_single | 7.51 | - | CIFAR-10
        resnet44   | | cifar_single | 7.17 | - | CIFAR-10
        resnet56   | | cifar_single | 6.97 | - | CIFAR-10
        resnet110  | | cifar_single | 6.43 | - | CIFAR-10, best of five runs
        resnet1202 | | cifar_single | 7.93 | - | CIFAR-10
        """,
    ),
    *_table(
        'Zagoruyko and Komodakis 2016, tables 5 and 8',
        """
        wrn_40_4        | | cifar_single | 4.53 | -    | CIFAR-10, median of five runs
        wrn_28_10       | | cifar_single | 4.00 | -    | CIFAR-10, median of five runs
        wide_resnet50_2 | | single_224   | 21.9 | 6.03
        """,
    ),
    *_table(
        'Xie et al. 2016, tables 3 to 5',
        """
        resnext50_32x4d  | | single_224 | 22.2 | -
        resnext101_32x4d | | single_224 | 21.2 | 5.6
        resnext101_64x4d | | single_224 | 20.4 | 5.3
        resnext101_64x4d | | single_320 | 19.1 | 4.4
        """,
    ),
    *_table(
        'Huang et al. 2016, table 3',
        """
        densenet121 | | single_224           | 25.02 | 7.71
        densenet121 | | ten_crop_full_logits | 23.61 | 6.66
        densenet169 | | single_224           | 23.80 | 6.85
        densenet169 | | ten_crop_full_logits | 22.08 | 5.92
        densenet201 | | single_224           | 22.58 | 6.34
        densenet201 | | ten_crop_full_logits | 21.46 | 5.54
        densenet264 | | single_224           | 22.15 | 6.12
        densenet264 | | ten_crop_full_logits | 20.80 | 5.29
        densenet161 | | single_224           | 22.33 | 6.15
        """,
    ),
    *_table('Huang et al. 2016, table 2', 'densenet_bc_100_12 | | cifar_single | 4.51 | - | CIFAR-10, augmented'),
    *_table(
        'Hu et al. 2017, tables 2 and 8',
        """
        se_resnet50         | | single_224 | 23.29 | 6.62
        se_resnet101        | | single_224 | 22.38 | 6.07
        se_resnet152        | | single_224 | 21.57 | 5.73
        se_resnext50_32x4d  | | single_224 | 21.10 | 5.49
        se_resnext101_32x4d | | single_224 | 20.70 | 5.01
        senet154            | | single_224 | 18.68 | 4.47
        senet154            | | single_320 | 17.28 | 3.79
        """,
    ),
)


class Winner(NamedTuple):
    """The winner of a year's classification contest (ILSVRC), or who else was measured on its test images.

    Fields:
      year: of the contest.
      entry: the team, and below it its network.
      top5: error in per cent, with the contest's training images alone.
      table: where it is printed.
      convolutional: whether it is a convolutional network.
    """

    year: int
    entry: str
    top5: float
    table: str
    convolutional: bool = True


WINNERS = (
    Winner(
        2010, 'NEC-UIUC', 28.2, 'Russakovsky et al. 2015, "ImageNet Large Scale Visual Recognition Challenge"', False
    ),
    Winner(2011, 'XRCE', 25.8, 'Russakovsky et al. 2015', False),
    Winner(2012, 'SuperVision\n(AlexNet)', 16.4, 'Szegedy et al. 2014, table 2; 15.3 with other data'),
    Winner(2013, 'Clarifai\n(after ZFNet)', 11.7, 'Szegedy et al. 2014, table 2; 11.2 with other data'),
    Winner(2014, 'GoogLeNet', 6.67, 'Szegedy et al. 2014, table 2'),
    Winner(2015, 'MSRA\n(ResNet)', 3.57, 'He et al. 2015b, table 5'),
    Winner(2016, 'Trimps-Soushen\n(ensemble)', 2.99, "ILSVRC2016's page of results: 0.02991"),
    Winner(2017, 'WMW\n(SENet)', 2.25, 'Hu et al. 2017, section 6: 2.251'),
)
HUMAN = Winner(2014, 'one trained annotator', 5.1, 'Russakovsky et al. 2015, section 6.4', False)  # of 1,500 images


def is_of(row, network, model, trained):
    """Whether a row, alone or with others, is of a network.

    Args:
      row: see `Row`.
      network: its name.
      model: it: where the row's note names options, as in `shortcut=A`, it has them.
      trained: (low, high) short side of the images that it was trained on; None where that is not known.
    """
    options = re.findall(r'(\w+)=(\w+)', row.note)
    return (
        network in row.networks
        and (not row.trained or not trained or row.trained == trained)
        and all(getattr(model, option, None) == value for option, value in options)
    )


def rows(networks, protocol=None):
    """The published rows of these networks, each once.

    Args:
      networks: our names, of an ensemble in any order.
      protocol: its name; None for all.
    """
    every = (*MORE, *(row for table in TABLES.values() for row in table))
    same = [row for row in every if sorted(row.networks) == sorted(networks) and protocol in (None, row.protocol)]
    return list(dict.fromkeys(same))
