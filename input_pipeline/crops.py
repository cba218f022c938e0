"""Which part of a photograph becomes a training image: each paper's rule, as a function of its size and of chance.

A rule gives a `View`; `cut` carries it out. Where a paper resizes the photograph and then cuts, training computes the
pixels of the cut alone: Pillow's filters read the same pixels for a box as for the whole, and give the same but for
their rounding. A test resizes the whole.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from input_pipeline import geometry
from runtime.errors import UserError, nearest


class Draws:
    """Random numbers of one visit to an example: a pure function of (seed, epoch, example number).

    They come from raw Philox bits, which NumPy promises to keep; its distributions it does not.
    """

    def __init__(self, seed, epoch, index):
        # The counter's third word keeps them apart from the order of the examples, which counts in the first.
        self._raw = np.random.Philox(key=[seed, epoch], counter=[0, 0, index + 1, 0])

    def uniform(self, low=0.0, high=1.0):
        """A float of [low, high)."""
        return low + (high - low) * ((self._raw.random_raw() >> 11) * 2.0**-53)

    def integer(self, low, high):
        """An integer of low..high, both included."""
        return low + int(self.uniform() * (high - low + 1))


class View(NamedTuple):
    """A box of a photograph, (top, left, height, width) in its pixels with fractions, and the size it is resized to.

    `closed`: the box is cut out first, and the filter reads nothing outside it. `offset` is where the view lies in the
    square, or the resized photograph, that it is cut from: (top, left); `square` is where the square that a mean image
    is of lies there. `whole`, for tests: (height', width', top, left), all of the photograph is resized and the view
    sliced from it, which is to the bit what Pillow's users do.
    """

    box: tuple
    size: int
    filter: str
    closed: bool = False
    offset: tuple = (0, 0)
    square: tuple = (0, 0)
    whole: tuple | None = None

    @property
    def place(self):
        """(top, left) of the view in the square that a mean image is of; it may lie outside."""
        return self.offset[0] - self.square[0], self.offset[1] - self.square[1]


MOST_PIXELS = 2**24  # of a photograph resized as a whole; a 20,000 x 10 one would take a gigabyte


def cut(image, view, resized=None):
    """The view of uint8 [H, W, C]: uint8 [size, size, C].

    `resized`: a dict in which photographs resized as a whole are kept, for further views of the same one.
    """
    if view.closed:
        top, left, height, width = view.box
        image = image[top : top + height, left : left + width]
        if view.filter == 'bicubic':
            return geometry.resize_bicubic(image, view.size, view.size)
        return geometry.resize(image, view.size, view.size, view.filter)
    if view.whole and view.whole[0] * view.whole[1] <= MOST_PIXELS:
        *size, top, left = view.whole
        resized, key = {} if resized is None else resized, (*size, view.filter)
        if key not in resized:
            resized[key] = geometry.resize(image, *size, view.filter)
        return resized[key][top : top + view.size, left : left + view.size]
    top, left, height, width = view.box
    if height == width == view.size and top == int(top) and left == int(left):  # nothing to resize
        return image[int(top) : int(top) + view.size, int(left) : int(left) + view.size]
    return geometry.resize(image, view.size, view.size, view.filter, view.box)


def rounded(x):
    """To the nearest integer, halves up: Python's own goes to the even one."""
    return math.floor(x + 0.5)


# Where the middle lies when so many pixels are left over on an axis: each family of programs has its own rule.
MIDDLES = {
    'down': lambda free: free // 2,  # cuda-convnet2, Caffe
    'up': lambda free: -(-free // 2),  # fb.resnet.torch
    'even': lambda free: round(free / 2),  # torchvision: a half goes to the even pixel
}

# From a photograph resized to a short side


def resized(height, width, short_side, square=False, warp=False, truncate=False):
    """The grid that crops are taken from.

    Args:
      height, width: of the photograph.
      short_side: of the resized one.
      square: whether the central square alone is kept (Krizhevsky et al. 2012, section 2).
      warp: whether both sides become `short_side` (Caffe's reference models; the lecture's AlexNet).
      truncate: see `geometry.short_side_size`.

    Returns:
      (height', width') resized, and (top, left, height'', width'') of what is kept of it.
    """
    if warp:
        return (short_side, short_side), (0, 0, short_side, short_side)
    size = geometry.short_side_size(height, width, short_side, truncate)
    if not square:
        return size, (0, 0, *size)
    return size, ((size[0] - short_side) // 2, (size[1] - short_side) // 2, short_side, short_side)


def square_in(height, width, side):
    """(top, left) of the central square of that side in a resized photograph."""
    return (height - side) // 2, (width - side) // 2


def _view(height, width, grid, kept, top, left, size, filter, side, exact=False):
    """The view at (top, left) of what is kept of a resized photograph; mean images are of squares of `side`."""
    rows, columns = height / grid[0], width / grid[1]  # pixels of the photograph a pixel of the grid
    box = ((kept[0] + top) * rows, (kept[1] + left) * columns, size * rows, size * columns)
    if grid == (height, width):
        box = (kept[0] + top, kept[1] + left, size, size)
    whole = (*grid, kept[0] + top, kept[1] + left) if exact else None
    square = square_in(*kept[2:], side)
    return View(box, size, filter_of(filter, grid[0] / height), offset=(top, left), square=square, whole=whole)


def filter_of(name, scale):
    """'cuda_convnet' is its author's choice: cubic to enlarge, area averages to shrink."""
    if name == 'cuda_convnet':
        return 'bicubic' if scale > 1 else 'box'
    return name


def random_crop(height, width, draws, size, short_side=(256, 256), filter='bilinear', ends_only=False, **kept):
    """A crop at a random place of the photograph resized to a short side, itself drawn from [low, high].

    AlexNet: 224 of the 256 square (Krizhevsky et al. 2012, section 4.1). OverFeat: 221 of short side 256 (Sermanet et
    al. 2014, section 3.2). VGG: 224 of S, fixed or of [256, 512] (Simonyan and Zisserman 2014, section 3.1). PReLU-net:
    [256, 512] (He et al. 2015a, section 3). ResNet: [256, 480] (He et al. 2015b, section 3.4). All integers of the
    range are as likely, and all places; with `ends_only` the short side is one of the two ends.
    """
    chosen = short_side[draws.integer(0, 1)] if ends_only else draws.integer(*short_side)
    grid, kept = resized(height, width, chosen, **kept)
    top, left = draws.integer(0, kept[2] - size), draws.integer(0, kept[3] - size)
    return _view(height, width, grid, kept, top, left, size, filter, short_side[0])


def _five_places(kept, size, middle=MIDDLES['down']):
    """(top, left) of crops of what is kept: its corners and its center."""
    rows, columns = kept[2] - size, kept[3] - size
    return (0, 0), (0, columns), (rows, 0), (rows, columns), (middle(rows), middle(columns))


def one_of_five(height, width, draws, size, short_side=(256, 256), filter='bilinear', **kept):
    """A corner or the center: with the flip, ZFNet's ten fixed crops (Zeiler and Fergus 2013, section 3)."""
    grid, kept = resized(height, width, draws.integer(*short_side), **kept)
    place = _five_places(kept, size)[draws.integer(0, 4)]
    return _view(height, width, grid, kept, *place, size, filter, short_side[0])


def center_crop(height, width, draws=None, *, size, short_side=(256, 256), filter='bilinear', **kept):
    """The center of the photograph resized to a short side: the first of each paper's test views.

    `center_rounds`, of `MIDDLES`, is where it lies when an odd number of pixels is left over.
    """
    return five_crops(height, width, size, short_side[0], filter, **kept)[-1]


def five_crops(height, width, size, short_side=256, filter='bilinear', center_rounds='down', **kept):
    """The corners and the center, five views: with their flips AlexNet's ten (Krizhevsky et al. 2012, section 4.1)."""
    grid, kept = resized(height, width, short_side, **kept)
    places = _five_places(kept, size, MIDDLES[center_rounds])
    return [_view(height, width, grid, kept, *place, size, filter, short_side, exact=True) for place in places]


# The area crop


def area_crop(height, width, draws, size, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), form='fb', filter='bicubic'):
    """A box of a random area and shape, resized to the square: GoogLeNet's sampling (Szegedy et al. 2014, section 6).

    The paper gives the area, 8% to 100%, and the shape, 3:4 to 4:3, "chosen randomly". The forms differ in the rest:

    - 'fb' (fb.resnet.torch): width/height uniform, then turned over by a coin, so that wide and tall are as likely; 10
      tries; otherwise the center crop of a short side of `size`.
    - 'torchvision': the logarithm of width/height uniform; 10 tries; otherwise the largest centered box of a shape in
      range.
    - 'inception' (TensorFlow's): width/height uniform, not turned over; at least 10% of the image; 100 tries; otherwise
      the whole image. Its papers' ranges are (0.05, 1) and (0.75, 1.33). TensorFlow's own operation draws the height
      among those that the areas allow, not the area.

    `filter` may be 'random': nearest, box, bilinear or bicubic, each for one image in four (the paper, same section).
    """
    filter = tuple(geometry.FILTERS)[draws.integer(0, 3)] if filter == 'random' else filter
    for _ in range(100 if form == 'inception' else 10):
        pixels = draws.uniform(*area) * height * width
        if form == 'torchvision':
            shape = math.exp(draws.uniform(*map(math.log, aspect)))
        else:
            shape = draws.uniform(*aspect)
        if form == 'fb' and draws.uniform() < 0.5:
            shape = 1 / shape
        wide, tall = rounded(math.sqrt(pixels * shape)), rounded(math.sqrt(pixels / shape))
        fits = 0 < wide <= width and 0 < tall <= height
        if fits and (form != 'inception' or wide * tall >= 0.1 * height * width):
            top, left = draws.integer(0, height - tall), draws.integer(0, width - wide)
            return View((top, left, tall, wide), size, filter, closed=True)
    if form == 'fb':
        fb = {'truncate': True, 'center_rounds': 'up'}  # as that program's own test
        return center_crop(height, width, size=size, short_side=(size, size), filter=filter, **fb)
    tall, wide = height, width
    if form == 'torchvision' and width < aspect[0] * height:
        tall = min(height, max(1, rounded(width / aspect[0])))
    elif form == 'torchvision' and width > aspect[1] * height:
        wide = min(width, max(1, rounded(height * aspect[1])))
    return View(((height - tall) // 2, (width - wide) // 2, tall, wide), size, filter, closed=True)


def whole(height, width, draws=None, *, size, filter='bilinear'):
    """The whole image, its shape not kept."""
    return View((0, 0, height, width), size, filter, closed=True)


# What a config says

SHORT_SIDE = ('short_side', 'filter', 'square', 'warp', 'truncate')
KINDS = {  # a config's word: the rule, and which keys of the config are its arguments
    'whole': (whole, ('filter',)),
    'center': (center_crop, (*SHORT_SIDE, 'center_rounds')),
    'random': (random_crop, (*SHORT_SIDE, 'ends_only')),
    'one_of_five': (one_of_five, SHORT_SIDE),
    'area': (area_crop, ('filter', 'area', 'aspect', 'form')),
}


def rule(size, kind, **values):
    """(height, width, draws) -> View, as a config's values say; those that a kind has no use for are left alone.

    Raises:
      UserError: a value that is out of range; it names the key.
    """
    if kind not in KINDS:
        raise UserError(f'no crop {kind!r}{nearest(kind, KINDS)} There are: {", ".join(KINDS)}.')
    function, keys = KINDS[kind]
    for key, numbers in (('short_side', int), ('area', (int, float)), ('aspect', (int, float))):
        if len(values[key]) != 2 or not all(isinstance(value, numbers) for value in values[key]):
            whole = 'whole numbers ' if numbers is int else ''
            raise UserError(f'{key} must be {whole}(low, high), not {values[key]}')
    low, high = values['short_side']
    if 'short_side' in keys and not size <= low <= high:
        raise UserError(f'short_side must be (low, high), both at least the image_size {size}, not {(low, high)}')
    filters = (*geometry.FILTERS, 'random') if kind == 'area' else (*geometry.FILTERS, 'cuda_convnet')
    choices = {'filter': filters, 'form': ('fb', 'torchvision', 'inception'), 'center_rounds': tuple(MIDDLES)}
    for key, allowed in choices.items():
        if key in keys and values[key] not in allowed:
            raise UserError(f'{key} must be one of {", ".join(allowed)}, not {values[key]!r}')
    for key, most in (('area', 1), ('aspect', math.inf)):
        low, high = values[key]
        if key in keys and not 0 < low <= high <= most:
            raise UserError(
                f'{key} must be (low, high), above 0{f" and at most {most}" * (most == 1)}, not {(low, high)}'
            )
    return functools.partial(function, size=size, **{key: values[key] for key in keys})
