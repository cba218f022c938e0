"""Order, batches, workers, and the way to the device.

The order of examples is a pure function of (seed, epoch): position p of a run is the p-th element of the epochs'
permutations laid end to end, and a step takes the positions after those of the step before. So a run goes on at the
exact example from the count of those it has seen, and every example comes exactly once an epoch, whatever the batch
size. What is random in an image is a pure function of (seed, epoch, example number): it does not depend on the batch,
the host or the worker that makes it.
"""

import functools
import gc
import itertools
import multiprocessing.resource_tracker
import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import absl.flags
import grain
import grain.experimental
import jax
import numpy as np

from input_pipeline import crops, geometry
from input_pipeline.example import ArraySource
from runtime import system
from runtime.errors import UserError

# Order


def example_order(start, stop, num_examples, seed):
    """(example numbers, epochs) at positions start <= p < stop of a run; int32 [stop - start] each."""
    epochs = np.arange(start, stop) // num_examples
    numbers = [_permutation(num_examples, seed, int(epoch)) for epoch in np.unique(epochs)]
    first = start - start // num_examples * num_examples
    numbers = np.concatenate([*numbers, np.empty(0, np.int32)])[first : first + stop - start]
    return numbers, epochs.astype(np.int32)


@functools.lru_cache(maxsize=4)
def _permutation(num_examples, seed, epoch):
    # NumPy promises its raw bit streams for ever, its shuffles not.
    draws = np.random.Philox(key=[seed, epoch]).random_raw(num_examples)
    return np.argsort(draws, kind='stable').astype(np.int32)


def in_order(start, stop, num_examples):
    """As `example_order`, for one pass in the source's order; -1 beyond it, so that batches are whole."""
    numbers = np.arange(start, stop, dtype=np.int32)
    return np.where(numbers < num_examples, numbers, -1), np.zeros(stop - start, np.int32)


# One image


class Form(NamedTuple):
    """What every image of a batch becomes: uint8 [size, size, channels].

    `crop`: (height, width, draws) -> `crops.View`, or None for small images, which `fit` puts there whole: 'pad' with
    zeros around them, or 'resize'.
    """

    size: int
    channels: int
    fit: str = 'pad'
    crop: object = None


def prepare_image(image, form, draws=None):
    """One image, encoded or uint8 [H, W, C], in a form: (uint8 [size, size, channels], its `crops.View.place`).

    Raises:
      ValueError: it cannot be decoded, or is too large to be padded.
    """
    if isinstance(image, bytes):
        image = geometry.decode(image, form.channels)
    image = geometry.match_channels(image, form.channels)
    if form.crop is not None:
        view = form.crop(*image.shape[:2], draws)
        return crops.cut(image, view), view.place
    if form.fit == 'resize':
        return geometry.resize(image, form.size, form.size), (0, 0)
    if max(image.shape[:2]) > form.size:
        raise ValueError(f'is {image.shape[0]}x{image.shape[1]}, too large to be padded to {form.size}x{form.size}')
    return geometry.pad(image, form.size, form.size), (0, 0)


def in_memory(source, form):
    """An `ArraySource` as (images uint8 [N, size, size, channels], labels int32 [N]), whole and without chance."""
    images = geometry.match_channels(source.images, form.channels)
    if form.fit == 'pad' and max(images.shape[1:3]) <= form.size:
        return geometry.pad(images, form.size, form.size), source.labels
    try:
        return np.stack([prepare_image(image, form)[0] for image in images]), source.labels
    except ValueError as error:
        raise UserError(f'{source.name}: an image {error}; set --config.fit=resize or a larger image_size') from None


def fits_in_memory(source):
    """Whether the source's images are held in memory, and so on the device."""
    return isinstance(source, ArraySource)


# Batches


class BadImage(UserError):
    """An image that cannot be read or decoded, where the config says to stop."""


def blank(rows, form):
    """A batch of nothing, whose keys and shapes are those of `stream`."""
    return {
        'image': np.zeros((rows, form.size, form.size, form.channels), np.uint8),
        'label': np.zeros(rows, np.int32),
        'index': np.zeros(rows, np.int32),
        'epoch': np.zeros(rows, np.int32),
        'offset': np.zeros((rows, 2), np.int32),
        'mask': np.zeros(rows, bool),
        'bad': np.zeros(rows, bool),
    }


_CHUNK = 4  # images that a thread of `map_images` takes at a time: Grain's cost is one of chunks, not of images
_MOST_REPLACED = 100  # in a row: then it is no longer single images that are broken


class _Load(NamedTuple):
    """The number of a batch -> the batch, of this host's part; see `stream`."""

    source: object
    form: Form
    order: object
    start: int
    batch_size: int
    part: tuple
    seed: int
    on_bad_image: str
    replace: bool

    def __call__(self, number):
        try:
            return self._batch(number)
        except UserError:
            raise
        except BaseException as error:  # Grain passes on exceptions that pickle and no others, and would wait for ever
            raise RuntimeError(f'batch {number}: {type(error).__name__}: {error}') from error

    def _batch(self, number):
        host, hosts = self.part
        rows = self.batch_size // hosts
        first = self.start + int(number) * self.batch_size + host * rows
        numbers, epochs = self.order(first, first + rows)
        batch = blank(rows, self.form) | {'index': np.maximum(numbers, 0), 'epoch': epochs, 'mask': numbers >= 0}
        for row in np.flatnonzero(batch['mask']):
            self._fill(batch, row, int(numbers[row]), int(epochs[row]))
        return batch

    def _fill(self, batch, row, number, epoch):
        """Puts an example in its row, or the one that replaces it; or masks the row."""
        for candidate in range(number, number + _MOST_REPLACED):
            try:
                example = self.source[candidate % len(self.source)]  # beyond the last: a further version of it
                draws = crops.Draws(self.seed, epoch, number)  # not its own: it comes a second time in this epoch
                batch['image'][row], batch['offset'][row] = prepare_image(example.image, self.form, draws)
                batch['label'][row] = example.label
                return
            except (ValueError, OSError) as error:
                if self.on_bad_image == 'stop':
                    raise BadImage(_complaint(self.source, candidate % len(self.source), error)) from None
            batch['bad'][row] = True
            if not self.replace:
                batch['mask'][row] = False
                return
        raise BadImage(f'{self.source.name}: {_MOST_REPLACED} images in a row cannot be read, from number {number} on')


def _complaint(source, number, error):
    """What is wrong with an example, in words that name it."""
    try:
        what = f'{source[number].name} {error}'
    except (ValueError, OSError) as error:  # it cannot even be read, and the source's own words name it
        what = f'{error.filename}: {error.strerror}' if getattr(error, 'filename', None) else str(error)
    return f'{what}. Mend or remove it, or pass --config.on_bad_image=skip to leave such out'


def _threads():
    """Two a core, for each waits at times: of JPEGs, 2 cores make 900 a second with two threads and 1,100 with four."""
    return min(32, 2 * system.cores())


def stream(
    source, form, order, num_batches, batch_size, *, start=0, part=(0, 1), seed=0, on_bad_image='stop', replace=True,
    workers=0, threads=None, put=None,
):  # fmt: skip
    """Batches of a source, read, decoded and cut ahead of their use by Grain's threads.

    Args:
      source: see `sources`.
      form: of the images.
      order: (start, stop) -> (example numbers, epochs) of these positions of the run; -1 is padding.
      num_batches: how many.
      batch_size: examples a batch, of all hosts together.
      start: the position of the first batch's first example.
      part: (number of this host, hosts): a host makes its own rows of every batch, and no other's.
      seed: of what is random in an image.
      on_bad_image: 'stop', or 'skip': the example is counted in 'bad', and another takes its place, or it is masked.
      replace: whether the place of a bad example goes to the next in the source that is not bad (training), or is
        masked out (a test).
      workers: processes that make batches, by turns; 0 makes them in threads of this one.
      threads: of each process; None is two a core, at most 32.
      put: batch -> batch, applied ahead of its use in a thread of its own: the way to the device.

    Returns:
      A generator of dicts: image uint8 [B, size, size, C], label int32 [B], index int32 [B] (the example's number),
      epoch int32 [B], offset int32 [B, 2] (see `crops.View.place`), mask bool [B] (False for padding and what was left
      out), bad bool [B]. Its `close` ends the threads and the workers, as its end and any error do.

    Raises:
      BadImage: from the iterator, for an image that cannot be read or decoded; it names it.
      UserError: from the iterator, when a worker process died.
    """
    if not absl.flags.FLAGS.is_parsed():  # grain's workers read absl's flags, and not every caller is an absl app
        absl.flags.FLAGS.mark_as_parsed()
    if batch_size % part[1]:
        raise UserError(f'batch_size {batch_size} cannot be cut over {part[1]} hosts; take a multiple of {part[1]}')
    load = _Load(source, form, order, start, batch_size, part, seed, on_bad_image, replace)
    threads = threads or _threads()
    # A thread makes a whole batch, in place: no image is copied twice, and Grain's cost is one of batches, not images.
    batches = grain.MapDataset.range(num_batches).map(load)
    batches = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1))
    if workers:
        options = grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
        batches = batches.mp_prefetch(options, _worker_begins).map(_out_of_shared_memory)
    if put:
        batches = grain.experimental.ThreadPrefetchIterDataset(batches.map(put), prefetch_buffer_size=2)
    return _until_closed(iter(batches), workers)


def _worker_begins(number, workers):
    """A worker ends with the process that it works for, even if that is killed."""
    del number, workers
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()


def _end_with(process):
    process.join()
    os._exit(1)


def _out_of_shared_memory(batch):
    """A copy, so that none is held there at the process's end, which Python's resource tracker would complain of."""
    return {key: np.array(value) for key, value in batch.items()}


def _until_closed(batches, workers):
    """What Grain's iterator gives; closes it at the end, and says in a user's words that a worker died."""
    try:
        if workers:  # they start with the first batch
            first = _with_signals_blocked(next, batches, None)
            if first is None:
                return
            yield first
        yield from batches
    except RuntimeError as error:
        code = re.search(r'Worker process was terminated .*exit code (-?\d+)', str(error))
        if code is None:
            raise
        killed = ', killed: perhaps the memory is full' if code[1] == '-9' else ''
        raise UserError(
            f'a worker process of the input died (exit code {code[1]}{killed}). The same command goes on from the last '
            'checkpoint; --config.workers=0 needs none'
        ) from None
    finally:
        batches.close()
        if workers:
            gc.collect()  # Grain's iterators leave the last batches in a cycle with the exception that ended them


def _with_signals_blocked(function, *arguments):
    """Calls a function where processes that it starts are deaf to Ctrl-C and SIGTERM, which reach a whole group.

    They go on working until the process that they work for, which hears them, has saved what it did.
    """
    if not hasattr(signal, 'pthread_sigmask'):  # Windows, where they do not reach a group
        return function(*arguments)
    multiprocessing.resource_tracker.ensure_running()  # starting it would unblock them
    signals = signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM)
    with ThreadPoolExecutor(1, initializer=signal.pthread_sigmask, initargs=signals) as thread:
        return thread.submit(function, *arguments).result()


class _Mapped(NamedTuple):
    """The number of a chunk -> [what a function makes of the image of each of its examples]; see `map_images`."""

    source: object
    numbers: np.ndarray
    function: object
    channels: int
    on_bad_image: str

    def __call__(self, chunk):
        return [self.example(int(number)) for number in self.numbers[_CHUNK * int(chunk) : _CHUNK * (int(chunk) + 1)]]

    def example(self, number):
        found = {'index': number, 'label': -1, 'name': str(number), 'made': None}
        try:
            example = self.source[number]
            found |= {'label': int(example.label), 'name': example.name}
            image = example.image
            image = geometry.decode(image, self.channels) if isinstance(image, bytes) else image
            found['made'] = self.function(geometry.match_channels(image, self.channels))
        except (ValueError, OSError) as error:
            if self.on_bad_image == 'stop':
                raise BadImage(_complaint(self.source, number, error)) from None
        return found


def map_images(source, function, channels=3, on_bad_image='stop', threads=None, numbers=None):
    """Every image of a split through a function, in its order, decoded in full, by several threads.

    Args:
      source: see `sources`.
      function: uint8 [H, W, channels] -> anything.
      channels: 1 or 3.
      on_bad_image: 'stop', or 'skip': for such an image the function is not called.
      threads: None is two a core, at most 32.
      numbers: of the examples; None is all.

    Returns:
      An iterator of dicts: index, label, name (of its file), made (what the function made, or None).

    Raises:
      BadImage: from the iterator, for an image that cannot be read or decoded; it names it.
    """
    numbers = np.arange(len(source)) if numbers is None else np.asarray(numbers)
    chunks = -(-len(numbers) // _CHUNK)
    mapped = grain.MapDataset.range(chunks).map(_Mapped(source, numbers, function, channels, on_bad_image))
    threads = threads or _threads()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    return itertools.chain.from_iterable(mapped.to_iter_dataset(options))


def gather(images, labels, index, epoch):
    """The batch of these examples of a set held whole (`in_memory`), as `stream` would give it; it can be traced."""
    row = index % len(images)
    return {
        'image': images[row],
        'label': labels[row],
        'index': index,
        'epoch': epoch,
        'offset': np.zeros((len(index), 2), np.int32),
        'mask': np.ones(len(index), bool),
        'bad': np.zeros(len(index), bool),
    }


def to_device(sharding):
    """batch -> batch on the devices of a sharding along 'data'; on several hosts each puts its own rows."""

    def put(batch):
        return {key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()}

    return put


def test_batches(source, form, batch_size, on_bad_image='stop', workers=0, part=(0, 1)):
    """A whole split in its order, as batches of `stream`: every example once, the last batch padded and masked.

    Of several hosts each makes its `part` of every batch.
    """
    total = len(source)
    num_batches, order = -(-total // batch_size), functools.partial(in_order, num_examples=total)
    if not fits_in_memory(source) or form.crop:
        yield from stream(
            source, form, order, num_batches, batch_size, on_bad_image=on_bad_image, replace=False, workers=workers,
            part=part,
        )  # fmt: skip
        return
    images, labels = in_memory(source, form)
    host, hosts = part
    rows = batch_size // hosts
    for start in range(host * rows, num_batches * batch_size, batch_size):
        numbers, epochs = order(start, start + rows)
        yield gather(images, labels, np.maximum(numbers, 0), epochs) | {'mask': numbers >= 0}
