"""The published weights of our networks: options, names and pixels of each release.

The pixels are those of the release's own test, one center crop; a converted checkpoint is evaluated on them.
"""

from collections.abc import Callable
from typing import NamedTuple

from architectures.catalogue import NETWORKS
from runtime.errors import UserError
from weights import names


class Release(NamedTuple):
    """Published weights of one of our networks.

    Fields:
      by: the value of `--release`: 'torchvision', 'timm', 'akamaster', 'cadene_bgr', 'caffe', ...
      theirs: their name of the network.
      table: their names of our layers; see `names.py`.
      options: the options that make our network equal to theirs.
      pixels: config keys of the input.
      last: our name of the layer that computes the logits.
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


def center(mean, std='none', size=224, **crop):
    """Return config keys for a center crop normalized by constants."""
    crop = {'kind': 'center', 'short_side': (256, 256), 'filter': 'bilinear', 'truncate': True} | crop
    return {
        **{'dataset': 'imagenet', 'test_split': 'validation', 'channels': 3, 'image_size': size},
        **{'test_crop': crop, 'normalize': 'constant', 'mean': mean, 'std': std},
    }


TORCH = center('fb', 'fb', center_rounds='even')
BICUBIC = center('fb', 'fb', filter='bicubic', center_rounds='even')
CIFAR10 = {
    **{'dataset': 'cifar10', 'test_split': 'test', 'channels': 3, 'image_size': 32},
    **{'normalize': 'constant', 'mean': 'fb', 'std': 'fb'},
}
MNIST = {
    **{'dataset': 'mnist', 'test_split': 'test', 'channels': 1, 'image_size': 28},
    **{'normalize': 'range', 'pixel_range': (0.0, 255 / 256)},  # Caffe's scale of 0.00390625
}
# Caffe's reference programs resize both sides to 256. Here the aspect ratio is kept, as most users do; the errors in
# `results/README.md` are for this.
CAFFE_GOOGLENET = center('caffe_googlenet')
CADENE_INCEPTION = center('bn_inception', center_rounds='even')  # torchvision's crop
CAFFE_ALEXNET = center('caffe', size=227, warp=True)

# Releases. Their names and options are in the catalogue (`theirs` of an entry).

# {'BY FAMILY' or 'BY': (table of names, pixels)}
_READERS = {
    'torchvision': (names.resnet, TORCH),
    'torchvision AlexNet': (names.ALEXNET.__getitem__, TORCH),
    'torchvision VGG': (lambda entry, theirs: names.vgg(entry.options['column'], **theirs.options), TORCH),
    'torchvision DenseNet': (names.densenet, TORCH),
    'timm': (names.resnet, BICUBIC),
    'timm_legacy': (names.legacy_senet, TORCH),  # Cadene's copy of the weights of Hu et al.
    'akamaster': (names.akamaster, CIFAR10),
    'cadene_bgr': (names.bninception, CADENE_INCEPTION),
    'caffe LeNet': (names.same, MNIST),
    'caffe AlexNet': (names.same, CAFFE_ALEXNET),
    'caffe_caffenet': (names.same, CAFFE_ALEXNET),
    'caffe GoogLeNet': (names.caffe_googlenet, CAFFE_GOOGLENET),
    'caffe BN-Inception': (names.caffe_bn_inception, CAFFE_GOOGLENET),
    'caffe_fork': (names.caffe_bn_inception_fork, center('bn_inception')),
    'caffe VGG': (names.same, center('vgg')),
    'caffe ResNet': (lambda entry, theirs: names.caffe_resnet(int(theirs.name.split('-')[1])), center('caffe')),
    'caffe SENet': (names.caffe_senet, CAFFE_GOOGLENET),
}
_PER_NETWORK = ('torchvision VGG', 'caffe ResNet')  # whose tables are functions of the entry and its `Theirs`

# {family or network: fields of `Release` that differ from the defaults}
_LAYERS = {
    'LeNet': {'last': 'ip2', 'matrices': ('ip1',)},
    'AlexNet': {'last': 'fc8', 'matrices': ('fc6',)},
    'GoogLeNet': {'last': 'classifier', 'matrices': ('loss_4a_fc', 'loss_4d_fc')},
    'BN-Inception': {'last': 'classifier'},
    'VGG': {'last': 'fc8', 'first': 'conv1_1', 'matrices': ('fc6',)},
    'DenseNet': {'last': 'classifier', 'first': 'convolution'},
    'SENet': {'convolutions': ('squeeze', 'excite')},
    'senet154': {'last': 'classifier', 'first': 'conv1_1'},
}


def release(name, entry, theirs):
    """Return the `Release` for a `Theirs` of a network in the catalogue."""
    kind = next((kind for kind in (f'{theirs.by} {entry.family}', theirs.by) if kind in _READERS), None)
    if kind is None:
        raise UserError(
            f'{name}: no reader for {entry.family} weights by {theirs.by} in _READERS of weights/releases.py'
        )
    table, pixels = _READERS[kind]
    if kind in _PER_NETWORK:
        table = table(entry, theirs)
    layers = _LAYERS.get(entry.family, {}) | _LAYERS.get(name, {})
    return Release(theirs.by, theirs.name, table, theirs.options, pixels, **layers)


RELEASES = {
    name: tuple(release(name, entry, theirs) for theirs in entry.theirs)
    for name, entry in NETWORKS.items()
    if entry.theirs
}
