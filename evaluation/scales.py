"""How one scale of a protocol looks at images: `Whole`, `Crops` and `Dense`, three kinds with one interface.

    kind.items(image, resized)           uint8 [H, W, C] -> `Item`s: pixels, and the boxes that are cut from them
    kind.capacity(item, crops, dense)    how many such items go through the network at a time
    kind.views(item)                     how many views the mean of an item is of
    kind.means(pixels, boxes, places)    a stack of items -> the mean scores of each [M, K], on the device

`create` makes the kinds of a member, which share its jitted programs. The network is a program of its own: it is
compiled once for all scales whose crops have one size, and what XLA would fuse into it costs it up to half its speed on
CPU.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from architectures import layers
from input_pipeline import crops, geometry, loader
from runtime.errors import UserError

_CANVAS = 128  # pixels that the sides of a canvas are multiples of


class Item(NamedTuple):
    """Pixels that go through a network together with others of the same shape and number of boxes.

    Fields:
      pixels: uint8 [h, w, C].
      boxes: int32 [V, F, 2], (top, left) of each view in the pixels; F is 2 where the protocol flips, the second box
        that of the view to be mirrored.
      places: int32 [V, F, 2], (top, left) of each in the square that a mean image is of; see `crops.View.mean_offset`.
      share: of the mean of these views in the image's sum; None: the number of views.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    places: np.ndarray
    share: float | None = None


class Average(NamedTuple):
    """What is averaged over the views of an image.

    Fields:
      of: scores [..., K] -> the quantity.
      mean: (quantities, axes) -> their mean.
    """

    of: Callable
    mean: Callable


def _log_mean(values, axes):
    """The logarithm of the mean of what `values` are the logarithms of."""
    count = math.prod(values.shape[axis] for axis in axes)
    return jax.nn.logsumexp(values, axes) - math.log(count)


AVERAGES = {'softmax': Average(jax.nn.log_softmax, _log_mean), 'logits': Average(lambda x: x, jnp.mean)}


# Reductions of a dense pass's map of class scores [B, H, W, K]: (mean [B, K], number of views)


def _space_first(scores, average):
    return average.of(jnp.mean(scores, (1, 2))), 1


def _softmax_first(scores, average):
    return average.mean(average.of(scores), (1, 2)), scores.shape[1] * scores.shape[2]


def _max(scores, average):
    return jnp.max(average.of(scores), (1, 2)), 1


def _nine_windows(scores, average):
    """The corners, the middles of the sides and the middle, each once: a short side of 224 has one window, not three.

    He et al. 2014, section 3.1.5, cut nine views of 224 pixels and map each to cells of the last map. Here a view is
    a window of the training size that starts within a cell of it.
    """
    rows, columns = ({0, (side - 1) // 2, side - 1} for side in scores.shape[1:3])
    chosen = average.of(scores)[:, sorted(rows)][:, :, sorted(columns)]
    return average.mean(chosen, (1, 2)), len(rows) * len(columns)


REDUCTIONS = {
    'space_first': _space_first,
    'softmax_first': _softmax_first,
    'max': _max,
    'nine_windows': _nine_windows,
}


# The kinds


class _Programs:
    """What all scales of a member run, jitted."""

    def __init__(self, member):
        protocol, pixels = member.protocol, member.pixels
        self.flips, self.average = 2 if protocol.flip else 1, AVERAGES[protocol.average]
        size = protocol.size or pixels.size
        self.variables, self.ran = member.variables, set()  # (reading, shape of the images) of the network's programs

        def cut(image, box):
            return lax.dynamic_slice(image, (box[0], box[1], 0), (size, size, image.shape[2]))

        @self._jitted
        def crops_of(canvases, boxes, places):
            boxes = boxes.reshape(len(canvases), -1, 2)
            views = jax.vmap(lambda image, some: jax.vmap(functools.partial(cut, image))(some))(canvases, boxes)
            images = pixels.test({'image': views.reshape(-1, *views.shape[2:]), 'offset': places.reshape(-1, 2)})
            pairs = images.reshape(-1, self.flips, *images.shape[1:])
            return pairs.at[:, 1:].set(pairs[:, 1:, :, ::-1]).reshape(images.shape)

        @self._jitted
        def photographs(canvases, boxes, places):
            images = pixels.test_any_size({'image': canvases, 'offset': places[:, 0, 0]})
            pairs = [images, images[:, :, ::-1]][: self.flips]
            return jnp.stack(pairs, 1).reshape(-1, *images.shape[1:])

        @functools.cache
        def network(reading):
            """(variables, images) -> float32 scores: [B, K] of crops (None), maps [B, H, W, K] of a dense reading."""
            dense = {} if reading is None else {'dense': reading}
            return self._jitted(lambda variables, x: member.model.apply(variables, x, **dense).astype(jnp.float32))

        @functools.partial(self._jitted, static_argnums=1)
        def mean(scores, views):
            means = self.of_mirrors(self.average.of(scores))
            return self.average.mean(means.reshape(-1, views, means.shape[-1]), (1,))

        @functools.partial(self._jitted, static_argnums=1)
        def mean_of_maps(scores, reduce):
            return self.of_mirrors(REDUCTIONS[reduce](scores, self.average)[0])

        self.crops_of, self.photographs, self.network = crops_of, photographs, network
        self.mean, self.mean_of_maps = mean, mean_of_maps

    @staticmethod
    def _jitted(function, **options):
        return jax.jit(function, compiler_options=layers.compiler_options(), **options)

    def of_mirrors(self, values):
        """The mean of each image's values and those of its mirror image."""
        return self.average.mean(values.reshape(-1, self.flips, *values.shape[1:]), (1,))

    def scores(self, images, reading=None):
        """The network's."""
        self.ran.add((reading, images.shape))
        return self.network(reading)(self.variables, images)


class Whole:
    """Each image once, as the config's own test crop and `fit` make it."""

    def __init__(self, member, scale, programs):
        self.member, self.scale, self.programs = member, scale, programs

    def items(self, image, resized):
        """One item: the image in the network's size."""
        pixels, place = loader.prepare_image(image, self.member.pixels.test_form)
        return [_item(pixels, [[(0, 0)]], [[place]])]

    def capacity(self, item, crops, dense):
        """So many that their views are a batch."""
        return max(1, crops // self.views(item))

    def views(self, item):
        """The boxes and their mirror images."""
        return item.boxes.shape[0] * self.programs.flips

    def means(self, pixels, boxes, places):
        """Cuts, mirrors, scores and averages the boxes of each item."""
        images = self.programs.crops_of(pixels, boxes, places)
        return self.programs.mean(self.programs.scores(images), boxes.shape[1])


class Crops(Whole):
    """Boxes of the photograph, resized: on a canvas, or stacked where their sides are not the crop's."""

    def items(self, image, resized):
        """An item with all boxes that are cut from one canvas, another with those that are resized one by one."""
        scale, protocol, pixels = self.scale, self.member.protocol, self.member.pixels
        crop, size = pixels.test_crop, protocol.size
        grid, kept = crops.crop_grid(*image.shape[:2], scale.short_side, scale.square, scale.warp, crop.truncate)
        if min(*kept[2:]) < size:
            raise UserError(f'{protocol.name}: a crop of {size} does not fit a side of {scale.short_side}')
        boxes = scale.boxes(*kept[2:], size, crops.CENTER_OFFSETS[crop.center_rounds])
        photograph = None
        if grid[0] * grid[1] <= crops.MAX_RESIZED_PIXELS:
            photograph = _resized(image, grid, crop, resized)
            photograph = photograph[kept[0] : kept[0] + kept[2], kept[1] : kept[1] + kept[3]]

        def window(top, left, side):
            """What is in a box, [size, size, C]."""
            if photograph is not None:
                part = photograph[top : top + side, left : left + side]
            else:  # too large to be resized as a whole
                rows, columns = image.shape[0] / grid[0], image.shape[1] / grid[1]
                corner = (kept[0] + top) * rows, (kept[1] + left) * columns
                view = crops.View((*corner, side * rows, side * columns), side, _filter(crop, image, grid))
                part = crops.extract(image, view)
            return geometry.resize(part, size, size, crops.filter_of(crop.filter, size / side))

        # The programs that cut about another middle than Caffe's mirror the photograph, and cut their boxes of that.
        of_mirrored = crop.center_rounds != 'down'
        views = []
        for top, left, side in boxes:
            other = kept[3] - side - left if of_mirrored else left
            views.append([(top, left, side), (top, other, side)] if protocol.flip else [(top, left, side)])
        mean_image = pixels.mean_image
        square = crops.central_square(*kept[2:], scale.short_side if mean_image is None else len(mean_image))

        def place(top, left, side):  # of another side: that of the view about the same middle
            more = (side - size) // 2
            return top + more - square[0], left + more - square[1]

        def item(pixels, some, where):
            share = None if scale.weight is None else scale.weight * len(some) / len(views)
            spots = [[where(*box) for box in view] for view in some]
            return _item(pixels, spots, [[place(*box) for box in view] for view in some], share)

        def stacked(some):
            rows = {box: size * row for row, box in enumerate(dict.fromkeys(box for view in some for box in view))}
            return item(np.concatenate([window(*box) for box in rows]), some, lambda *box: (rows[box], 0))

        if photograph is None or len(views) == 1:
            return [stacked(views)]
        own, other = ([view for view in views if (view[0][2] == size) == same] for same in (True, False))
        items = [item(_on_canvas(photograph), own, lambda top, left, side: (top, left))] if own else []
        return items + ([stacked(other)] if other else [])


class Dense:
    """The whole photograph, resized; the network's map of scores is reduced to their mean."""

    def __init__(self, member, scale, programs):
        self.member, self.scale, self.programs = member, scale, programs
        self._counts = {}  # shape of the pixels: views

    def items(self, image, resized):
        """One item: the photograph, or the middle part that the scale keeps."""
        crop, scale = self.member.pixels.test_crop, self.scale
        grid, _ = crops.crop_grid(*image.shape[:2], scale.short_side, truncate=crop.truncate)
        if grid[0] * grid[1] > crops.MAX_RESIZED_PIXELS:
            raise ValueError(f'is {image.shape[0]}x{image.shape[1]}, too long for a dense pass')
        photograph = _resized(image, grid, crop, resized)
        if scale.fit:
            height, width = scale.fit(*grid)
            top, left = (grid[0] - height) // 2, (grid[1] - width) // 2
            photograph = photograph[top : top + height, left : left + width]
        return [_item(photograph, [[(0, 0)]], [[(0, 0)]], scale.weight)]

    def capacity(self, item, crops, dense):
        """The photographs of a dense batch."""
        return dense

    def views(self, item):
        """The windows that the reduction counts, and their mirror images."""
        shape = item.pixels.shape
        if shape not in self._counts:
            image = jax.ShapeDtypeStruct((1, *shape), 'float32')
            maps = jax.eval_shape(self.programs.network(self.scale.reading), self.member.variables, image)
            reduce, average, counted = REDUCTIONS[self.scale.reduce], AVERAGES['logits'], []
            jax.eval_shape(lambda scores: counted.append(reduce(scores, average)[1]), maps)
            self._counts[shape] = counted[0]
        return self._counts[shape] * self.programs.flips

    def means(self, pixels, boxes, places):
        """Scores each photograph and its mirror image, and reduces the maps."""
        images = self.programs.photographs(pixels, boxes, places)
        return self.programs.mean_of_maps(self.programs.scores(images, self.scale.reading), self.scale.reduce)


def create(member):
    """(the kinds of a member's scales, in their order; the programs that they share)."""
    programs = _Programs(member)
    kinds = [Whole if scale.short_side == 0 else Crops if scale.boxes else Dense for scale in member.protocol.scales]
    return [kind(member, scale, programs) for kind, scale in zip(kinds, member.protocol.scales, strict=True)], programs


def _resized(image, grid, crop, resized):
    """The photograph in the size of a grid, once for all who want it."""
    filter = _filter(crop, image, grid)
    key = (*grid, filter, image.shape[2])
    if key not in resized:
        resized[key] = geometry.resize(image, *grid, filter)
    return resized[key]


def _filter(crop, image, grid):
    return crops.filter_of(crop.filter, grid[0] / image.shape[0])


def _item(pixels, boxes, places, share=None):
    """The `Item` of some views: [V][F] tuples of (top, left)."""
    return Item(pixels, np.array(boxes, np.int32), np.array(places, np.int32), share)


def _on_canvas(photograph):
    """Zeros at the bottom and right, up to sides that are multiples of _CANVAS."""
    more = [-side % _CANVAS for side in photograph.shape[:2]]
    return np.pad(photograph, [(0, more[0]), (0, more[1]), (0, 0)])
