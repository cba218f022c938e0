"""The pixels of every recipe, in training and in tests, from the papers' words, a second time in NumPy and Pillow.

Chance is given: both sides take their numbers from streams of the same seed, in the same order (scale, then top, then
left; filter, then area, shape, coin and place), each within the paper's own ranges, and the device's draws from the
same keys. What is compared is pixels.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from configs import imagenet, listing
from input_pipeline import colour, loader, statistics
from input_pipeline.pixels import Pixels, example_keys
from training.run import check
from weights import releases

SHAPES = ((375, 500), (500, 375), (256, 256), (900, 256), (227, 227))


def photograph(height, width, seed=0):
    """Smooth forms with a gradient, clipped nowhere: no two places are alike."""
    small = Image.fromarray(np.random.default_rng(seed).integers(30, 225, (9, 9, 3), np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


PHOTOGRAPHS = tuple(photograph(*shape, seed) for seed, shape in enumerate(SHAPES))


@functools.cache
def mean_image(side):
    """Of the range of real ones, but no two of its pixels alike: a wrong place shows."""
    return np.random.default_rng(side).uniform(60, 190, (side, side, 3)).astype(np.float32)


class Chance:
    """Numbers of one visit, as `crops.Draws` has them: a stream of a seed."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed).random

    def uniform(self, low=0.0, high=1.0):
        return low + (high - low) * self.random()

    def integer(self, low, high):
        return low + int(self.random() * (high - low + 1))


# Photographs, as the papers cut them: [H, W, C] -> ([size, size, C], (top, left) in the square that a mean image is of)

FILTERS = {name: getattr(Image.Resampling, name.upper()) for name in ('nearest', 'box', 'bilinear', 'bicubic')}


def resized(image, height, width, filter='bilinear'):
    return np.asarray(Image.fromarray(image).resize((width, height), FILTERS[filter]))


def half_up(x):
    return math.floor(x + 0.5)


def short_side(image, side, filter='bilinear', rounds=half_up):
    height, width = image.shape[:2]
    long = rounds(side * max(height, width) / min(height, width))
    return resized(image, *((side, long) if height <= width else (long, side)), filter)


def part(image, top, left, height, width):
    assert top >= 0 and left >= 0
    image = image[top : top + height, left : left + width]
    assert image.shape[:2] == (height, width)
    return image


def frame(image, side, region):
    """The photograph that crops are cut from: of short side `side`, its central square, or warped to a square."""
    if region == 'warped':
        return resized(image, side, side)
    image = short_side(image, side)
    if region == 'square':
        return part(image, (image.shape[0] - side) // 2, (image.shape[1] - side) // 2, side, side)
    return image


def random_crop(image, chance, size, low, high, region='whole', ends=False):
    side = (low, high)[chance.integer(0, 1)] if ends else chance.integer(low, high)
    image = frame(image, side, region)
    top = chance.integer(0, image.shape[0] - size)
    left = chance.integer(0, image.shape[1] - size)
    return part(image, top, left, size, size), (top, left)


def one_of_zfnets_ten(image, chance):
    image = frame(image, chance.integer(256, 256), 'square')
    top, left = ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))[chance.integer(0, 4)]
    return part(image, top, left, 224, 224), (top, left)


def area_crop(image, chance, filter):
    """Szegedy et al. 2014, section 6, in fb.resnet.torch's form."""
    names = ('nearest', 'box', 'bilinear', 'bicubic')
    filter = names[chance.integer(0, 3)] if filter == 'one of four' else filter
    height, width = image.shape[:2]
    for _ in range(10):
        area, shape = chance.uniform(0.08, 1) * height * width, chance.uniform(3 / 4, 4 / 3)
        wide, tall = half_up(math.sqrt(area * shape)), half_up(math.sqrt(area / shape))
        if chance.uniform() < 0.5:
            wide, tall = half_up(math.sqrt(area * (1 / shape))), half_up(math.sqrt(area / (1 / shape)))
        if tall <= height and wide <= width:
            top = chance.integer(0, height - tall)
            left = chance.integer(0, width - wide)
            return resized(part(image, top, left, tall, wide), 224, 224, filter), (0, 0)
    image = short_side(image, 224, filter, math.floor)
    return middle_of(image, 224, lambda free: math.ceil(free / 2)), (0, 0)


def middle_of(image, size, rule):
    return part(image, *(rule(side - size) for side in image.shape[:2]), size, size)


def down(free):
    return free // 2


def view_in_a_test(image, size, side, region='whole', filter='bilinear', rounds=half_up, middle=down):
    if region == 'whole':
        image = short_side(image, side, filter, rounds)
    else:
        image = frame(image, side, region)
    return middle_of(image, size, middle)


# Pixels, as the papers change them: float64 [size, size, C]

LUMA = np.array([0.299, 0.587, 0.114])
FB_VECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
CC2_VECTORS = np.array(
    [
        [0.41795513, -0.71257945, -0.56351045],
        [-0.81698062, -0.02354167, -0.57618440],
        [0.39731118, 0.70119634, -0.59200296],
    ]
)
LIGHTS = {  # fb: eigenvalues of 0..1 pixels; the author's code: standard deviations of 0..255 ones
    'fb': (FB_VECTORS, 255 * np.array([0.2175, 0.0188, 0.0045])),
    'cc2': (CC2_VECTORS, np.array([19.72083, 37.09389, 121.78006])),
}


def jittered(x, key, low, high, clips):
    """Brightness, contrast and saturation by factors of U(low, high), in a random order."""
    (order,), (factors,) = colour.jitter_draws(key[None], low, high)
    assert sorted(np.asarray(order)) == [0, 1, 2] and low <= factors.min() and factors.max() <= high
    for step in np.asarray(order):
        a, gray = float(factors[step]), x @ LUMA
        x = a * x + (1 - a) * (0.0, gray.mean(), gray[..., None])[step]
        x = np.clip(x, 0, 255) if clips else x
    return x


class Words(NamedTuple):
    """A paper's words on pixels.

    Fields:
      train: (image, chance) -> (crop, its place in the square of the mean image).
      test: image -> crop.
      mean, std: what is subtracted and divided by: a color; 'own': of the images that it trains on, by channel;
        'under', 'center', 'whole': the part of the mean image of 256 under the crop, always its center, or one of the
        crop's own size.
      jitter: (low, high, whether each step is clipped).
      light: the reading of AlexNet's lighting.
      scale: of all, in training.
      flip: whether images are mirrored by a coin.
      pad: (pixels around, their mode), then a crop at a random place.
      bicubic: whether training resizes so, by a program that rounds once where Pillow does twice.
    """

    train: object
    test: object
    mean: object = 0.0
    std: object = 1.0
    jitter: tuple = ()
    light: str = ''
    scale: float = 1.0
    flip: bool = False
    pad: tuple = ()
    bicubic: bool = False


OWN = np.array([120.5, 115.25, 101.75]), np.array([70.25, 66.5, 71.0])  # measured on the training images, say


def less_the_mean(words, x, place):
    size = len(x)
    if isinstance(words.mean, str) and words.mean != 'own':
        if words.mean == 'whole':
            return x - mean_image(size)
        top, left = ((256 - size) // 2,) * 2 if words.mean == 'center' else place
        return x - part(mean_image(256), top, left, size, size)
    mean, std = (OWN[n] if value == 'own' else value for n, value in enumerate((words.mean, words.std)))
    return (x - np.array(mean)) / np.array(std)


def trained_on(words, crop, place, key):
    """What the network takes of a crop in training; `key` is of the image's visit."""

    def chance(stage):
        return jax.random.fold_in(key, ('rotation', 'jitter', 'shift', 'lighting', 'flip', 'crop').index(stage))

    x = crop.astype(np.float64)
    if words.jitter:
        x = jittered(x, chance('jitter'), *words.jitter)
    if words.light:
        vectors, scales = LIGHTS[words.light]
        x = x + vectors @ (0.1 * np.asarray(jax.random.normal(chance('lighting'), (3,))) * scales)
    x = less_the_mean(words, x, place) * words.scale
    if words.flip and jax.random.bernoulli(chance('flip')):
        x = x[:, ::-1]
    if words.pad:
        around, mode = words.pad
        size, x = len(x), np.pad(x, ((around, around), (around, around), (0, 0)), mode)
        top, left = np.asarray(jax.random.randint(chance('crop'), (2,), 0, 2 * around + 1))
        x = part(x, top, left, size, size)
    return x


# The recipes

IMAGENET = {'flip': True}
CAFFE_MEAN, VGG_MEAN = (123, 117, 104), (123.68, 116.779, 103.939)
FB_MEAN, FB_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # 255 times 0.485, ... and 0.229, ...
CIFAR_MEAN, CIFAR_STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)


def _random(size, low, high, region='whole', test_side=256, **more):
    train = functools.partial(random_crop, size=size, low=low, high=high, region=region, ends=more.pop('ends', False))
    test = functools.partial(view_in_a_test, size=size, side=test_side, region=region)
    return Words(train, test, **{'flip': True, **more})


def _alexnet(size, variant):
    """The author's code divides by 1.1 in training, with its lighting; the paper (`unscaled`) does not."""
    region, scale = 'warped' if variant == 'lecture' else 'square', 1.0 if variant == 'unscaled' else 1 / 1.1
    return _random(size, 256, 256, region, mean='center', light='cc2', scale=scale)


def _zfnet():
    return Words(
        one_of_zfnets_ten, functools.partial(view_in_a_test, size=224, side=256, region='square'), 'under', flip=True
    )


def _overfeat(size):
    return _random(size, 256, 256, mean=118.380948, std=61.896913)


def _inception(low, high):
    train, test = (
        functools.partial(area_crop, filter='one of four'),
        functools.partial(view_in_a_test, size=224, side=256),
    )
    more = {'jitter': (low, high, True), 'light': 'cc2', 'flip': True, 'bicubic': True}
    return Words(train, test, CAFFE_MEAN, **more)


def _vgg(low=256, high=256, test_side=256, light='cc2', ends=False):
    return _random(224, low, high, test_side=test_side, mean=VGG_MEAN, light=light, ends=ends)


def _prelu():
    return _random(224, 256, 512, mean='own', std='own', light='cc2')


def _resnet():
    return _random(224, 256, 480, mean='whole', light='fb')


def _fb():
    train = functools.partial(area_crop, filter='bicubic')
    up = {'middle': lambda free: math.ceil(free / 2), 'filter': 'bicubic', 'rounds': math.floor}
    test = functools.partial(view_in_a_test, size=224, side=256, **up)
    return Words(train, test, FB_MEAN, FB_STD, (0.6, 1.4, False), 'fb', flip=True, bicubic=True)


def _senet():
    train, test = functools.partial(area_crop, filter='bilinear'), functools.partial(view_in_a_test, size=224, side=256)
    return Words(train, test, mean='own', flip=True)


def _small(**more):
    """The image as it is."""
    return Words(lambda image, chance: (image, (0, 0)), lambda image: image, **more)


def _mnist(side, low, high):
    """Padded with background to `side`, 0..255 to low..high."""

    def padded(image):
        around = (side - 28) // 2
        return np.pad(image, ((around, around), (around, around), (0, 0)))

    scale = (high - low) / 255
    return Words(lambda image, chance: (padded(image), (0, 0)), padded, mean=-low / scale, std=1 / scale)


def _digits():
    """scikit-learn's scans of 8x8, enlarged: ours, no paper's."""

    def enlarged(image):
        return resized(image[..., 0], 32, 32)[..., None]

    low, scale = -0.1, 1.275 / 255
    return Words(lambda image, chance: (enlarged(image), (0, 0)), enlarged, mean=-low / scale, std=1 / scale)


def words_of(name):
    """The words of a recipe, NAME or NAME:VARIANT."""
    network, _, variant = name.partition(':')
    family = next((text for text in FAMILIES if network.startswith(text)), None)
    assert family, f'{name}: what does its paper say of pixels?'
    return FAMILIES[family](network, variant)


def _vgg_by(network, variant):
    return {
        's384': _vgg(384, 384, 384),
        'jitter': _vgg(256, 512, 384),
        'lecture': _vgg(256, 512, 384, '', ends=True),
    }.get(variant, _vgg())


_CIFAR = {'flip': True, 'pad': (4, 'constant')}


def _densenet_bc(variant):
    return {
        'unaugmented': _small(mean=CIFAR_MEAN, std=CIFAR_STD),
        'cifar100': _small(mean=(129.3, 124.1, 112.4), std=(68.2, 65.4, 70.4), **_CIFAR),
        'svhn': _small(std=255),
    }.get(variant, _small(mean=CIFAR_MEAN, std=CIFAR_STD, **_CIFAR))


FAMILIES = {  # the first that a name starts with
    'alexnet_owt': lambda network, variant: _alexnet(224, variant),
    'alexnet': lambda network, variant: _alexnet(227, variant),
    'zfnet': lambda network, variant: _zfnet(),
    'overfeat_fast': lambda network, variant: _overfeat(231),
    'overfeat_accurate': lambda network, variant: _overfeat(221),
    'googlenet': lambda network, variant: _inception(0.5, 1.5),
    'bn_inception': lambda network, variant: _inception(0.75, 1.25),
    'vgg': _vgg_by,
    'prelu_net': lambda network, variant: _prelu(),
    'densenet_bc': lambda network, variant: _densenet_bc(variant),
    'wrn': lambda network, variant: _small(mean=CIFAR_MEAN, std=CIFAR_STD, flip=True, pad=(4, 'reflect')),
    **{
        f'{kind}{depth}': lambda network, variant: _resnet()
        for kind, depth in (*itertools.product(['plain', 'resnet'], ('18', '34')), ('resnet', '50'), ('resnet', '101'))
    },
    'resnet152': lambda network, variant: _resnet(),
    'plain': lambda network, variant: _small(mean='whole', **_CIFAR),
    'resnet': lambda network, variant: _small(mean='whole', **_CIFAR),
    'resnext': lambda network, variant: _fb(),
    'wide_resnet': lambda network, variant: _fb(),
    'densenet': lambda network, variant: _fb(),
    'se': lambda network, variant: _senet(),
    'lenet_caffe': lambda network, variant: _mnist(28, 0, 255 / 256),
    'lenet5_digits': lambda network, variant: _digits(),
    'lenet5': lambda network, variant: _mnist(32, -0.1, 1.175),
}
PIXELS = (
    'dataset', 'image_size', 'channels', 'channel_order', 'fit', 'crop', 'test_crop', 'colour', 'normalize', 'mean',
    'std', 'pixel_range', 'distortion', 'data_seed',
)  # fmt: skip


def recipes():
    """{a recipe and its words, tested once: all recipes and variants with the same pixels and words}."""
    found = {}
    for name in listing.golden().values():
        config = listing.load(name)
        if 'members' in config or name.endswith(':cifar10'):  # of a series each member is a recipe
            continue
        values = str({key: config[key].to_dict() if hasattr(config[key], 'to_dict') else config[key] for key in PIXELS})
        words = words_of(name)
        key = values, str([getattr(word, 'keywords', word) for word in words]).split(' at 0x')[0]
        found.setdefault(key, (name.rstrip(':'), words))
    return dict(found.values())


RECIPES = recipes()


def test_every_recipe_is_looked_at():
    assert 20 <= len(RECIPES) <= 30
    for name in ('resnet50', 'plain34', 'resnet152'):
        assert words_of(name).mean == 'whole'
    assert words_of('resnet110').pad and words_of('resnet1202').pad and not words_of('resnet101').pad


def statistics_of(config):
    """Measured statistics, say: the size from `statistics.view`."""
    size, _ = statistics.view(config)
    return {'mean_image': mean_image(size), 'mean': OWN[0], 'std': OWN[1]}


def images_of(config):
    if config.channels == 1:
        side = {'mnist': 28, 'digits': 8}[config.dataset]
        return [photograph(side, side, seed)[..., :1] for seed in range(4)]
    small = config.dataset in ('cifar10', 'cifar100', 'svhn')
    return [photograph(32, 32, seed) for seed in range(4)] if small else PHOTOGRAPHS


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipes_training_pixels(name):
    config, words = listing.load(name), RECIPES[name]
    check(config)
    form, measured, images = Pixels(config).train_form, statistics_of(config), images_of(config)
    pixels, offsets, wanted, places = [], [], [], []
    visits = [(image, 100 * number + visit) for number, image in enumerate(images) for visit in range(3)]
    for image, seed in visits:
        found, offset = loader.prepare_image(image, form, Chance(seed))
        crop, place = words.train(image, Chance(seed))
        apart = np.abs(found.astype(int) - crop)
        # Rounding: a crop resized by itself, or bicubic without rounding between the two passes.
        assert apart.max() <= (4 if words.bicubic else 2) and apart.mean() < 0.3, (name, image.shape, seed)
        pixels.append(found), offsets.append(offset), wanted.append(crop), places.append(place)
    index, epoch = np.arange(len(visits), dtype=np.int32) + 7, np.full(len(visits), 3, np.int32)
    batch = {'image': np.stack(pixels), 'offset': np.array(offsets, np.int32), 'index': index, 'epoch': epoch}
    preprocess = Pixels(config, measured, 1000).train
    found = np.asarray(preprocess(batch))
    keys = example_keys(Pixels(config).seed, epoch, index)
    for row, key in enumerate(keys):
        expected = trained_on(words, pixels[row], places[row], key)
        np.testing.assert_allclose(found[row], expected, atol=2e-3 * max(1, np.abs(expected).max() / 100), rtol=0)


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipes_test_pixels(name):
    config, words = listing.load(name), RECIPES[name]
    form, measured, images = Pixels(config).test_form, statistics_of(config), images_of(config)
    made = [loader.prepare_image(image, form) for image in images]
    preprocess = Pixels(config, measured).test
    batch = {'image': np.stack([pixels for pixels, _ in made]), 'offset': np.array([at for _, at in made], np.int32)}
    found = np.asarray(preprocess(batch))
    for (pixels, _), image, tested in zip(made, images, found, strict=True):
        np.testing.assert_array_equal(pixels, words.test(image))
        middle = ((256 - len(pixels)) // 2,) * 2
        expected = less_the_mean(words, words.test(image).astype(np.float64), middle)
        np.testing.assert_allclose(tested, expected, atol=1e-4, rtol=1e-5)


def test_where_each_familys_center_crop_is():
    """fb.resnet.torch rounds up, torchvision to the even number, Caffe down: protocols of one name, of 224 in 256."""
    places = {}
    for rule in ('down', 'up', 'even'):
        config = imagenet.get_config()
        config.test_crop.update({'truncate': True, 'center_rounds': rule})
        crop = Pixels(config).test_form.crop
        places[rule] = [
            crop(height, width, None).resize_then_slice[2:] for height, width in ((375, 500), (640, 427), (427, 640))
        ]
    assert places['down'] == [(16, 58), (79, 16), (16, 79)]
    assert places['up'] == [(16, 59), (80, 16), (16, 80)]
    assert places['even'] == [(16, 58), (80, 16), (16, 80)]  # Python's round of 58.5 and 79.5


def published():
    """Releases of ImageNet's weights, those with the same pixels once."""
    found = {}
    for name, several in releases.RELEASES.items():
        for release in several:
            if release.pixels['dataset'] == 'imagenet':
                found.setdefault(str(release.pixels), pytest.param(release, id=f'{name}-{release.by}'))
    return found.values()


@pytest.mark.parametrize('release', published())
def test_a_releases_test_pixels(release):
    """torchvision, timm and Cadene use torchvision's transforms, Caffe's users its center."""
    config = imagenet.get_config()
    config.update(release.pixels)
    form = Pixels(config).test_form
    middle = down if release.by.startswith('caffe') else lambda free: round(free / 2.0)
    more = {'filter': 'bicubic'} if release.by == 'timm' else {}
    more = {'region': 'warped'} if release.theirs in ('bvlc_alexnet', 'bvlc_reference_caffenet') else more
    for image in PHOTOGRAPHS:
        expected = view_in_a_test(image, config.image_size, 256, rounds=math.floor, middle=middle, **more)
        np.testing.assert_array_equal(loader.prepare_image(image, form)[0], expected)
