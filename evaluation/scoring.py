"""What a protocol's views of an image score: from photographs to a vector of classes' log-probabilities each.

An image is decoded once and resized once a scale, whoever looks at it: all views, all members of an ensemble. Crops are
cut on the device from the resized photograph, which is put on a canvas of one of a handful of sizes; a dense pass takes
the photograph as it is (`scales`). Images of the same size go through the network together; each size is compiled once.

Means of probabilities are taken of their logarithms: two classes of probability 1e-50 and 1e-60 stay apart.
"""

import collections
import math
from typing import NamedTuple

import jax
import numpy as np

from evaluation import scales
from evaluation.protocols import Protocol
from input_pipeline import geometry
from input_pipeline.pixels import Pixels
from runtime.errors import UserError

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
      class_names: of its outputs (see `classes.known_names`); None if an older checkpoint does not store them.
    """

    model: object
    variables: dict
    config: object
    protocol: Protocol
    pixels: Pixels
    weight: float = 1.0
    class_names: tuple | None = None


class Key(NamedTuple):
    """What items that go through a network together have in common.

    Fields:
      member, scale: their numbers.
      shape: of the pixels.
      boxes: how many.
    """

    member: int
    scale: int
    shape: tuple
    boxes: int


class Scorer:
    """Runs images through the members; `log_probabilities` is its door."""

    def __init__(self, members, mesh_size, batch_size, place, dense_batch=1):
        """Members; the number of devices; the crops that go through a network at a time; a batch's device_put."""
        self.members, self.place = members, place
        self.batch_size, self.dense_batch, self.mesh_size = batch_size, dense_batch, mesh_size
        self.kinds, self._programs = zip(*map(scales.create, members), strict=True)

    @property
    def programs(self):
        """(member, reading, shape of the images) of the networks' programs that were compiled."""
        return {(number, *ran) for number, programs in enumerate(self._programs) for ran in programs.ran}

    def items(self, image):
        """[(`Key`, `scales.Item`)] of uint8 [H, W, C] for all members."""
        resized, items = {}, []
        for number, (member, kinds) in enumerate(zip(self.members, self.kinds, strict=True)):
            channels = geometry.match_channels(image, member.pixels.channels)
            for place, kind in enumerate(kinds):
                made = kind.items(channels, resized)
                items += [(Key(number, place, item.pixels.shape, len(item.boxes)), item) for item in made]
        return items

    def capacity(self, key, item):
        """How many items like this go through at a time: a multiple of the devices."""
        wanted = self.kinds[key.member][key.scale].capacity(item, self.batch_size, self.dense_batch)
        return -(-wanted // self.mesh_size) * self.mesh_size

    def run(self, key, items):
        """The mean scores [number of items, K] of items of one key, on the device."""
        missing = self.capacity(key, items[0]) - len(items)
        columns = zip(*((item.pixels, item.boxes, item.places) for item in items), strict=True)
        arrays = [np.stack(column + (np.zeros_like(column[0]),) * missing) for column in columns]
        return self.kinds[key.member][key.scale].means(*self.place(tuple(arrays)))

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
            kind = self.kinds[key.member][key.scale]
            for (index, item), value in zip(batch, np.asarray(result), strict=False):
                entry = waiting[index]
                share = kind.views(item) if item.share is None else item.share
                entry[1] -= 1
                entry[2][key.member].append((share, value.astype(np.float64)))
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
            items = example.pop('value')
            if items is None:
                yield example, None
                continue
            waiting[example['index']] = [example, len(items), [[] for _ in self.members]]
            for key, item in items:
                groups[key].append((example['index'], item))
                held += item.pixels.nbytes
                if len(groups[key]) == self.capacity(key, item):
                    yield from launch(key)
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
