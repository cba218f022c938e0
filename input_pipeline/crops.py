"""Which part of a photograph becomes a training image: each paper's rule, as a function of the size and random draws.

A rule returns a `View`, and `extract` computes its pixels. If a paper resizes the photograph and then crops, training
only computes the pixels of the crop: Pillow's filters read the same pixels for a box as for the whole photograph, and
the results differ only by rounding. Testing resizes the whole photograph.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from input_pipeline import geometry
from runtime.errors import UserError, nearest


class Draws:
    """The random numbers for one example in one epoch: a pure function of (seed, epoch, example number).

    They come from raw Philox bits, which NumPy keeps stable; it does not promise this for its distributions.
    """

    def __init__(self, seed, epoch, index):
        # The index is in the counter's third word; the order of the examples, with the same key, counts in the first.
        self._raw = np.random.Philox(key=[seed, epoch], counter=[0, 0, index + 1, 0])

    def uniform(self, low=0.0, high=1.0):
        """Draw a float from [low, high)."""
        return low + (high - low) * ((self._raw.random_raw() >> 11) * 2.0**-53)

    def integer(self, low, high):
        """Draw an integer from low..high, both included."""
        return low + int(self.uniform() * (high - low + 1))


class View(NamedTuple):
    """A box of a photograph and the size that it is resized to.

    Fields:
      box: (top, left, height, width), in pixels of the photograph with fractions.
      size: side of the resulting square.
      filter: see `geometry.resize`.
      crop_first: crop the box before resizing it, so that the filter reads nothing outside the box.
      offset: (top, left) of the view in the square, or the resized photograph, that it is cropped from.
      square: (top, left), in the same frame, of the square that a mean image covers.
      resize_then_slice: for testing, (height', width', top, left): resize all of the photograph to (height', width')
        and slice the view from it, which is bit for bit what Pillow's users do.
    """

    box: tuple
    size: int
    filter: str
    crop_first: bool = False
    offset: tuple = (0, 0)
    square: tuple = (0, 0)
    resize_then_slice: tuple | None = None

    @property
    def mean_offset(self):
        """The (top, left) of the view in the mean image's square; it may be outside."""
        return self.offset[0] - self.square[0], self.offset[1] - self.square[1]


MAX_RESIZED_PIXELS = 2**24  # of a photograph that is resized as a whole; 20,000 x 10 would take a gigabyte


def extract(image, view, resized=None):
    """Return the pixels of a view of uint8 [H, W, C]: uint8 [size, size, C].

    `resized`: a dict to keep the resized photograph in, for other views of the same photograph.
    """
    if view.crop_first:
        top, left, height, width = view.box
        image = image[top : top + height, left : left + width]
        if view.filter == 'bicubic':
            return geometry.resize_bicubic(image, view.size, view.size)
        return geometry.resize(image, view.size, view.size, view.filter)
    if view.resize_then_slice and view.resize_then_slice[0] * view.resize_then_slice[1] <= MAX_RESIZED_PIXELS:
        *size, top, left = view.resize_then_slice
        resized, key = {} if resized is None else resized, (*size, view.filter)
        if key not in resized:
            resized[key] = geometry.resize(image, *size, view.filter)
        return resized[key][top : top + view.size, left : left + view.size]
    top, left, height, width = view.box
    if height == width == view.size and top == int(top) and left == int(left):  # nothing to resize
        return image[int(top) : int(top) + view.size, int(left) : int(left) + view.size]
    return geometry.resize(image, view.size, view.size, view.filter, view.box)


def round_half_up(x):
    """Round to the nearest integer; Python's `round` rounds halves to even."""
    return math.floor(x + 0.5)


# The offset of the central crop, given the number of pixels left over on an axis. Each family of programs has its rule.
CENTER_OFFSETS = {
    'down': lambda free: free // 2,  # cuda-convnet2, Caffe
    'up': lambda free: -(-free // 2),  # fb.resnet.torch
    'even': lambda free: round(free / 2),  # torchvision rounds halves to the even pixel
}

# Crops of a photograph resized to a short side


def crop_grid(height, width, short_side, square=False, warp=False, truncate=False):
    """Return the size of the resized photograph and the region of it that crops are taken from.

    Args:
      height, width: of the photograph.
      short_side: of the resized photograph.
      square: crop from the central square only (Krizhevsky et al. 2012, section 2).
      warp: resize both sides to `short_side` (Caffe's reference models; the lecture's AlexNet).
      truncate: see `geometry.short_side_size`.

    Returns:
      The resized (height, width), and the region (top, left, height, width) in it.
    """
    if warp:
        return (short_side, short_side), (0, 0, short_side, short_side)
    size = geometry.short_side_size(height, width, short_side, truncate)
    if not square:
        return size, (0, 0, *size)
    return size, ((size[0] - short_side) // 2, (size[1] - short_side) // 2, short_side, short_side)


def central_square(height, width, side):
    """Return the (top, left) of the central square of this side in a resized photograph."""
    return (height - side) // 2, (width - side) // 2


def _view(height, width, grid, region, top, left, size, filter, side, exact=False):
    """Return the view at (top, left) of a region of the resized photograph; mean images are squares of `side`."""
    rows, columns = height / grid[0], width / grid[1]  # pixels of the photograph per pixel of the grid
    box = ((region[0] + top) * rows, (region[1] + left) * columns, size * rows, size * columns)
    if grid == (height, width):
        box = (region[0] + top, region[1] + left, size, size)
    return View(
        box,
        size,
        filter_of(filter, grid[0] / height),
        offset=(top, left),
        square=central_square(*region[2:], side),
        resize_then_slice=(*grid, region[0] + top, region[1] + left) if exact else None,
    )


def filter_of(name, scale):
    """Return the filter to use; 'cuda_convnet' means its author's choice: cubic to enlarge, area averages to shrink."""
    if name == 'cuda_convnet':
        return 'bicubic' if scale > 1 else 'box'
    return name


def random_crop(height, width, draws, size, short_side=(256, 256), filter='bilinear', ends_only=False, **grid_options):
    """A crop at a random position of the photograph, resized to a short side that is drawn from [low, high].

    AlexNet: 224 of the 256 square (Krizhevsky et al. 2012, section 4.1). OverFeat: 221 of short side 256 (Sermanet et
    al. 2014, section 3.2). VGG: 224 of S, fixed or of [256, 512] (Simonyan and Zisserman 2014, section 3.1). PReLU-net:
    [256, 512] (He et al. 2015a, section 3). ResNet: [256, 480] (He et al. 2015b, section 3.4). All integers of the
    range are equally likely, and so are all positions; with `ends_only` the short side is one of the two ends.
    """
    side = short_side[draws.integer(0, 1)] if ends_only else draws.integer(*short_side)
    grid, region = crop_grid(height, width, side, **grid_options)
    top, left = draws.integer(0, region[2] - size), draws.integer(0, region[3] - size)
    return _view(height, width, grid, region, top, left, size, filter, short_side[0])


def _five_positions(region, size, center_offset=CENTER_OFFSETS['down']):
    """Return the (top, left) of the five crops of a region: its corners and its center."""
    rows, columns = region[2] - size, region[3] - size
    return (0, 0), (0, columns), (rows, 0), (rows, columns), (center_offset(rows), center_offset(columns))


def one_of_five(height, width, draws, size, short_side=(256, 256), filter='bilinear', **grid_options):
    """A corner or the center: with the flip, ZFNet's ten fixed crops (Zeiler and Fergus 2013, section 3)."""
    grid, region = crop_grid(height, width, draws.integer(*short_side), **grid_options)
    position = _five_positions(region, size)[draws.integer(0, 4)]
    return _view(height, width, grid, region, *position, size, filter, short_side[0])


def center_crop(height, width, draws=None, *, size, short_side=(256, 256), filter='bilinear', **options):
    """The center of the photograph resized to a short side: the first of each paper's test views.

    `center_rounds`, a key of `CENTER_OFFSETS`, decides when an odd number of pixels is left over.
    """
    return five_crops(height, width, size, short_side[0], filter, **options)[-1]


def five_crops(height, width, size, short_side=256, filter='bilinear', center_rounds='down', **grid_options):
    """The corners and the center, five views: with their flips AlexNet's ten (Krizhevsky et al. 2012, section 4.1)."""
    grid, region = crop_grid(height, width, short_side, **grid_options)
    positions = _five_positions(region, size, CENTER_OFFSETS[center_rounds])
    return [
        _view(height, width, grid, region, *position, size, filter, short_side, exact=True) for position in positions
    ]


# The area crop


def area_crop(height, width, draws, size, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), form='fb', filter='bicubic'):
    """A box of random area and shape, resized to a square: GoogLeNet's sampling (Szegedy et al. 2014, section 6).

    The paper gives the area, 8% to 100%, and the aspect ratio, 3:4 to 4:3, "chosen randomly". The forms differ in the
    rest:

    - 'fb' (fb.resnet.torch): width/height is uniform and inverted with probability 1/2, so that wide and tall boxes are
      equally likely; after 10 attempts that do not fit, the center crop of a short side of `size`.
    - 'torchvision': the logarithm of width/height is uniform; after 10 attempts, the largest centered box with an
      aspect ratio in range.
    - 'inception' (TensorFlow's): width/height is uniform and not inverted; the box is at least 10% of the image; after
      100 attempts, the whole image. Its papers' ranges are (0.05, 1) and (0.75, 1.33). TensorFlow's own operation draws
      the height among those that the areas allow, not the area.

    `filter` may be 'random': nearest, box, bilinear or bicubic with equal probability (the paper, same section).
    """
    filter = tuple(geometry.FILTERS)[draws.integer(0, 3)] if filter == 'random' else filter
    for _ in range(100 if form == 'inception' else 10):
        pixels = draws.uniform(*area) * height * width
        if form == 'torchvision':
            ratio = math.exp(draws.uniform(*map(math.log, aspect)))
        else:
            ratio = draws.uniform(*aspect)
        if form == 'fb' and draws.uniform() < 0.5:
            ratio = 1 / ratio
        box_width, box_height = round_half_up(math.sqrt(pixels * ratio)), round_half_up(math.sqrt(pixels / ratio))
        fits = 0 < box_width <= width and 0 < box_height <= height
        if fits and (form != 'inception' or box_width * box_height >= 0.1 * height * width):
            top, left = draws.integer(0, height - box_height), draws.integer(0, width - box_width)
            return View((top, left, box_height, box_width), size, filter, crop_first=True)
    if form == 'fb':
        fb = {'truncate': True, 'center_rounds': 'up'}  # as in that program's test
        return center_crop(height, width, size=size, short_side=(size, size), filter=filter, **fb)
    box_height, box_width = height, width
    if form == 'torchvision' and width < aspect[0] * height:
        box_height = min(height, max(1, round_half_up(width / aspect[0])))
    elif form == 'torchvision' and width > aspect[1] * height:
        box_width = min(width, max(1, round_half_up(height * aspect[1])))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    return View((top, left, box_height, box_width), size, filter, crop_first=True)


def whole_image(height, width, draws=None, *, size, filter='bilinear'):
    """The whole image, resized to a square; the aspect ratio is not kept."""
    return View((0, 0, height, width), size, filter, crop_first=True)


# From a config to a rule

SHORT_SIDE = ('short_side', 'filter', 'square', 'warp', 'truncate')
KINDS = {  # a config's `crop.kind`: the rule, and which keys of the config are its arguments
    'whole': (whole_image, ('filter',)),
    'center': (center_crop, (*SHORT_SIDE, 'center_rounds')),
    'random': (random_crop, (*SHORT_SIDE, 'ends_only')),
    'one_of_five': (one_of_five, SHORT_SIDE),
    'area': (area_crop, ('filter', 'area', 'aspect', 'form')),
}


def rule(size, kind, **values):
    """Return the function (height, width, draws) -> `View` for a config's values; keys that do not apply are ignored.

    Raises:
      UserError: a value is out of range; the message names the key.
    """
    if kind not in KINDS:
        raise UserError(f'no crop {kind!r}{nearest(kind, KINDS)} There are: {", ".join(KINDS)}.')
    function, keys = KINDS[kind]
    for key, numbers in (('short_side', int), ('area', (int, float)), ('aspect', (int, float))):
        if len(values[key]) != 2 or not all(isinstance(value, numbers) for value in values[key]):
            integers = 'integers ' if numbers is int else ''
            raise UserError(f'{key} must be {integers}(low, high), not {values[key]}')
    low, high = values['short_side']
    if 'short_side' in keys and not size <= low <= high:
        raise UserError(f'short_side must be (low, high), both at least the image_size {size}, not {(low, high)}')
    filters = (*geometry.FILTERS, 'random') if kind == 'area' else (*geometry.FILTERS, 'cuda_convnet')
    choices = {'filter': filters, 'form': ('fb', 'torchvision', 'inception'), 'center_rounds': tuple(CENTER_OFFSETS)}
    for key, allowed in choices.items():
        if key in keys and values[key] not in allowed:
            raise UserError(f'{key} must be one of {", ".join(allowed)}, not {values[key]!r}')
    for key, upper in (('area', 1), ('aspect', math.inf)):
        low, high = values[key]
        if key in keys and not 0 < low <= high <= upper:
            raise UserError(
                f'{key} must be (low, high), above 0{f" and at most {upper}" * (upper == 1)}, not {(low, high)}'
            )
    return functools.partial(function, size=size, **{key: values[key] for key in keys})
