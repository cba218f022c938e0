"""One scale of a protocol: `Single`, `Crops` and `Dense`, three kinds with one interface.

    kind.items(image, resized)           uint8 [H, W, C] -> `Item`s: pixels, and the boxes to cut from them
    kind.capacity(item, crops, dense)    number of such items in a batch
    kind.views(item)                     number of views that the mean of an item averages
    kind.means(pixels, boxes, places)    a stack of items -> the mean scores of each [M, K], on the device

`create` builds the kinds of a member, which share its jitted programs. The network is a separate program: it is
compiled once for all scales with the same crop size, and operations that XLA would fuse into it cost it up to half its
speed on CPU.
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

_CANVAS = 128  # the sides of a canvas are multiples of this many pixels


class Item(NamedTuple):
    """Pixels of one image, batched with others that have the same shape and number of boxes.

    Fields:
      pixels: uint8 [h, w, C].
      boxes: int32 [V, F, 2], (top, left) of each view in the pixels; F is 2 if the protocol flips, and the second box
        is that of the mirrored view.
      places: int32 [V, F, 2], (top, left) of each view in the square of the mean image; see `crops.View.mean_offset`.
      share: weight of the mean of these views in the image's sum; None for the number of views.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    places: np.ndarray
    share: float | None = None


class Average(NamedTuple):
    """The quantity that is averaged over the views of an image.

    Fields:
      of: function from scores [..., K] to the quantity.
      mean: function from (quantities, axes) to their mean.
    """

    of: Callable
    mean: Callable


def _log_mean(values, axes):
    """Return log(mean(exp(values)))."""
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
    """Average the corners, the middles of the sides and the center, each once: a side of 224 has one window, not three.

    He et al. 2014, section 3.1.5, cut nine views of 224 pixels and map each to cells of the last map. Here a view is
    a window of the training size that starts within one cell of theirs.
    """
    rows, columns = ({0, (side - 1) // 2, side - 1} for side in scores.shape[1:3])
    windows = average.of(scores)[:, sorted(rows)][:, :, sorted(columns)]
    return average.mean(windows, (1, 2)), len(rows) * len(columns)


REDUCTIONS = {
    'space_first': _space_first,
    'softmax_first': _softmax_first,
    'max': _max,
    'nine_windows': _nine_windows,
}


# The kinds


class _Programs:
    """The jitted programs that all scales of a member share."""

    def __init__(self, member):
        protocol, pixels = member.protocol, member.pixels
        self.flips, self.average = 2 if protocol.flip else 1, AVERAGES[protocol.average]
        size = protocol.size or pixels.size
        self.variables = member.variables
        self.ran = set()  # (reading, shape of the images) of each program of the network that was run

        def cut(image, box):
            return lax.dynamic_slice(image, (box[0], box[1], 0), (size, size, image.shape[2]))

        @self._jitted
        def crops_of(canvases, boxes, places):
            boxes = boxes.reshape(len(canvases), -1, 2)
            views = jax.vmap(lambda image, corners: jax.vmap(functools.partial(cut, image))(corners))(canvases, boxes)
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
            """Return (variables, images) -> float32 scores: [B, K] of crops (None), [B, H, W, K] of a dense reading."""
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
        """Return the mean over each image and its mirror image."""
        return self.average.mean(values.reshape(-1, self.flips, *values.shape[1:]), (1,))

    def scores(self, images, reading=None):
        """Return the network's scores for a batch of images."""
        self.ran.add((reading, images.shape))
        return self.network(reading)(self.variables, images)


class Single:
    """Each image once, cropped as the config's test crop and `fit` say."""

    def __init__(self, member, scale, programs):
        self.member, self.scale, self.programs = member, scale, programs

    def items(self, image, resized):
        """Return one item: the image at the network's size."""
        pixels, place = loader.prepare_image(image, self.member.pixels.test_form)
        return [_item(pixels, [[(0, 0)]], [[place]])]

    def capacity(self, item, crops, dense):
        """Return the number of items whose views fill a batch of crops."""
        return max(1, crops // self.views(item))

    def views(self, item):
        """Return the number of boxes, with their mirror images."""
        return item.boxes.shape[0] * self.programs.flips

    def means(self, pixels, boxes, places):
        """Cut, mirror, score and average the boxes of each item."""
        images = self.programs.crops_of(pixels, boxes, places)
        return self.programs.mean(self.programs.scores(images), boxes.shape[1])


class Crops(Single):
    """Boxes cut from the resized photograph on a canvas, or resized and stacked if they differ from the crop's size."""

    def items(self, image, resized):
        """Return an item with the boxes that are cut from one canvas, and one with those that are resized singly."""
        scale, protocol, pixels = self.scale, self.member.protocol, self.member.pixels
        crop, size = pixels.test_crop, protocol.size
        grid, region = crops.crop_grid(*image.shape[:2], scale.short_side, scale.square, scale.warp, crop.truncate)
        if min(*region[2:]) < size:
            raise UserError(f'{protocol.name}: a crop of {size} does not fit a side of {scale.short_side}')
        boxes = scale.boxes(*region[2:], size, crops.CENTER_OFFSETS[crop.center_rounds])
        photograph = None
        if grid[0] * grid[1] <= crops.MAX_RESIZED_PIXELS:
            photograph = _resized(image, grid, crop, resized)
            photograph = photograph[region[0] : region[0] + region[2], region[1] : region[1] + region[3]]

        def window(top, left, side):
            """Return the contents of a box, [size, size, C]."""
            if photograph is not None:
                part = photograph[top : top + side, left : left + side]
            else:  # too large to resize completely
                rows, columns = image.shape[0] / grid[0], image.shape[1] / grid[1]
                corner = (region[0] + top) * rows, (region[1] + left) * columns
                view = crops.View((*corner, side * rows, side * columns), side, _filter(crop, image, grid))
                part = crops.extract(image, view)
            return geometry.resize(part, size, size, crops.filter_of(crop.filter, size / side))

        # Programs that round the center otherwise than Caffe mirror the photograph first, then cut the boxes from it.
        of_mirrored = crop.center_rounds != 'down'
        views = []
        for top, left, side in boxes:
            mirrored = region[3] - side - left if of_mirrored else left
            views.append([(top, left, side), (top, mirrored, side)] if protocol.flip else [(top, left, side)])
        mean_image = pixels.mean_image
        square = crops.central_square(*region[2:], scale.short_side if mean_image is None else len(mean_image))

        def place(top, left, side):  # for a box of another size: the place of a crop with the same center
            more = (side - size) // 2
            return top + more - square[0], left + more - square[1]

        def item(pixels, subset, where):
            share = None if scale.weight is None else scale.weight * len(subset) / len(views)
            corners = [[where(*box) for box in view] for view in subset]
            return _item(pixels, corners, [[place(*box) for box in view] for view in subset], share)

        def stacked(subset):
            rows = {box: size * row for row, box in enumerate(dict.fromkeys(box for view in subset for box in view))}
            return item(np.concatenate([window(*box) for box in rows]), subset, lambda *box: (rows[box], 0))

        if photograph is None or len(views) == 1:
            return [stacked(views)]
        crop_sized, resized_ones = ([view for view in views if (view[0][2] == size) == same] for same in (True, False))
        items = [item(_on_canvas(photograph), crop_sized, lambda top, left, side: (top, left))] if crop_sized else []
        return items + ([stacked(resized_ones)] if resized_ones else [])


class Dense:
    """The whole photograph, resized; the network's map of scores is reduced to one vector."""

    def __init__(self, member, scale, programs):
        self.member, self.scale, self.programs = member, scale, programs
        self._counts = {}  # number of views by shape of the pixels

    def items(self, image, resized):
        """Return one item: the photograph, or the middle part that the scale keeps."""
        crop, scale = self.member.pixels.test_crop, self.scale
        grid, _ = crops.crop_grid(*image.shape[:2], scale.short_side, truncate=crop.truncate)
        if grid[0] * grid[1] > crops.MAX_RESIZED_PIXELS:
            raise ValueError(f'is {image.shape[0]}x{image.shape[1]}, too large for a dense pass')
        photograph = _resized(image, grid, crop, resized)
        if scale.fit:
            height, width = scale.fit(*grid)
            top, left = (grid[0] - height) // 2, (grid[1] - width) // 2
            photograph = photograph[top : top + height, left : left + width]
        return [_item(photograph, [[(0, 0)]], [[(0, 0)]], scale.weight)]

    def capacity(self, item, crops, dense):
        """Return the number of photographs in a dense batch."""
        return dense

    def views(self, item):
        """Return the number of windows that the reduction averages, with their mirror images."""
        shape = item.pixels.shape
        if shape not in self._counts:
            image = jax.ShapeDtypeStruct((1, *shape), 'float32')
            maps = jax.eval_shape(self.programs.network(self.scale.reading), self.member.variables, image)
            reduce, average, counted = REDUCTIONS[self.scale.reduce], AVERAGES['logits'], []
            jax.eval_shape(lambda scores: counted.append(reduce(scores, average)[1]), maps)
            self._counts[shape] = counted[0]
        return self._counts[shape] * self.programs.flips

    def means(self, pixels, boxes, places):
        """Score each photograph and its mirror image, and reduce the maps."""
        images = self.programs.photographs(pixels, boxes, places)
        return self.programs.mean_of_maps(self.programs.scores(images, self.scale.reading), self.scale.reduce)


def create(member):
    """Return (the kinds of a member's scales, in order; the programs that they share)."""
    programs = _Programs(member)
    kinds = [Single if scale.short_side == 0 else Crops if scale.boxes else Dense for scale in member.protocol.scales]
    return [kind(member, scale, programs) for kind, scale in zip(kinds, member.protocol.scales, strict=True)], programs


def _resized(image, grid, crop, resized):
    """Return the photograph resized to a grid, from the cache `resized` if it is there."""
    filter = _filter(crop, image, grid)
    key = (*grid, filter, image.shape[2])
    if key not in resized:
        resized[key] = geometry.resize(image, *grid, filter)
    return resized[key]


def _filter(crop, image, grid):
    return crops.filter_of(crop.filter, grid[0] / image.shape[0])


def _item(pixels, boxes, places, share=None):
    """Return the `Item` of views given as [V][F] tuples of (top, left)."""
    pixels = np.ascontiguousarray(pixels)  # a copy of a part: the photograph is not kept
    return Item(pixels, np.array(boxes, np.int32), np.array(places, np.int32), share)


def _on_canvas(photograph):
    """Pad with zeros at the bottom and right, up to multiples of _CANVAS."""
    padding = [-side % _CANVAS for side in photograph.shape[:2]]
    return np.pad(photograph, [(0, padding[0]), (0, padding[1]), (0, 0)])
