"""Score the views of a protocol: from photographs to one vector of log-probabilities each.

An image is decoded once and resized once per scale, for all views and all members of an ensemble. Crops are cut on the
device from the resized photograph, which is padded to a canvas of one of a few sizes; a dense pass takes the
photograph unpadded (`scales`). Images of the same size are batched; the network is compiled once per size.

Probabilities are averaged in log space, which keeps classes of probability 1e-50 and 1e-60 apart.
"""

import collections
import math
import sys
from typing import NamedTuple

import jax
import numpy as np

from evaluation import scales
from evaluation.protocols import Protocol
from input_pipeline import geometry
from input_pipeline.pixels import Pixels
from runtime import system
from runtime.errors import UserError

_IN_FLIGHT = 3  # batches queued on the device; not on a CPU, which would run them concurrently and each more slowly
_WAITING_BYTES = 2**30  # of pixels that wait for a full batch of their size


class Member(NamedTuple):
    """A network of an ensemble, or a single network.

    Fields:
      model, variables: the network.
      config: config it was trained with.
      protocol: test protocol.
      pixels: conversion of images to its input.
      weight: weight of its probabilities in the ensemble.
      class_names: names of its outputs (`input_pipeline.classes.known_names`); None if an older checkpoint lacks them.
    """

    model: object
    variables: dict
    config: object
    protocol: Protocol
    pixels: Pixels
    weight: float = 1.0
    class_names: tuple | None = None


class Key(NamedTuple):
    """What the items of one batch have in common.

    Fields:
      member, scale: indices of the member and of its scale.
      shape: shape of the pixels.
      boxes: number of boxes.
    """

    member: int
    scale: int
    shape: tuple
    boxes: int


class Scorer:
    """Runs images through the members; `log_probabilities` is the entry point."""

    def __init__(self, members, mesh_size, batch_size, place, dense_batch=1, most=sys.maxsize):
        """Create the programs of the members.

        Args:
          members: list of `Member`.
          mesh_size: number of devices.
          batch_size: crops per forward pass.
          place: function that puts a batch on the devices.
          dense_batch: photographs per forward pass of a dense scale.
          most: the number of photographs, so that no batch has more.
        """
        self.members, self.place = members, place
        self.batch_size, self.dense_batch, self.mesh_size, self.most = batch_size, dense_batch, mesh_size, most
        self.kinds, self._programs = zip(*map(scales.create, members), strict=True)

    @property
    def programs(self):
        """Return (member, reading, shape of the images) of each compiled program of the networks."""
        return {(number, *ran) for number, programs in enumerate(self._programs) for ran in programs.ran}

    def items(self, image):
        """Return [(`Key`, `scales.Item`)] of an image, uint8 [H, W, C], for all members."""
        resized, items = {}, []
        for number, (member, kinds) in enumerate(zip(self.members, self.kinds, strict=True)):
            channels = geometry.match_channels(image, member.pixels.channels)
            for scale, kind in enumerate(kinds):
                new = kind.items(channels, resized)
                items += [(Key(number, scale, item.pixels.shape, len(item.boxes)), item) for item in new]
        return items

    def capacity(self, key, item):
        """Return the number of such items in a batch: a multiple of the number of devices."""
        wanted = self.kinds[key.member][key.scale].capacity(item, self.batch_size, self.dense_batch)
        return -(-min(wanted, self.most) // self.mesh_size) * self.mesh_size

    def run(self, key, items):
        """Return the mean scores [number of items, K] of items of one key, on the device."""
        missing = self.capacity(key, items[0]) - len(items)
        columns = zip(*((item.pixels, item.boxes, item.places) for item in items), strict=True)
        arrays = [np.stack(column + (np.zeros_like(column[0]),) * missing) for column in columns]
        return self.kinds[key.member][key.scale].means(*self.place(tuple(arrays)))

    def log_probabilities(self, examples):
        """Yield the log-probabilities of the ensemble for each image.

        Args:
          examples: from `loader.map_images` with `self.items`.

        Yields:
          (example, float64 [K]), in the order of completion; (example, None) for a broken image.
        """
        groups, in_flight = collections.defaultdict(list), collections.deque()
        waiting = {}  # index: [example, number of items left, (share, mean) by member]
        waiting_bytes = 0  # of pixels in `groups`
        most = 1 if jax.default_backend() == 'cpu' else _IN_FLIGHT

        def land():
            key, batch, result = in_flight.popleft()
            kind = self.kinds[key.member][key.scale]
            for (index, item), value in zip(batch, np.asarray(result), strict=False):
                entry = waiting[index]
                share = kind.views(item) if item.share is None else item.share
                entry[1] -= 1
                entry[2][key.member].append((share, value.astype(np.float64)))
                if entry[1] == 0:
                    del waiting[index]
                    yield entry[0], self._ensemble(entry[2])

        def launch(key):
            nonlocal waiting_bytes
            batch = groups.pop(key)
            waiting_bytes -= sum(item.pixels.nbytes for _, item in batch)
            while len(in_flight) >= most:
                yield from land()
            in_flight.append((key, batch, self.run(key, [item for _, item in batch])))

        for example in examples:
            items = example.pop('value')
            if items is None:
                yield example, None
                continue
            waiting[example['index']] = [example, len(items), [[] for _ in self.members]]
            for key, item in items:
                if key not in groups:
                    needed = self.capacity(key, item) * item.pixels.nbytes
                    system.require_memory(needed, 'a batch of crops', 'set a smaller --config.test_batch_size')
                groups[key].append((example['index'], item))
                waiting_bytes += item.pixels.nbytes
                if len(groups[key]) == self.capacity(key, item):
                    yield from launch(key)
                while waiting_bytes > _WAITING_BYTES:
                    yield from launch(next(iter(groups)))  # the longest waiting group
        for key in list(groups):
            yield from launch(key)
        while in_flight:
            yield from land()

    def _ensemble(self, parts):
        """Return the log of the weighted mean of the members' probabilities, from each one's [(share, mean)]."""
        means = []
        for member, weighted in zip(self.members, parts, strict=True):
            if member.protocol.average == 'logits':
                shares, values = zip(*weighted, strict=True)
                mean = np.average(values, 0, shares)
                means.append((member.weight, mean - np.logaddexp.reduce(mean)))
            else:
                means.append((member.weight, _weighted_log_mean(weighted)))
        return _weighted_log_mean(means)


def _weighted_log_mean(weighted):
    """Return the logarithm of the weighted mean of x, from [(weight, log x)]."""
    weights, values = zip(*weighted, strict=True)
    shares = np.log(np.array(weights) / sum(weights))
    return np.logaddexp.reduce(np.stack(values) + shares[:, None])


def check(member):
    """Raise UserError if a member's network cannot run on the views of its protocol."""
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
        scores = jax.eval_shape(lambda v, x, r=reading: member.model.apply(v, x, **r), member.variables, image)
        expected = 2 if scale.boxes else 4
        if len(scores.shape) != expected or math.prod(scores.shape) == 0:
            raise UserError(f'its scores for an image of {side}x{side} have the shape {scores.shape}')
