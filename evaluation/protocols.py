"""The papers' test protocols, by name. A protocol is data: scales, the views of each, how scores are averaged.

| name | what | paper |
| --- | --- | --- |
| `single` | each image once, cropped by the config's `test_crop` | |
| `single_SIZE` | the center crop of the short side 256, or of SIZE if that is larger | |
| `single_SIZE_square` | of the middle square of side 256 | AlexNet's center |
| `single_SIZE_of_SIDE` | of the short side SIDE | `single_299_of_352`: Inception-ResNet |
| `single_SIZE_warped` | of the photograph as 256x256, ignoring its aspect ratio | Caffe's reference models |
| `ten_crop_square` | corners and middle of the 256 square, and their mirror images | AlexNet, ZFNet |
| `ten_crop_warped` | of the photograph as 256x256 | Caffe's reference models |
| `ten_crop_full` | of the whole photograph of short side 256 | PReLU-net, ResNet |
| `ten_crop_full_logits` | the same, logits averaged | fb.resnet.torch, DenseNet |
| `ten_crop_cross` | top, bottom, left, right and middle of the 256 square | the lecture's views |
| `ten_crop_cross_warped` | of the photograph as 256x256 | the lecture's AlexNet, which trains on them |
| `googlenet_144` | 4 scales, 3 squares, 6 views, mirror images | GoogLeNet |
| `vgg_dense:Q,...` | the whole photograph, scores averaged over space, then softmax | VGG, table 3 and 4 |
| `vgg_multicrop:Q,...` | 5x5 crops per scale, mirror images | VGG, table 5 |
| `vgg_both:Q,...` | the mean of the two | VGG, table 5 |
| `overfeat_coarse:1,...`, `overfeat_fine:1,...` | scales 1 to 6; a class's largest softmax over space | OverFeat |
| `spp_96`, `spp_98` | 9 windows of the last map at 6 scales; and the whole map | SPP-net |
| `prelu_dense:S,...` | every window of the last map | PReLU-net, table 4 |
| `resnet_fcn:S,...` | every 7x7 window of the last map | ResNet, table 4 |
| `mnist_single`, `cifar_single`, ... | each image once, whole (`input_pipeline.datasets` names them) | |

A size other than 224 is appended: `ten_crop_square:227`. Softmax probabilities are averaged unless the table says
otherwise.

The config's `test_crop.center_rounds` says where the center of a crop is if an odd number of pixels is left over. With
'up' and 'even' (fb.resnet.torch and torchvision) the mirrored crops are cut from the mirrored photograph, as in those
programs; otherwise (cuda-convnet2, Caffe) they are the same crops, mirrored.

`resnet_fcn` uses all 7x7 windows of the last map: short sides of 224, 256, 384, 480 and 640 have 1, 2, 6, 9 and 14 on
that axis. On the long side the number depends on the network's pooling: with Caffe's, which the paper's networks have
(`stem_pool='ceil'`: no padding, the last window rounded up), 577 pixels give 12 windows and 961 give 24; with
torchvision's padded pooling (`stem_pool='padded'`) 13 and 25. The paper does not give the numbers.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from evaluation import views
from input_pipeline import datasets
from runtime.errors import UserError, nearest


class Scale(NamedTuple):
    """A size of the photograph, and its views.

    Fields:
      short_side: short side of the resized photograph; 0 for the image as the config's `test_crop` and `fit` make it.
      boxes: (height, width, size, middle) -> [(top, left, side)] of the resized photograph, see `views`; None for a
        dense pass.
      square: whether to keep only the middle square.
      warp: whether to resize to a square.
      reading: for a dense pass, the network's reading: True, 'fine' or 'whole'.
      reduce: for a dense pass, see `scales.REDUCTIONS`.
      fit: for a dense pass, (height, width) -> (height, width) of the middle part to keep.
      weight: weight of the scale's mean in the sum over scales; None for the number of its views.
    """

    short_side: int
    boxes: Callable | None = None
    square: bool = False
    warp: bool = False
    reading: bool | str = True
    reduce: str = 'space_first'
    fit: Callable | None = None
    weight: float | None = None


class Protocol(NamedTuple):
    """A test protocol; see the module's table.

    Fields:
      name: name, with its sizes.
      scales: tuple of `Scale`.
      size: side of a crop.
      flip: whether mirror images are used, too.
      average: what is averaged: 'softmax' or 'logits'.
      description: text for a report.
    """

    name: str
    scales: tuple
    size: int
    flip: bool
    average: str
    description: str

    @property
    def is_single(self):
        """Whether each image is seen once, by the config's own view."""
        return self.scales[0].short_side == 0

    @property
    def is_dense(self):
        """Whether complete photographs go through the network."""
        return not self.is_single and any(scale.boxes is None for scale in self.scales)


# Keys of the config that a protocol overrides, unless it is the config's own view.
DECIDES = ('test_crop.kind', 'test_crop.short_side', 'test_crop.square', 'test_crop.warp')


def refuse(names, keys):
    """Raise UserError if the user sets a key of the config that these protocols override."""
    unread = [key for key in keys if key in DECIDES]
    if unread and names and not any(create(name).is_single for name in names):
        raise UserError(f'--config.{unread[0]} has no effect with --protocol {names[0]}, which overrides it')


# Scales


def _crops(boxes, *short_sides, **options):
    return tuple(Scale(side, boxes, **options) for side in short_sides)


def _dense(reduce, *short_sides, **options):
    return tuple(Scale(side, reduce=reduce, weight=1.0, **options) for side in short_sides)


# Short sides of OverFeat's six scales. Table 5 has those of the accurate network, 65 + 36 k pixels, for which each of
# its 3x3 offsets pools the same number of windows. For the fast network, with 2x2 offsets, such sides are 23 + 32 k;
# the paper gives none, and these are the nearest.
OVERFEAT = {
    'overfeat_accurate': ((245, 281, 317, 389, 425, 461), 65, 36),
    'overfeat_fast': ((247, 279, 311, 375, 439, 471), 23, 32),
}


def overfeat_fit(height, width, first=65, step=36):
    """Return the size of the largest middle part whose long side is first + step k: see `OVERFEAT`."""
    long = max(height, width)
    fitted = first + (long - first) // step * step
    return (height, fitted) if width >= height else (fitted, width)


# The table: functions (name, numbers, ...) -> `Protocol`, and an entry for each protocol


def _named(name, scales, size=224, flip=True, average='softmax', description=''):
    return Protocol(name, scales, size, flip, average, description)


def _of_size(name, numbers, scales, description, average='softmax'):
    """Return a protocol with crops of one size, the number after the colon."""
    size = numbers[0]
    return _named(name if size == 224 else f'{name}:{size}', scales, size, average=average, description=description)


def _ten(name, numbers, boxes, description, average='softmax', **resized):
    return _of_size(name, numbers, _crops(boxes, 256, **resized), description, average)


def _googlenet(name, numbers):
    scales = _crops(views.of_googlenet, 256, 288, 320, 352)
    return _of_size(name, numbers, scales, '4 scales, 3 squares, 6 views, mirrored')


def _of_sides(name, sides, description, dense='', crops=False):
    """Return a protocol with 5x5 crops of each short side, a dense pass reduced by `dense`, or the mean of both."""
    weight = 1.0 if dense and crops else None
    scales = _crops(functools.partial(views.grid, count=5), *sides, weight=weight) if crops else ()
    scales += _dense(dense, *sides) if dense else ()
    return _named(f'{name}:{",".join(map(str, sides))}', scales, description=description)


def _overfeat(name, numbers, reading, network='overfeat_accurate'):
    wrong = [number for number in numbers if not 1 <= number <= 6]
    if wrong:
        raise UserError(f"OverFeat's scales are 1 to 6, not {wrong[0]}")
    sides, first, step = OVERFEAT[network]
    fit = functools.partial(overfeat_fit, first=first, step=step)
    scales = _dense('max', *(sides[number - 1] for number in numbers), reading=reading, fit=fit)
    description = f'dense, {"fine" if reading == "fine" else "coarse"} stride, the largest softmax over space'
    return _named(f'{name}:{",".join(map(str, numbers))}', scales, description=description)


SPP_SIDES = (224, 256, 300, 360, 448, 560)


def _spp(name, numbers, extra=()):
    scales = tuple(Scale(side, reduce='nine_windows') for side in SPP_SIDES)
    description = '9 windows of the last map and their mirror images at 6 scales' + (
        ', and the whole map' if extra else ''
    )
    return _named(name, (*scales, *extra), description=description)


def _tens(boxes, description, **options):
    return _ten, (224,), {'boxes': boxes, 'description': description, **options}


PROTOCOLS = {  # name: (function, default numbers after the colon, options of the function)
    'ten_crop_square': _tens(views.five, 'corners and middle of the 256 square, mirrored', square=True),
    'ten_crop_warped': _tens(views.five, 'corners and middle of 256x256, mirrored', warp=True),
    'ten_crop_full': _tens(views.five, 'corners and middle of short side 256, mirrored'),
    'ten_crop_full_logits': _tens(views.five, 'corners and middle of short side 256, mirrored', average='logits'),
    'ten_crop_cross': _tens(views.cross, 'sides and middle of the 256 square, mirrored', square=True),
    'ten_crop_cross_warped': _tens(views.cross, 'sides and middle of 256x256, mirrored', warp=True),
    'googlenet_144': (_googlenet, (224,), {}),
    'vgg_dense': (
        _of_sides,
        (256, 384, 512),
        {'dense': 'space_first', 'description': 'dense, scores averaged over space, mirrored'},
    ),
    'vgg_multicrop': (_of_sides, (256, 384, 512), {'crops': True, 'description': '5x5 crops per scale, mirrored'}),
    'vgg_both': (
        _of_sides,
        (256, 384, 512),
        {
            'dense': 'space_first',
            'crops': True,
            'description': 'the mean of 5x5 crops per scale and of the dense pass, mirrored',
        },
    ),
    'overfeat_coarse': (_overfeat, (1,), {'reading': True}),
    'overfeat_fine': (_overfeat, (1, 2, 4, 6), {'reading': 'fine'}),
    'spp_96': (_spp, (), {}),
    'spp_98': (_spp, (), {'extra': (Scale(256, reading='whole', reduce='softmax_first'),)}),
    'prelu_dense': (
        _of_sides,
        (256, 384, 480),
        {'dense': 'softmax_first', 'description': 'every window of the last map, mirrored'},
    ),
    'resnet_fcn': (
        _of_sides,
        (224, 256, 384, 480, 640),
        {'dense': 'softmax_first', 'description': 'every 7x7 window of the last map, mirrored'},
    ),
}
SINGLE = ('single', *datasets.VIEWS)
ALIASES = {
    'center': 'single_224',
    'centre': 'single_224',
    'ten_crop': 'ten_crop_full',
    'googlenet': 'googlenet_144',
    'dense': 'vgg_dense',
    'multicrop': 'vgg_multicrop',
    'fcn': 'resnet_fcn',
}


def names():
    """Return the names of all protocols, which `create` gives their default numbers."""
    return (
        *SINGLE,
        'single_224',
        'single_227_square',
        'single_227_warped',
        'single_320',
        'single_299_of_352',
        *PROTOCOLS,
    )


def create(text, trimmed=False, network=''):
    """Return the protocol of a name.

    Args:
      text: name and numbers, see the module's table.
      trimmed: whether dense passes keep only the middle of the long side, a multiple of 32: fewer sizes to compile, but
        another protocol.
      network: the network to test; OverFeat's two have different sizes.

    Raises:
      UserError: if there is no such protocol, or it does not take these numbers.
    """
    name, _, numbers = text.partition(':')
    name = ALIASES.get(name, name)
    try:
        numbers = tuple(int(number) for number in numbers.split(',')) if numbers else ()
    except ValueError:
        raise UserError(
            f'protocol {text!r}: the numbers after the colon must be integers, as in vgg_dense:256,384'
        ) from None
    if any(number <= 0 for number in numbers):
        raise UserError(f'protocol {text!r}: sizes must be above 0')
    protocol = _single(name) if name.startswith('single_') else None
    if name in SINGLE:
        protocol = Protocol(
            name, (Scale(0),), 0, False, 'softmax', 'each test image once, cropped by the config, no flip'
        )
    if name in PROTOCOLS:
        function, defaults, options = PROTOCOLS[name]
        if numbers and not defaults:
            raise UserError(f'protocol {name} takes no numbers')
        if function is _overfeat and network in OVERFEAT:
            options = options | {'network': network}
        protocol = function(name, numbers or defaults, **options)
        numbers = ()
    if protocol is None:
        raise UserError(f'no protocol {text!r}{nearest(name, (*names(), *ALIASES))} There are: {", ".join(names())}.')
    if numbers:
        raise UserError(f'protocol {name} takes no numbers')
    return _trimmed(protocol) if trimmed else protocol


def _single(name):
    match = re.fullmatch(r'single_(\d+)(_square|_warped|_of_(\d+))?', name)
    if not match:
        return None
    size, kind = int(match[1]), match[2]
    side = int(match[3]) if match[3] else max(256, size)
    if side < size:
        raise UserError(f'protocol {name}: a crop of {size} does not fit a short side of {side}')
    region = {'_square': f'the square of side {side}', '_warped': f'the photograph as {side}x{side}'}
    description = f'the middle {size}x{size} of {region.get(kind, f"short side {side}")}, no flip'
    scales = _crops(views.center, side, square=kind == '_square', warp=kind == '_warped')
    return _named(name, scales, size, flip=False, description=description)


def _trimmed(protocol):
    if not protocol.is_dense:
        raise UserError(f'{protocol.name} has no dense pass to trim')
    scales = tuple(
        scale if scale.boxes or scale.fit else scale._replace(fit=multiple_of_32) for scale in protocol.scales
    )
    return protocol._replace(
        name=f'{protocol.name}+trimmed',
        scales=scales,
        description=f'{protocol.description}; the long side trimmed to a multiple of 32',
    )


def multiple_of_32(height, width):
    """Return the size of the middle part whose long side is a multiple of 32."""
    return (height, width // 32 * 32) if width >= height else (height // 32 * 32, width)
