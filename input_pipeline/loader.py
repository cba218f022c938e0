"""Order, batches, workers, and the way to the device.

The order of examples is a pure function of (seed, epoch), and a step's batch one of (seed, step): position p of a run
is the p-th element of the epochs' permutations laid end to end, and step s takes positions s*B to (s+1)*B. So a run
resumes at the exact example from its step alone, and every example comes exactly once an epoch whatever the batch
size.
"""

import functools

import absl.flags
import grain
import numpy as np

from errors import UserError
from input_pipeline import geometry
from input_pipeline.sources import ArraySource


def example_order(start, stop, num_examples, seed):
    """The example numbers at positions start <= p < stop of a run, int32 [stop - start]."""
    first, last = start // num_examples, max(stop - 1, start) // num_examples
    epochs = np.concatenate([_permutation(num_examples, seed, epoch) for epoch in range(first, last + 1)])
    return epochs[start - first * num_examples : stop - first * num_examples]


@functools.lru_cache(maxsize=4)
def _permutation(num_examples, seed, epoch):
    # NumPy promises its raw bit streams for ever, its shuffles not.
    draws = np.random.Philox(key=[seed, epoch]).random_raw(num_examples)
    return np.argsort(draws, kind='stable').astype(np.int32)


def prepare_image(image, size, channels, fit):
    """One image, encoded or uint8 [H, W, C], as uint8 [size, size, channels]; raises ValueError if it cannot be."""
    if isinstance(image, bytes):
        image = geometry.decode(image, channels)
    return geometry.fit(geometry.match_channels(image, channels), size, fit)


def in_memory(source, size, channels, fit):
    """An `ArraySource` as (images uint8 [N, size, size, channels], labels int32 [N])."""
    images = geometry.match_channels(source.images, channels)
    if fit == 'pad' and max(images.shape[1:3]) <= size:
        return geometry.pad(images, size, size), source.labels
    try:
        return np.stack([geometry.fit(image, size, fit) for image in images]), source.labels
    except ValueError as error:
        raise UserError(f'{source.name}: an image {error}; set --config.fit=resize or a larger image_size') from None


def fits_in_memory(source):
    """Whether the source's images are held in memory, and so on the device."""
    return isinstance(source, ArraySource)


class _Load(grain.transforms.Map):
    """Example number -> one training or test example; a broken image is an error or a masked example, by policy."""

    def __init__(self, source, size, channels, fit, on_bad_image):
        self.source, self.on_bad_image = source, on_bad_image
        self.size, self.channels, self.fit = size, channels, fit

    def map(self, element):
        index, real = int(element['index']), bool(element['mask'])
        example = self.source[index % len(self.source)]  # beyond the last: a further version of it
        bad = False
        try:
            image = prepare_image(example.image, self.size, self.channels, self.fit)
        except ValueError as error:
            if self.on_bad_image == 'stop':
                raise BadImage(
                    f'{example.name} {error}. Mend or remove it, or pass --config.on_bad_image=skip to leave such out'
                ) from None
            bad = real
            image = np.zeros((self.size, self.size, self.channels), np.uint8)
        label = np.int32(example.label)
        return {'image': image, 'label': label, 'index': np.int32(index), 'mask': real and not bad, 'bad': bad}


class BadImage(UserError):
    """An image that cannot be decoded, where the config says to stop."""


def stream(source, batch_size, size, channels, fit, indices, on_bad_image='stop', workers=0):
    """Batches of a source that does not fit in memory, read by Grain.

    Args:
      source: see `sources`.
      batch_size: examples a batch.
      size, channels, fit: see `prepare_image`.
      indices: object with a length, indexable by position, giving example numbers; -1 is padding.
      on_bad_image: 'stop', or 'skip' (the example stays in the batch, masked out, and is counted in 'bad').
      workers: processes that decode; 0 decodes in threads of this one.

    Returns:
      An iterator of dicts: image uint8 [B, size, size, C], label and index int32 [B], mask bool [B] (False for padding
      and skipped images), bad bool [B].

    Raises:
      UserError: from the iterator, for an image that cannot be decoded.
    """
    if not absl.flags.FLAGS.is_parsed():  # grain's workers read absl's flags, and not every caller is an absl app
        absl.flags.FLAGS.mark_as_parsed()
    # Batches are cut before the workers part the work: a worker takes every n-th batch, not every n-th example.
    batches = (
        grain.MapDataset.range(len(indices))
        .map(functools.partial(_at, indices))
        .map(_Load(source, size, channels, fit, on_bad_image))
        .batch(batch_size)
        .to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=4))
    )
    if workers:
        batches = batches.mp_prefetch(grain.multiprocessing.MultiprocessingOptions(num_workers=workers))
    return iter(batches)


def _at(indices, position):
    index = int(indices[position])
    return {'index': max(index, 0), 'mask': index >= 0}


class RunOrder:
    """The example numbers of a run from position `start` on, as a lazy sequence; see `example_order`."""

    def __init__(self, start, stop, num_examples, seed):
        self.start, self.stop, self.num_examples, self.seed = start, stop, num_examples, seed

    def __len__(self):
        return self.stop - self.start

    def __getitem__(self, position):
        p = self.start + position
        return _permutation(self.num_examples, self.seed, p // self.num_examples)[p % self.num_examples]


def test_batches(source, batch_size, size, channels, fit, on_bad_image='stop', workers=0):
    """A whole split in its order, as batches of `stream`: every example once, the last batch padded and masked."""
    indices = padded(len(source), batch_size)
    if not fits_in_memory(source):
        yield from stream(source, batch_size, size, channels, fit, indices, on_bad_image, workers)
        return
    images, labels = in_memory(source, size, channels, fit)
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        index = np.maximum(chosen, 0)
        yield {'image': images[index], 'label': labels[index], 'index': index, 'mask': chosen >= 0}


def padded(num_examples, batch_size):
    """0..num_examples-1 and then -1 up to whole batches: every example once, and the padding masked out."""
    total = -(-num_examples // batch_size) * batch_size
    return np.concatenate([np.arange(num_examples), np.full(total - num_examples, -1)]).astype(np.int32)
