"""Whose weights there are, for which of our networks: the options that make ours theirs, the names, the pixels.

The pixels are those of the release's own test, one centre crop: what a converted checkpoint is evaluated on.
"""

from collections.abc import Callable
from typing import NamedTuple

from weights import names

V1_5 = {'stride_in': '3x3', 'stem_pool': 'padded'}
PADDED = {'stem_pool': 'padded'}


class Release(NamedTuple):
    """Weights that others publish of one of our networks.

    Fields:
      by: 'torchvision', 'timm', 'akamaster', 'cadene', 'caffe', ...: what `--release` calls it.
      theirs: their name of the network.
      table: see `names.py`.
      options: of the network, that make ours theirs.
      pixels: keys of a config.
      last: our name of the layer that puts out the logits.
      first: our name of the first convolution.
      matrices, convolutions: see `layout.their_shape`.
    """

    by: str
    theirs: str
    table: Callable
    options: dict
    pixels: dict
    last: str = 'fc'
    first: str = 'conv1'
    matrices: tuple = ()
    convolutions: tuple = ()

    @property
    def is_caffe(self):
        """Whether the names and layouts are Caffe's."""
        return self.by.startswith('caffe')

    @property
    def reads_bgr(self):
        """Whether its first convolution reads blue, green, red."""
        return self.pixels.get('channels') == 3 and (self.is_caffe or self.by == 'cadene_bgr')


# Pixels


def _center(mean, std='none', size=224, **crop):
    """The centre of a photograph, constants subtracted and divided by."""
    crop = {'kind': 'center', 'short_side': (256, 256), 'filter': 'bilinear', 'truncate': True} | crop
    return {
        **{'dataset': 'imagenet', 'test_split': 'validation', 'channels': 3, 'image_size': size},
        **{'test_crop': crop, 'normalize': 'constant', 'mean': mean, 'std': std},
    }


TORCH = _center('fb', 'fb', center_rounds='even')
BICUBIC = _center('fb', 'fb', filter='bicubic', center_rounds='even')
CIFAR10 = {
    **{'dataset': 'cifar10', 'test_split': 'test', 'channels': 3, 'image_size': 32},
    **{'normalize': 'constant', 'mean': 'fb', 'std': 'fb'},
}
MNIST = {
    **{'dataset': 'mnist', 'test_split': 'test', 'channels': 1, 'image_size': 28},
    **{'normalize': 'range', 'pixel_range': (0.0, 255 / 256)},  # Caffe's scale of 0.00390625
}
# Caffe's own reference programs force both sides to 256; here the shape is kept, as its users mostly do, and as the
# errors of `results/README.md` were counted.
CAFFE_GOOGLENET = _center('caffe_googlenet')
CADENE_INCEPTION = _center('bn_inception', center_rounds='even')  # torchvision's crop
CAFFE_ALEXNET = _center('caffe', size=227, warp=True)

# Releases


def _torchvision(theirs, table=names.resnet, options=None, **more):
    return Release('torchvision', theirs, table, options or {}, TORCH, **more)


def _vgg(column, theirs):
    more = {'last': 'fc8', 'first': 'conv1_1', 'matrices': ('fc6',)}
    return (
        _torchvision(theirs, names.vgg(column), **more),
        _torchvision(f'{theirs}_bn', names.vgg(column, batch_norm=True), {'batch_norm': True}, **more),
    )


def _caffe_vgg(theirs):
    pixels = _center('vgg')
    return Release('caffe', theirs, names.same, {}, pixels, 'fc8', 'conv1_1', matrices=('fc6',))


def _caffe_alexnet(by, theirs, **options):
    options = {'lrn': 'caffe', **options}
    return Release(by, theirs, names.same, options, CAFFE_ALEXNET, 'fc8', matrices=('fc6',))


def _caffe_resnet(depth):
    return Release('caffe', f'ResNet-{depth}-model', names.caffe_resnet(depth), {}, _center('caffe'))


GATES = ('squeeze', 'excite')


def _se(timm, caffe, timm_options, last='fc', first='conv1'):
    """Hu's networks: Cadene's copy of the weights, which timm calls legacy; the originals; timm's own namesake."""
    more = {'convolutions': GATES, 'last': last, 'first': first}
    found = [
        Release('timm_legacy', f'legacy_{timm}', names.legacy_senet, {}, TORCH, **more),
        Release('caffe', caffe, names.caffe_senet, {}, CAFFE_GOOGLENET, **more),
    ]
    if timm_options is not None:
        found.append(Release('timm', timm, names.resnet, timm_options, BICUBIC, **more))
    return tuple(found)


def _legacy_se_basic(depth):
    options = {'relu_before_gate': True}
    return (
        Release('timm_legacy', f'legacy_seresnet{depth}', names.legacy_senet, options, TORCH, convolutions=GATES),
    )  # fmt: skip


def _densenet(theirs):
    return (_torchvision(theirs, names.densenet, last='classifier', first='convolution'),)


_HEADS = {'last': 'classifier', 'matrices': ('loss_4a_fc', 'loss_4d_fc')}
_BN = {'last': 'classifier'}

RELEASES = {
    'lenet_caffe': (
        Release('caffe', 'lenet_iter_10000', names.same, {}, MNIST, last='ip2', matrices=('ip1',)),
    ),
    'alexnet': (
        _caffe_alexnet('caffe', 'bvlc_alexnet'),
        _caffe_alexnet('caffe_caffenet', 'bvlc_reference_caffenet', pool_before_norm=True),
    ),
    'alexnet_owt': (_torchvision('alexnet', names.ALEXNET.__getitem__, last='fc8', matrices=('fc6',)),),
    'googlenet': (Release('caffe', 'bvlc_googlenet', names.caffe_googlenet, {}, CAFFE_GOOGLENET, **_HEADS),),
    'bn_inception': (
        Release('cadene_bgr', 'bninception', names.bninception, {}, CADENE_INCEPTION, **_BN),
        Release('caffe', 'BN-Inception', names.caffe_bn_inception, {'conv_bias': None}, CAFFE_GOOGLENET, **_BN),
        Release('caffe_fork', 'bn_inception', names.caffe_bn_inception_fork, {}, _center('bn_inception'), **_BN),
    ),
    'vgg_a': _vgg('A', 'vgg11'),
    'vgg_b': _vgg('B', 'vgg13'),
    'vgg_d': (*_vgg('D', 'vgg16'), _caffe_vgg('VGG_ILSVRC_16_layers')),
    'vgg_e': (*_vgg('E', 'vgg19'), _caffe_vgg('VGG_ILSVRC_19_layers')),
    'resnet18': (_torchvision('resnet18', options=PADDED),),
    'resnet34': (_torchvision('resnet34', options=PADDED),),
    **{f'resnet{n}': (_torchvision(f'resnet{n}', options=V1_5), _caffe_resnet(n)) for n in (50, 101, 152)},
    **{
        f'resnet{n}': (
            Release('akamaster', f'resnet{n}', names.akamaster, {'shortcut': 'A_centered'}, CIFAR10),
        )
        for n in (20, 32, 44, 56, 110, 1202)
    },
    'wide_resnet50_2': (_torchvision('wide_resnet50_2'),),
    'resnext50_32x4d': (_torchvision('resnext50_32x4d'),),
    'resnext101_32x4d': (Release('timm', 'resnext101_32x4d', names.resnet, {}, BICUBIC),),
    'resnext101_64x4d': (_torchvision('resnext101_64x4d'),),
    **{f'densenet{n}': _densenet(f'densenet{n}') for n in (121, 161, 169, 201, 264)},
    'se_resnet18': _legacy_se_basic(18),
    'se_resnet34': _legacy_se_basic(34),
    'se_resnet50': _se('seresnet50', 'SE-ResNet-50', V1_5),
    'se_resnet101': _se('seresnet101', 'SE-ResNet-101', V1_5),
    'se_resnet152': _se('seresnet152', 'SE-ResNet-152', V1_5),
    'se_resnext50_32x4d': _se('seresnext50_32x4d', 'SE-ResNeXt-50', PADDED),
    'se_resnext101_32x4d': _se('seresnext101_32x4d', 'SE-ResNeXt-101', PADDED),
    'senet154': _se('senet154', 'SENet-154', None, last='classifier', first='conv1_1'),
}  # fmt: skip
