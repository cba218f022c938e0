"""Every protocol's views, from the papers' words, a second time in NumPy and Pillow: through a network to which no two
pixels are alike, so that a view that lies a pixel off, or less another part of a mean image, has other probabilities.

And one protocol is one protocol: by its name, an alias or as the default, and by whichever way its views are cut.
"""

import functools
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from test_pixels import SHAPES, mean_image, part, photograph, resized, short_side

import architectures
from configs import listing
from evaluation import checkpoint, protocols, scoring
from input_pipeline import colour, crops, loader, statistics
from input_pipeline.pixels import Pixels

CLASSES = 4


def grainy(image):
    """With noise, so that a pixel is unlike its neighbors."""
    noise = np.random.default_rng(0).integers(-60, 61, image.shape)
    return np.uint8(np.clip(image.astype(int) + noise, 0, 255))


PHOTOGRAPHS = tuple(grainy(photograph(*shape, seed)) for seed, shape in enumerate(SHAPES))


@functools.cache
def pattern(height, width):
    """[height width 3, CLASSES] in -1..1, of no period, over the root of its length."""
    noise = np.random.default_rng(height).uniform(-1, 1, (height * width * 3, CLASSES))
    return np.float32(noise / math.sqrt(len(noise)))


CELL = 32  # of a map of scores, pixels


class Network:
    """Logits are sums of the pixels by a pattern; of a map of scores, of each cell. By 'fine' they are of half ones."""

    readings = ('fine', 'whole')

    def apply(self, variables, images, dense=False):
        scale = variables
        if not dense or dense == 'whole':
            images = images[:, None, :, None]
        else:
            cell = CELL // 2 if dense == 'fine' else CELL
            rows, columns = (side // cell for side in images.shape[1:3])
            images = images[:, : rows * cell, : columns * cell].reshape(-1, rows, cell, columns, cell, 3)
        pixels = jnp.asarray(pattern(images.shape[2], images.shape[4]))
        windows = jnp.swapaxes(images, 2, 3).reshape(*images.shape[:2], images.shape[3], -1)
        scores = windows @ pixels[None, None] * scale
        return scores if dense else scores[:, 0, 0]


SCALE = 0.03


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def scores(x, cell=None):
    """Of float [H, W, 3]: [CLASSES], or of each cell [rows, columns, CLASSES]."""
    cells = (1, 1) if cell is None else tuple(side // cell for side in x.shape[:2])
    height, width = x.shape[:2] if cell is None else (cell, cell)
    pixels = pattern(height, width)
    found = np.empty((*cells, CLASSES))
    for i, j in np.ndindex(*cells):
        window = x[i * height : (i + 1) * height, j * width : (j + 1) * width]
        found[i, j] = np.float32(window).ravel() @ pixels * SCALE
    return found[0, 0] if cell is None else found


# The families' pixels: the config of a member, and the same in words


def truncated(x):
    return math.floor(x)


def half_up(x):
    return math.floor(x + 0.5)


def down(free):
    return free // 2


def up(free):
    return -(-free // 2)


def zfnet():
    return listing.load('zfnet'), statistics.of_mean_image(mean_image(256))


def resnet():
    return listing.load('resnet50'), statistics.of_mean_image(mean_image(224))


def fb():
    return listing.load('densenet121'), {}


def alexnet():
    return listing.load('alexnet'), statistics.of_mean_image(mean_image(256))


class Authors:
    """The rules of a family's authors: how a long side is rounded, the place of the center crop, what is subtracted.

    `unit`: gray levels that are 1 to the network, whose weights are as much larger.
    """

    def __init__(self, rounds, middle, less, filter='bilinear', mirrors_photograph=False, unit=1.0):
        self.rounds, self.middle, self.less, self.filter = rounds, middle, less, filter
        self.mirrors_photograph, self.unit = mirrors_photograph, unit

    def scores(self, view, mirror=False):
        """Of (pixels, place, square)."""
        pixels, *where = view
        x = self.less(np.float64(pixels), *where) * self.unit
        return scores(x[:, ::-1] if mirror else x)


AROUND = 900


@functools.cache
def with_means_around(side):
    """A mean image, and around it AROUND pixels of its channel means."""
    wide = np.broadcast_to(mean_image(side).mean((0, 1)), (side + 2 * AROUND, side + 2 * AROUND, 3)).copy()
    wide[AROUND : AROUND + side, AROUND : AROUND + side] = mean_image(side)
    return wide


def less_the_part_under(x, place, square):
    """Subtract the mean image of the central square of 256, and its channel means outside."""
    top, left = (AROUND + at - origin for at, origin in zip(place, square, strict=True))
    return x - part(with_means_around(256), top, left, *x.shape[:2])


def less_the_middle(side, x, place, square):
    """Of a mean image of a side, whatever the place; its channel means beyond it."""
    top, left = (AROUND + (side - n) // 2 for n in x.shape[:2])
    return x - part(with_means_around(side), top, left, *x.shape[:2])


def less_a_color(x, place, square):
    return (x - np.array(colour.MEANS['fb'])) / np.array(colour.STDS['fb'])


FAMILIES = {
    'zfnet': (zfnet, Authors(half_up, down, less_the_part_under)),
    'resnet': (resnet, Authors(half_up, down, functools.partial(less_the_middle, 224))),
    'alexnet': (alexnet, Authors(half_up, down, functools.partial(less_the_middle, 256))),
    'fb': (fb, Authors(truncated, up, less_a_color, 'bicubic', True, 57.0)),
}


# The protocols in words: (scale, a view's box) in the order of the papers


def corners_and_middle(image, size, middle):
    rows, columns = image.shape[0] - size, image.shape[1] - size
    return [(0, 0), (0, columns), (rows, 0), (rows, columns), (middle(rows), middle(columns))]


def sides_and_middle(image, size, middle):
    rows, columns = image.shape[0] - size, image.shape[1] - size
    across, along = middle(columns), middle(rows)
    return [(0, across), (rows, across), (along, 0), (along, columns), (along, across)]


def only_the_middle(image, size, middle):
    return [tuple(middle(side - size) for side in image.shape[:2])]


def grid_of_5(image, size, middle):
    rows, columns = image.shape[0] - size, image.shape[1] - size
    return [(half_up(i * rows / 4), half_up(j * columns / 4)) for i in range(5) for j in range(5)]


def views_at(places, side, size, region='whole'):
    """image, pixels -> [(the view's pixels, its place, the square's place)], one scale."""

    def views(image, pixels):
        if region == 'warped':
            image = resized(image, side, side, pixels.filter)
        else:
            image = short_side(image, side, pixels.filter, pixels.rounds)
        if region == 'square':
            image = part(image, *((n - side) // 2 for n in image.shape[:2]), side, side)
        square = tuple((n - 256) // 2 for n in image.shape[:2])
        return [(part(image, *at, size, size), at, square) for at in places(image, size, pixels.middle)]

    return views


def googlenets_144(image, pixels, size=64):
    """Section 7: 4 scales, 3 squares, of each the corners, the middle and the square resized; smaller crops."""
    found = []
    for side in (256, 288, 320, 352):
        scaled = short_side(image, side, pixels.filter, pixels.rounds)
        free = max(scaled.shape) - side
        square = tuple((n - 256) // 2 for n in scaled.shape[:2])
        for along in (0, pixels.middle(free), free):
            top, left = (along, 0) if scaled.shape[0] > scaled.shape[1] else (0, along)
            own = part(scaled, top, left, side, side)
            for i, j in corners_and_middle(own, size, pixels.middle):
                found.append((part(own, i, j, size, size), (top + i, left + j), square))
            more = (side - size) // 2  # about the same middle
            found.append((resized(own, size, size, pixels.filter), (top + more, left + more), square))
    return found


def of_crops(views, flips, mean_of=softmax):
    """image, pixels -> the probabilities: the mean over views and their mirror images."""

    def probabilities(image, pixels):
        found = [pixels.scores(view) for view in views(image, pixels)]
        if flips and pixels.mirrors_photograph:
            found += [pixels.scores(view) for view in views(np.ascontiguousarray(image[:, ::-1]), pixels)]
        elif flips:
            found += [pixels.scores(view, mirror=True) for view in views(image, pixels)]
        return softmax(np.stack(found)).mean(0) if mean_of is softmax else softmax(np.mean(found, 0))

    return probabilities


def whole(image, side, pixels):
    """A complete photograph minus the mean color, because a mean image has one size."""
    image = np.float64(short_side(image, side, pixels.filter, pixels.rounds))
    if pixels.less is less_a_color:
        return less_a_color(image, None, None)
    side = 224 if pixels.less.__class__ is functools.partial and pixels.less.args == (224,) else 256
    return image - mean_image(side).mean((0, 1))


def dense(reduce, *sides, cell=CELL, fit=None):
    """image, pixels -> the mean over scales and mirror images of what `reduce` makes of a map of scores."""

    def probabilities(image, pixels):
        found = []
        for side in sides:
            x = whole(image, side, pixels)
            if fit:
                first, step = fit
                kept = [max(range(first, n + 1, step)) if n > side else n for n in x.shape[:2]]
                x = part(x, *((n - k) // 2 for n, k in zip(x.shape[:2], kept, strict=True)), *kept)
            found += [reduce(scores(x, cell)), reduce(scores(x[:, ::-1], cell))]
        return found

    return probabilities


def space_first(maps):
    return [softmax(maps.mean((0, 1)))]


def softmax_first(maps):
    return list(softmax(maps).reshape(-1, CLASSES))


def largest(maps):
    return [softmax(maps).max((0, 1))]


def nine(maps):
    """He et al. 2014: the middle, 4 corners and 4 middles of sides; fewer where a side has one window."""
    rows, columns = (sorted({0, (n - 1) // 2, n - 1}) for n in maps.shape[:2])
    return [softmax(maps[i, j]) for i in rows for j in columns]


def mean_of_scales(lists):
    return lambda image, pixels: np.mean([np.mean(found, 0) for found in lists(image, pixels)], 0)


def mean_of_views(lists):
    return lambda image, pixels: np.mean(list(itertools.chain(*lists(image, pixels))), 0)


SPP = (224, 256, 300, 360, 448, 560)


def spp_98(image, pixels):
    views = list(itertools.chain(*dense(nine, *SPP)(image, pixels)))
    x = whole(image, 256, pixels)
    return np.mean([*views, softmax(scores(x)), softmax(scores(x[:, ::-1]))], 0)


def multicrop(image, pixels):
    views = [views_at(grid_of_5, side, 224) for side in (256, 384, 512)]
    return of_crops(lambda image, pixels: [v for one in views for v in one(image, pixels)], True)(image, pixels)


vgg_dense = mean_of_scales(dense(space_first, 256, 384, 512))
PROTOCOLS = {
    'single_224': of_crops(views_at(only_the_middle, 256, 224), False),
    'single_227_square': of_crops(views_at(only_the_middle, 256, 227, 'square'), False),
    'single_227_warped': of_crops(views_at(only_the_middle, 256, 227, 'warped'), False),
    'single_320': of_crops(views_at(only_the_middle, 320, 320), False),
    'single_299_of_352': of_crops(views_at(only_the_middle, 352, 299), False),
    'ten_crop_square': of_crops(views_at(corners_and_middle, 256, 224, 'square'), True),
    'ten_crop_warped': of_crops(views_at(corners_and_middle, 256, 224, 'warped'), True),
    'ten_crop_full': of_crops(views_at(corners_and_middle, 256, 224), True),
    'ten_crop_full_logits': of_crops(views_at(corners_and_middle, 256, 224), True, mean_of=None),
    'ten_crop_cross': of_crops(views_at(sides_and_middle, 256, 224, 'square'), True),
    'ten_crop_cross_warped': of_crops(views_at(sides_and_middle, 256, 224, 'warped'), True),
    'googlenet_144:64': of_crops(googlenets_144, True),
    'vgg_dense': vgg_dense,
    'vgg_multicrop': multicrop,
    'vgg_both': lambda image, pixels: np.mean([multicrop(image, pixels), vgg_dense(image, pixels)], 0),
    'overfeat_coarse': mean_of_scales(dense(largest, 245, fit=(65, 36))),
    'overfeat_fine': mean_of_scales(dense(largest, 245, 281, 389, 461, cell=CELL // 2, fit=(65, 36))),
    'spp_96': mean_of_views(dense(nine, *SPP)),
    'spp_98': spp_98,
    'prelu_dense': mean_of_scales(dense(softmax_first, 256, 384, 480)),
    'resnet_fcn': mean_of_scales(dense(softmax_first, 224, 256, 384, 480, 640)),
}


def member_of(family, protocol, average=''):
    (config, measured), unit = FAMILIES[family][0](), FAMILIES[family][1].unit
    made = checkpoint._protocol(config, protocol, average, False)
    return scoring.Member(Network(), jnp.float32(SCALE * unit), config, made, Pixels(config, measured))


def scored(member, images):
    """The probabilities of each, by the evaluator."""
    scorer = scoring.Scorer([member], 1, 4, jax.device_put)
    examples = [{'index': number, 'value': scorer.items(image)} for number, image in enumerate(images)]
    with jax.disable_jit():  # few images of many sizes: compiling takes longer
        found = {example['index']: np.exp(logs) for example, logs in scorer.log_probabilities(examples)}
    return [found[number] for number in range(len(images))]


def agree(found, expected, atol):
    for here, there in zip(found, expected, strict=True):
        np.testing.assert_allclose(here, there, atol=atol, rtol=0)


def test_every_protocol_is_looked_at():
    assert {name.partition(':')[0] for name in PROTOCOLS} == set(protocols.names()) - set(protocols.SINGLE)


def few(name):
    """Photographs for a protocol: fewer where it looks at many views."""
    many = name.startswith(('googlenet', 'vgg', 'spp')) or protocols.create(name).is_dense
    return PHOTOGRAPHS[:1] if many else PHOTOGRAPHS[:4:3] if name.startswith('ten') else PHOTOGRAPHS


SLOW = {'vgg_multicrop', 'vgg_both', 'googlenet_144:64', 'spp_96'}
EACH = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in PROTOCOLS]


@pytest.mark.parametrize('name', EACH)
def test_a_protocol_is_what_its_paper_says(name):
    """ZFNet's pixels: from each view its part of the mean image is subtracted."""
    pixels, images = FAMILIES['zfnet'][1], few(name)
    agree(scored(member_of('zfnet', name), images), [PROTOCOLS[name](image, pixels) for image in images], 2e-4)


@pytest.mark.parametrize(
    'family, name',
    [
        *itertools.product(['resnet', 'fb'], ['single_224', 'single_320', 'ten_crop_full']),
        *itertools.product(['resnet', 'alexnet'], ['ten_crop_square', 'ten_crop_cross']),
        ('alexnet', 'single_227_square'),
    ],
)
def test_a_protocol_has_the_pixels_of_each_family(family, name):
    """ResNet's own mean under every crop; AlexNet's center; fb's middle, and its crops of the mirrored photograph."""
    pixels, images = FAMILIES[family][1], PHOTOGRAPHS[:2]
    agree(scored(member_of(family, name), images), [PROTOCOLS[name](image, pixels) for image in images], 2e-4)


@pytest.mark.parametrize(
    'family, default, alias',
    [
        ('zfnet', 'single_224_square', ''),
        ('resnet', 'single_224', 'center'),
        ('fb', 'single_224', 'centre'),
        ('alexnet', 'single_227_square', ''),
    ],
)
def test_one_crop_is_the_same_by_default_by_name_and_by_alias(family, default, alias):
    """To the bit. The pixels are also those of the test in training, one view cut by itself."""
    by_default, by_name = member_of(family, 'single'), member_of(family, default)
    assert by_default.protocol == by_name.protocol and by_default.protocol.name == default
    expected = scored(by_default, PHOTOGRAPHS)
    for name in filter(None, (default, alias)):
        agree(scored(member_of(family, name), PHOTOGRAPHS), expected, 0)
    config, measured = FAMILIES[family][0]()
    form = Pixels(config).test_form
    preprocess = Pixels(config, measured).test
    for image, there in zip(PHOTOGRAPHS, expected, strict=True):
        crop, place = loader.prepare_image(image, form)
        x = np.asarray(preprocess({'image': crop[None], 'offset': np.array([place], np.int32)}))[0]
        x = np.float64(x) * FAMILIES[family][1].unit
        np.testing.assert_allclose(softmax(scores(x)), there, atol=2e-4)


def test_aliases_are_other_names_of_the_same():
    for alias, name in protocols.ALIASES.items():
        assert str(protocols.create(alias)) == str(protocols.create(name)) or alias in (
            'multicrop',
            'dense',
            'googlenet',
        )
        assert protocols.create(alias).name == protocols.create(name).name


@pytest.mark.parametrize('name', ['single_224', 'single_224_square', 'ten_crop_full', 'googlenet_144:64'])
@pytest.mark.parametrize('family', ['zfnet', 'resnet', 'fb'])
def test_views_of_a_photograph_too_large_to_be_resized_have_their_exact_places(family, name, monkeypatch):
    """Cut one by one, they differ by rounding; another place of the mean image or of the view differs by far more."""
    images = few(name)[:2]
    member = member_of(family, name)
    whole = scored(member, images)
    monkeypatch.setattr(crops, 'MAX_RESIZED_PIXELS', 0)
    one_by_one = scored(member, images)
    agree(one_by_one, whole, 4e-3)


@pytest.mark.parametrize('shape', SHAPES)
def test_boxes_are_cut_from_a_canvas_alone_and_in_stacks_alike(shape):
    """The items of one crop, of ten and of photographs too large hold the same pixels, where nothing is resized."""
    image = photograph(*(max(256, side) for side in shape))  # a short side of 256 as it is
    square = image[:256, :256]
    found = []
    for name, most in (('single_224', 2**24), ('ten_crop_full', 2**24), ('single_224', 0), ('ten_crop_full', 0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(crops, 'MAX_RESIZED_PIXELS', most)
            ((_, item),) = scoring.Scorer([member_of('zfnet', name)], 1, 4, jax.device_put).items(square)
        top, left = item.boxes[-1, 0]
        found.append((item.pixels[top : top + 224, left : left + 224], item.places[-1, 0].tolist()))
    for pixels, place in found:
        np.testing.assert_array_equal(pixels, square[16:240, 16:240])
        assert place == [16, 16]


def test_the_lectures_alexnet_is_tested_as_it_was_trained():
    """What docs/lecture.md prescribes for each recipe resizes photographs as that recipe does."""
    text = (ROOT / 'docs' / 'lecture.md').read_text()
    told = re.findall(r'`configs/(\w+)\.py:lecture` \|.*test it with `--protocol ([\w:]+)`', text)
    assert ('alexnet', 'ten_crop_cross_warped:227') in told
    for name, protocol in told:
        config = listing.load(f'{name}:lecture')
        for scale in protocols.create(protocol).scales:
            for crop in (config.crop, config.test_crop):
                assert (scale.warp, scale.square) == (crop.warp, crop.square)


@pytest.mark.parametrize(
    'pool, windows',
    [
        ('ceil', {224: 1, 256: 2, 384: 6, 480: 9, 640: 14, 577: 12, 961: 24}),
        ('padded', {224: 1, 256: 2, 384: 6, 480: 9, 640: 14, 577: 13, 961: 25}),
    ],
)
def test_resnets_windows(pool, windows):
    """By Caffe's arithmetic, and torchvision's: convolutions round down, Caffe's pooling up."""
    for side, count in windows.items():
        conv1 = (side + 2 * 3 - 7) // 2 + 1
        pool1 = -(-(conv1 - 3) // 2) + 1 if pool == 'ceil' else (conv1 + 2 - 3) // 2 + 1
        conv5 = pool1
        for _ in range(3):
            conv5 = (conv5 - 1) // 2 + 1
        assert conv5 - 7 + 1 == count
    model = architectures.create('resnet18', num_classes=2, stem_pool=pool)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), 'float32'))
    for height, width in ((480, 577), (640, 961)):
        image = jax.ShapeDtypeStruct((1, height, width, 3), 'float32')
        maps = jax.eval_shape(functools.partial(model.apply, dense=True), variables, image)
        assert maps.shape == (1, windows[height], windows[width], 2)


def test_the_complete_map_is_one_view():
    """SPP-net's full-image views, of photographs of any shape: one vector of scores."""
    model = architectures.create('prelu_net_a', num_classes=3)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 224, 224, 3), 'float32'))
    for height, width in ((224, 224), (256, 341), (614, 256)):
        image = jax.ShapeDtypeStruct((1, height, width, 3), 'float32')
        maps = jax.eval_shape(functools.partial(model.apply, dense='whole'), variables, image)
        assert maps.shape == (1, 1, 1, 3)
