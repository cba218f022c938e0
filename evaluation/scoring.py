"""What a protocol's views of an image score: from photographs to a vector of classes' log-probabilities each.

An image is decoded once and resized once a scale, whoever looks at it: all views, all members of an ensemble. Crops are
cut on the device from the resized photograph, which is put on a canvas of one of a handful of sizes; a dense pass takes
the photograph as it is. Images of the same size go through the network together; each size is compiled once.

Means of probabilities are taken of their logarithms: two classes of probability 1e-50 and 1e-60 stay apart.
"""

import collections
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from architectures import layers
from evaluation.protocols import Protocol
from input_pipeline import crops, geometry, loader
from input_pipeline.pixels import Pixels
from runtime.errors import UserError

_CANVAS = 128  # pixels that the sides of a canvas are multiples of
_IN_FLIGHT = 3  # batches that the device may have before it; a CPU runs them side by side, and each slower for it
_WAITING_BYTES = 2**30  # of pixels that wait for more of their size


class Member(NamedTuple):
    """A network of an ensemble, or the only one.

    Fields:
      model, variables: the network.
      config: what it was trained by.
      protocol: how it looks at images.
      pixels: how images become what it takes.
      weight: of its probabilities in the ensemble's.
      class_names: those of its outputs (`input_pipeline.classes.told`), None where an older checkpoint does not tell.
    """

    model: object
    variables: dict
    config: object
    protocol: Protocol
    pixels: Pixels
    weight: float = 1.0
    class_names: tuple | None = None


class _Item(NamedTuple):
    """What goes through a network together with others of the same `key`.

    Fields:
      key: (member, scale, kind, shape of the pixels, number of boxes).
      pixels: uint8 [h, w, C].
      boxes: int32 [V, F, 2], (top, left) of each view in the pixels; F is 2 where the protocol flips, the second box
        that of the view to be mirrored.
      places: int32 [V, F, 2], (top, left) of each in the square that a mean image is of; see `crops.View.place`.
      share: of the mean of these views in the image's sum; None: the number of views.
    """

    key: tuple
    pixels: np.ndarray
    boxes: np.ndarray
    places: np.ndarray
    share: float | None


class _Functions(NamedTuple):
    """What runs of a member.

    Fields:
      look: by kind, (pixels [M, h, w, C], boxes, places [M, V, F, 2]) -> images [M V F, ...].
      network: by reading, (variables, images) -> scores, float32; None is that of crops.
      reduce: by kind, for each scale (scores, V) -> their mean [M, K].
    """

    look: dict
    network: dict
    reduce: dict


class _Average(NamedTuple):
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


AVERAGES = {'softmax': _Average(jax.nn.log_softmax, _log_mean), 'logits': _Average(lambda x: x, jnp.mean)}


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


class Scorer:
    """Runs images through the members; `log_probabilities` is its door."""

    def __init__(self, members, mesh_size, batch_size, place, dense_batch=1):
        """Members; the number of devices; the crops that go through a network at a time; a batch's device_put."""
        self.members, self.place = members, place
        self.batch_size, self.dense_batch, self.mesh_size = batch_size, dense_batch, mesh_size
        self.programs = set()  # (member, reading, shape of the images): the networks' programs that were compiled
        self._functions = [self._functions_of(member) for member in members]

    # On the host

    def items(self, image):
        """The items of uint8 [H, W, C] for all members."""
        resized, found = {}, []
        for number, member in enumerate(self.members):
            channels = geometry.match_channels(image, member.pixels.channels)
            for place, scale in enumerate(member.protocol.scales):
                make = self._whole if scale.short_side == 0 else self._crops if scale.boxes else self._dense
                found += make((number, place), member, scale, channels, resized)
        return found

    def _whole(self, key, member, scale, image, resized):
        pixels, place = loader.prepare_image(image, member.pixels.test_form)
        return [_item(key, 'crops', pixels, [[(0, 0)]], [[place]])]

    def _crops(self, key, member, scale, image, resized):
        crop, protocol, size = member.pixels.test_crop, member.protocol, member.protocol.size
        grid, kept = crops.resized(*image.shape[:2], scale.short_side, scale.square, scale.warp, crop.truncate)
        if min(*kept[2:]) < size:
            raise UserError(f'{protocol.name}: a crop of {size} does not fit a side of {scale.short_side}')
        boxes = scale.boxes(*kept[2:], size, crops.MIDDLES[crop.center_rounds])
        if grid[0] * grid[1] <= crops.MOST_PIXELS:
            photograph = self._resized(image, grid, crop, resized)
            photograph = photograph[kept[0] : kept[0] + kept[2], kept[1] : kept[1] + kept[3]]
        else:
            photograph = None

        def window(top, left, side):
            """What is in a box, [size, size, C]."""
            if photograph is not None:
                part = photograph[top : top + side, left : left + side]
            else:  # too large to be resized as a whole
                rows, columns = image.shape[0] / grid[0], image.shape[1] / grid[1]
                corner = (kept[0] + top) * rows, (kept[1] + left) * columns
                view = crops.View((*corner, side * rows, side * columns), side, self._filter(crop, image, grid))
                part = crops.cut(image, view)
            return geometry.resize(part, size, size, crops.filter_of(crop.filter, size / side))

        # The programs that cut about another middle than Caffe's mirror the photograph, and cut their boxes of that.
        of_mirrored = crop.center_rounds != 'down'
        views = []
        for top, left, side in boxes:
            other = kept[3] - side - left if of_mirrored else left
            views.append([(top, left, side), (top, other, side)] if protocol.flip else [(top, left, side)])
        mean_image = member.pixels.mean_image
        square = crops.square_in(*kept[2:], scale.short_side if mean_image is None else len(mean_image))

        def place(top, left, side):  # of another side: that of the view about the same middle
            more = (side - size) // 2
            return top + more - square[0], left + more - square[1]

        def item(pixels, some, where):
            share = None if scale.weight is None else scale.weight * len(some) / len(views)
            spots = [[where(*box) for box in view] for view in some]
            return _item(key, 'crops', pixels, spots, [[place(*box) for box in view] for view in some], share)

        def stacked(some):
            rows = {box: size * row for row, box in enumerate(dict.fromkeys(box for view in some for box in view))}
            return item(np.concatenate([window(*box) for box in rows]), some, lambda *box: (rows[box], 0))

        if photograph is None or len(views) == 1:
            return [stacked(views)]
        own, other = ([view for view in views if (view[0][2] == size) == same] for same in (True, False))
        found = [item(_on_canvas(photograph), own, lambda top, left, side: (top, left))] if own else []
        return found + ([stacked(other)] if other else [])

    def _dense(self, key, member, scale, image, resized):
        crop = member.pixels.test_crop
        grid, _ = crops.resized(*image.shape[:2], scale.short_side, truncate=crop.truncate)
        if grid[0] * grid[1] > crops.MOST_PIXELS:
            raise ValueError(f'is {image.shape[0]}x{image.shape[1]}, too long for a dense pass')
        photograph = self._resized(image, grid, crop, resized)
        if scale.fit:
            height, width = scale.fit(*grid)
            top, left = (grid[0] - height) // 2, (grid[1] - width) // 2
            photograph = photograph[top : top + height, left : left + width]
        return [_item(key, 'dense', photograph, [[(0, 0)]], [[(0, 0)]], scale.weight)]

    def _resized(self, image, grid, crop, resized):
        """The photograph in the size of a grid, once for all who want it."""
        filter = self._filter(crop, image, grid)
        key = (*grid, filter, image.shape[2])
        if key not in resized:
            resized[key] = geometry.resize(image, *grid, filter)
        return resized[key]

    def _filter(self, crop, image, grid):
        return crops.filter_of(crop.filter, grid[0] / image.shape[0])

    # On the device

    def _functions_of(self, member):
        """What runs of a member, jitted.

        The network is a program of its own: it is compiled once for all scales whose crops have one size, and what XLA
        would fuse into it costs it up to half its speed on CPU.
        """
        pixels, protocol = member.pixels, member.protocol
        average, flips = AVERAGES[protocol.average], 2 if protocol.flip else 1

        def crops_of(canvas, boxes, places):
            size = protocol.size or pixels.size

            def cut(image, box):
                return lax.dynamic_slice(image, (box[0], box[1], 0), (size, size, image.shape[2]))

            boxes = boxes.reshape(len(canvas), -1, 2)
            views = jax.vmap(lambda image, some: jax.vmap(functools.partial(cut, image))(some))(canvas, boxes)
            images = pixels.test({'image': views.reshape(-1, *views.shape[2:]), 'offset': places.reshape(-1, 2)})
            pairs = images.reshape(-1, flips, *images.shape[1:])
            return pairs.at[:, 1:].set(pairs[:, 1:, :, ::-1]).reshape(images.shape)

        def dense(photographs, boxes, places):
            images = pixels.test_any_size({'image': photographs, 'offset': places[:, 0, 0]})
            pairs = [images, images[:, :, ::-1]][:flips]
            return jnp.stack(pairs, 1).reshape(-1, *images.shape[1:])

        def scores(variables, images, **reading):
            return member.model.apply(variables, images, **reading).astype(jnp.float32)

        def mean_of_mirrors(values):
            return average.mean(values.reshape(-1, flips, *values.shape[1:]), (1,))

        def mean(found, views):
            found = mean_of_mirrors(average.of(found))
            return average.mean(found.reshape(-1, views, found.shape[-1]), (1,))

        def mean_of_maps(found, views, reduce):
            return mean_of_mirrors(REDUCTIONS[reduce](found, average)[0])

        def jitted(function, **options):
            return jax.jit(function, compiler_options=layers.compiler_options(), **options)

        reduce = {'crops': (jitted(mean, static_argnums=1),) * len(protocol.scales)}
        reduce['dense'] = [
            jitted(functools.partial(mean_of_maps, reduce=scale.reduce), static_argnums=1) for scale in protocol.scales
        ]
        readings = {scale.reading for scale in protocol.scales if not scale.boxes and scale.short_side}
        network = {reading: jitted(functools.partial(scores, dense=reading)) for reading in readings}
        return _Functions(
            {'crops': jitted(crops_of), 'dense': jitted(dense)},
            {None: jitted(scores), **network},
            reduce,
        )

    def capacity(self, key):
        """How many images with this key go through at a time."""
        number, _, kind, _, boxes = key
        flips = 2 if self.members[number].protocol.flip else 1
        wanted = self.dense_batch if kind == 'dense' else max(1, self.batch_size // (boxes * flips))
        return -(-wanted // self.mesh_size) * self.mesh_size

    def run(self, key, items):
        """The mean scores [number of items, K] of items of one key, on the device."""
        number, place, kind, *_ = key
        missing = self.capacity(key) - len(items)
        columns = zip(*((item.pixels, item.boxes, item.places) for item in items), strict=True)
        arrays = [np.stack(column + (np.zeros_like(column[0]),) * missing) for column in columns]
        functions = self._functions[number]
        images = functions.look[kind](*self.place(tuple(arrays)))
        reading = self.members[number].protocol.scales[place].reading if kind == 'dense' else None
        self.programs.add((number, reading, images.shape))
        found = functions.network[reading](self.members[number].variables, images)
        return functions.reduce[kind][place](found, key[-1])

    def views(self, key):
        """How many views the mean of an item with this key is of."""
        number, place, kind, shape, boxes = key
        member = self.members[number]
        flips = 2 if member.protocol.flip else 1
        if kind != 'dense':
            return boxes * flips
        return flips * _windows(self, number, place, shape)

    def log_probabilities(self, examples):
        """The logarithms of the ensemble's probabilities for each image.

        Args:
          examples: of `loader.map_images` with `self.items`.

        Yields:
          (example, float64 [K]), in the order in which they are done; a broken image comes with None.
        """
        groups, flying = collections.defaultdict(list), collections.deque()
        waiting = {}  # index: [example, items left, (share, mean) by member]
        held = 0  # bytes of pixels in `groups`
        most = 1 if jax.default_backend() == 'cpu' else _IN_FLIGHT

        def land():
            key, batch, result = flying.popleft()
            values = np.asarray(result)
            for (index, item), value in zip(batch, values, strict=False):
                entry = waiting[index]
                share = self.views(key) if item.share is None else item.share
                entry[1] -= 1
                entry[2][key[0]].append((share, value.astype(np.float64)))
                if entry[1] == 0:
                    del waiting[index]
                    yield entry[0], self._joined(entry[2])

        def launch(key):
            nonlocal held
            batch = groups.pop(key)
            held -= sum(item.pixels.nbytes for _, item in batch)
            while len(flying) >= most:
                yield from land()
            flying.append((key, batch, self.run(key, [item for _, item in batch])))

        for example in examples:
            items = example.pop('made')
            if items is None:
                yield example, None
                continue
            waiting[example['index']] = [example, len(items), [[] for _ in self.members]]
            for item in items:
                groups[item.key].append((example['index'], item))
                held += item.pixels.nbytes
                if len(groups[item.key]) == self.capacity(item.key):
                    yield from launch(item.key)
                while held > _WAITING_BYTES:
                    yield from launch(next(iter(groups)))  # the one that waits longest
        for key in list(groups):
            yield from launch(key)
        while flying:
            yield from land()

    def _joined(self, parts):
        """Members' parts [(share, mean)] as one: the weighted mean of their probabilities."""
        means = []
        for member, found in zip(self.members, parts, strict=True):
            if member.protocol.average == 'logits':
                shares, values = zip(*found, strict=True)
                mean = np.average(values, 0, shares)
                means.append((member.weight, mean - np.logaddexp.reduce(mean)))
            else:
                means.append((member.weight, _weighted_log_mean(found)))
        return _weighted_log_mean(means)


def _weighted_log_mean(found):
    """Of [(weight, log x)], the logarithm of the weighted mean of x."""
    weights, values = zip(*found, strict=True)
    shares = np.log(np.array(weights) / sum(weights))
    return np.logaddexp.reduce(np.stack(values) + shares[:, None])


@functools.lru_cache(maxsize=4096)
def _windows(scorer, number, place, shape):
    """The number of views that a dense pass over pixels of this shape averages."""
    member = scorer.members[number]
    scale = member.protocol.scales[place]
    image = jax.ShapeDtypeStruct((1, *shape), 'float32')
    maps = jax.eval_shape(lambda v, x: member.model.apply(v, x, dense=scale.reading), member.variables, image)
    counted = []

    def reduce(scores):
        mean, count = REDUCTIONS[scale.reduce](scores, AVERAGES['logits'])
        counted.append(count)
        return mean

    jax.eval_shape(reduce, maps)
    return counted[0]


def _item(key, kind, pixels, boxes, places, share=None):
    """The `_Item` of some views: [V][F] tuples of (top, left)."""
    boxes, places = np.array(boxes, np.int32), np.array(places, np.int32)
    return _Item((*key, kind, pixels.shape, len(boxes)), pixels, boxes, places, share)


def _on_canvas(photograph):
    """Zeros at the bottom and right, up to sides that are multiples of _CANVAS."""
    more = [-side % _CANVAS for side in photograph.shape[:2]]
    return np.pad(photograph, [(0, more[0]), (0, more[1]), (0, 0)])


def check(member):
    """Raises UserError where a member's network cannot look at images as its protocol does."""
    for scale in member.protocol.scales:
        if scale.short_side == 0:
            continue
        if not scale.boxes and scale.reading not in (True, *member.model.readings):
            raise UserError(f'it has no reading {scale.reading!r}')
        side = member.protocol.size if scale.boxes else scale.short_side
        if scale.fit:
            side = min(scale.fit(side, side))
        image = jax.ShapeDtypeStruct((1, side, side, member.pixels.channels), 'float32')
        reading = {} if scale.boxes else {'dense': scale.reading}
        made = jax.eval_shape(lambda v, x, r=reading: member.model.apply(v, x, **r), member.variables, image)
        wanted = 2 if scale.boxes else 4
        if len(made.shape) != wanted or math.prod(made.shape) == 0:
            raise UserError(f'it makes scores of shape {made.shape} of an image of {side}x{side}')
