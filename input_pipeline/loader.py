"""The loader: order of the examples, batches, worker processes, and the transfer to the device.

The order of examples is a pure function of (seed, epoch): the permutations of the epochs are concatenated, and each
step takes the positions that follow those of the step before. So a run resumes at the exact example, given the number
of examples it has seen, and every example occurs exactly once per epoch, for any batch size. The random changes to an
image are a pure function of (seed, epoch, example number): they do not depend on the batch, the host or the worker.
"""

import contextlib
import errno
import functools
import gc
import itertools
import multiprocessing.resource_tracker
import os
import re
import shutil
import signal
import threading
from concurrent import futures
from typing import NamedTuple

import absl.flags
import grain
import grain.experimental
import jax
import numpy as np

from input_pipeline import crops, geometry
from input_pipeline.example import ArraySource
from runtime import interrupts, system
from runtime.errors import UserError

SHARED_MEMORY = '/dev/shm'
_LOCKS = 256 << 10  # bytes of shared memory for the locks of a worker process, a page each
_BUS_ERROR = getattr(signal, 'SIGBUS', 0)

# Order


def example_order(start, stop, num_examples, seed):
    """Return (example numbers, epochs) at the positions start <= p < stop of a run; int32 [stop - start] each."""
    epochs = np.arange(start, stop) // num_examples
    numbers = [_permutation(num_examples, seed, int(epoch)) for epoch in np.unique(epochs)]
    first = start - start // num_examples * num_examples
    numbers = np.concatenate([*numbers, np.empty(0, np.int32)])[first : first + stop - start]
    return numbers, epochs.astype(np.int32)


@functools.lru_cache(maxsize=4)
def _permutation(num_examples, seed, epoch):
    # NumPy keeps raw bit streams stable; it does not promise this for its shuffles.
    draws = np.random.Philox(key=[seed, epoch]).random_raw(num_examples)
    return np.argsort(draws, kind='stable').astype(np.int32)


def in_order(start, stop, num_examples):
    """Like `example_order`, for one pass in the source's order; -1 after its end, to fill the last batch."""
    numbers = np.arange(start, stop, dtype=np.int32)
    return np.where(numbers < num_examples, numbers, -1), np.zeros(stop - start, np.int32)


# One image


class Form(NamedTuple):
    """The size and channels that every image of a batch is brought to: uint8 [size, size, channels].

    `crop`: (height, width, draws) -> `crops.View`, or None for small images, which `fit` pads with zeros ('pad') or
    resizes ('resize').
    """

    size: int
    channels: int
    fit: str = 'pad'
    crop: object = None


def prepare_image(image, form, draws=None):
    """Bring one image, encoded or uint8 [H, W, C], into a form.

    Returns:
      (uint8 [size, size, channels], its `crops.View.mean_offset`).

    Raises:
      ValueError: the image cannot be decoded, or is too large to be padded.
    """
    if isinstance(image, bytes):
        image = geometry.decode(image, form.channels)
    image = geometry.match_channels(image, form.channels)
    if form.crop is not None:
        view = form.crop(*image.shape[:2], draws)
        return crops.extract(image, view), view.mean_offset
    if form.fit == 'resize':
        return geometry.resize(image, form.size, form.size), (0, 0)
    if max(image.shape[:2]) > form.size:
        raise ValueError(f'is {image.shape[0]}x{image.shape[1]}, too large to be padded to {form.size}x{form.size}')
    return geometry.pad(image, form.size, form.size), (0, 0)


def in_memory(source, form):
    """Return all of an `ArraySource` as (images uint8 [N, size, size, channels], labels int32 [N])."""
    images = geometry.match_channels(source.images, form.channels)
    if form.fit == 'pad' and max(images.shape[1:3]) <= form.size:
        return geometry.pad(images, form.size, form.size), source.labels
    try:
        return np.stack([prepare_image(image, form)[0] for image in images]), source.labels
    except ValueError as error:
        raise UserError(f'{source.name}: an image {error}; set --config.fit=resize or a larger image_size') from None


def fits_in_memory(source):
    """Return whether the source's images are in memory, and so will be on the device."""
    return isinstance(source, ArraySource)


# Batches


class BadImage(UserError):
    """An image cannot be read or decoded, and the config says to stop."""


def blank(rows, form):
    """Return a batch of zeros with the keys and shapes of `stream`."""
    return {
        'image': np.zeros((rows, form.size, form.size, form.channels), np.uint8),
        'label': np.zeros(rows, np.int32),
        'index': np.zeros(rows, np.int32),
        'epoch': np.zeros(rows, np.int32),
        'offset': np.zeros((rows, 2), np.int32),
        'mask': np.zeros(rows, bool),
        'bad': np.zeros(rows, bool),
    }


def bounded_batch(batch_size, num_examples):
    """Return a batch size for a test, which needs no batch that is larger than its split."""
    return min(batch_size, max(num_examples, 1))


_CHUNK = 4  # images that a thread of `map_images` takes at a time: Grain's cost is per chunk, not per image
_MAX_REPLACED = 100  # consecutive invalid images: more than that means that the data set is broken


class _Load(NamedTuple):
    """Callable: number of a batch -> this host's part of the batch; see `stream`."""

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
        except BaseException as error:  # Grain only passes on exceptions that can be pickled; others would hang it
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

    @geometry.one_large_image()
    def _fill(self, batch, row, number, epoch):
        """Fill a row with an example or its replacement, or mask the row."""
        for candidate in range(number, number + _MAX_REPLACED):
            try:
                example = self.source[candidate % len(self.source)]  # numbers above the length are versions of an image
                # A replacement takes the draws of the invalid image: it also occurs itself in this epoch.
                draws = crops.Draws(self.seed, epoch, number)
                batch['image'][row], batch['offset'][row] = prepare_image(example.image, self.form, draws)
                batch['label'][row] = example.label
                return
            except (ValueError, OSError) as error:
                if self.on_bad_image == 'stop':
                    raise BadImage(_describe_error(self.source, candidate % len(self.source), error)) from None
            batch['bad'][row] = True
            if not self.replace:
                batch['mask'][row] = False
                return
        raise BadImage(f'{self.source.name}: {_MAX_REPLACED} images in a row cannot be read, from number {number} on')


def _describe_error(source, number, error):
    """Return a message that names an invalid example and says what to do."""
    try:
        problem = f'{source[number].name} {error}'
    except (ValueError, OSError) as error:  # it cannot even be read; the source's message names it
        problem = f'{error.filename}: {error.strerror}' if getattr(error, 'filename', None) else str(error)
    return f'{problem}. Fix or remove it, or pass --config.on_bad_image=skip to skip such images'


def _threads():
    """Two per core, because each waits at times: 2 cores decode 900 JPEGs/s with two threads and 1,100 with four."""
    return min(32, 2 * system.cores())


def stream(
    source, form, order, num_batches, batch_size, *, start=0, part=(0, 1), seed=0, on_bad_image='stop', replace=True,
    workers=0, threads=None, put=None,
):  # fmt: skip
    """Yield batches of a source, read, decoded and cropped ahead of time in Grain's threads.

    Args:
      source: see `sources`.
      form: of the images.
      order: (start, stop) -> (example numbers, epochs) at these positions of the run; -1 is padding.
      num_batches: number of batches.
      batch_size: examples per batch, over all hosts.
      start: position of the first example in the run.
      part: (number of this host, number of hosts): each host makes its rows of every batch.
      seed: for the random changes to images.
      on_bad_image: 'stop', or 'skip': the example is marked in 'bad', and replaced or masked.
      replace: replace a bad example by the next good one of the source (training); if False, mask it (testing).
      workers: number of processes that make batches in turn; 0 makes them in threads of this process.
      threads: per process; None is two per core, at most 32.
      put: batch -> batch, such as the transfer to the device; applied ahead of time in a separate thread.

    Returns:
      A generator of dicts: image uint8 [B, size, size, C], label int32 [B], index int32 [B] (the example's number),
      epoch int32 [B], offset int32 [B, 2] (see `crops.View.mean_offset`), mask bool [B] (False for padding and skipped
      examples), bad bool [B]. Its threads and workers end when it is closed, is exhausted or fails.

    Raises:
      BadImage: from the iterator, if an image cannot be read or decoded; the message names it.
      UserError: from the iterator, if a worker process died.
    """
    if not absl.flags.FLAGS.is_parsed():  # Grain's workers read absl's flags, and not every caller is an absl app
        absl.flags.FLAGS.mark_as_parsed()
    if batch_size % part[1]:
        raise UserError(f'batch_size {batch_size} cannot be split over {part[1]} hosts; take a multiple of {part[1]}')
    needed = batch_size // part[1] * form.size**2 * form.channels
    system.require_memory(needed, f'a batch of {batch_size:,} images', 'set a smaller batch size in the config')
    load = _Load(source, form, order, start, batch_size, part, seed, on_bad_image, replace)
    threads = threads or _threads()
    # A thread fills a whole batch in place: no image is copied twice, and Grain's cost is per batch, not per image.
    batches = grain.MapDataset.range(num_batches).map(load)
    batches = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1))
    if workers:
        batch = sum(array.nbytes for array in blank(batch_size // part[1], form).values())
        check_shared_memory(workers * (batch + _LOCKS))
        options = grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
        batches = batches.mp_prefetch(options, _start_worker).map(_copy)
    if put:
        batches = grain.experimental.ThreadPrefetchIterDataset(batches.map(put), prefetch_buffer_size=2)
    with _shared_memory_errors(workers):
        iterator = iter(batches)
    return _iterate(iterator, workers)


def check_shared_memory(size):
    """Raise UserError unless the folder through which worker processes send batches has room for `size` bytes."""
    if os.path.isdir(SHARED_MEMORY) and shutil.disk_usage(SHARED_MEMORY).free < size:
        raise _shared_memory_is_full()


def _shared_memory_is_full():
    return UserError(
        f'{SHARED_MEMORY}, through which the input worker processes send batches, is too small or full: enlarge it '
        '(docker run --shm-size=8g), or pass --config.workers=0, which uses no worker processes'
    )


@contextlib.contextmanager
def _shared_memory_errors(workers):
    try:
        yield
    except OSError as error:
        if workers and error.errno == errno.ENOSPC and error.filename is None:  # a lock that the processes share
            raise _shared_memory_is_full() from None
        raise


def _start_worker(number, workers):
    """Make a worker exit when its parent process ends, even if that is killed."""
    del number, workers
    threading.Thread(target=_exit_after, args=[multiprocessing.parent_process()], daemon=True).start()


def _exit_after(process):
    process.join()
    os._exit(1)


def _copy(batch):
    """Copy a batch out of shared memory; Python's resource tracker warns of any that is left there at exit."""
    return {key: np.array(value) for key, value in batch.items()}


def _iterate(batches, workers):
    """Yield the batches of Grain's iterator and close it at the end; if a worker died, raise a `UserError`."""
    if not workers:
        with contextlib.closing(batches):
            yield from batches
        return
    others, children = multiprocessing.active_children(), []
    try:
        batch = _result(system.in_thread(_with_signals_blocked, next, batches, None), others, children)
        while batch is not None:
            yield batch
            batch = _result(system.in_thread(next, batches, None), others, children)
    except RuntimeError as error:
        code = re.search(r'Worker process was terminated .*exit code (-?\d+)', str(error))
        if code is None:
            raise
        if int(code[1]) == -_BUS_ERROR:  # no page of shared memory is left
            raise _shared_memory_is_full() from None
        killed = ', killed: possibly out of memory' if code[1] == '-9' else ''
        raise UserError(
            f'an input worker process died (exit code {code[1]}{killed}). The same command resumes from the last '
            'checkpoint; --config.workers=0 uses no worker processes'
        ) from None
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:  # a lock that the processes share
            raise _shared_memory_is_full() from None
        raise
    finally:
        with contextlib.suppress(RuntimeError, futures.TimeoutError):
            system.in_thread(batches.close).result(_GRACE)
        _add_started(others, children)
        for child in children:
            child.kill()
            child.join()
        gc.collect()  # Grain's iterators leave the last batches in a reference cycle with the exception


_GRACE = 20  # seconds in which Grain reports a worker that died, and ends its workers


def _add_started(others, children):
    """Add the processes that are not `others` to `children`: some start after the first batch."""
    children += [child for child in multiprocessing.active_children() if child not in (*others, *children)]


def _result(future, others, children):
    """Return a future's result; raise RuntimeError, as Grain does, if a worker is dead and there is no result.

    A worker that is killed while it holds one of Grain's locks blocks Grain forever.
    """
    waited = 0
    while waited < _GRACE:
        try:
            return future.result(timeout=1)
        except futures.TimeoutError:
            if future.done():
                raise
        finally:
            _add_started(others, children)
        dead = [child.exitcode for child in children if child.exitcode]
        waited += bool(dead)
    raise RuntimeError(f'Worker process was terminated and Grain does not say so: exit code {dead[0]}')


def _with_signals_blocked(function, *arguments):
    """Call a function so that the processes it starts ignore signals such as Ctrl-C, which reach a whole group.

    The workers then continue until the main process, which does receive the signal, has saved its state. The signals
    remain blocked in this thread.
    """
    if hasattr(signal, 'pthread_sigmask'):  # not on Windows, where signals do not reach a group
        multiprocessing.resource_tracker.ensure_running()  # starting it would unblock them
        signal.pthread_sigmask(signal.SIG_BLOCK, interrupts.numbers())
    return function(*arguments)


class _Mapped(NamedTuple):
    """Callable: number of a chunk -> list of results, one per example; see `map_images`."""

    source: object
    numbers: np.ndarray
    function: object
    channels: int
    on_bad_image: str

    def __call__(self, chunk):
        return [self.example(int(number)) for number in self.numbers[_CHUNK * int(chunk) : _CHUNK * (int(chunk) + 1)]]

    @geometry.one_large_image()
    def example(self, number):
        result = {'index': number, 'label': -1, 'name': str(number), 'value': None}
        try:
            example = self.source[number]
            result |= {'label': int(example.label), 'name': example.name}
            image = example.image
            image = geometry.decode(image, self.channels) if isinstance(image, bytes) else image
            result['value'] = self.function(geometry.match_channels(image, self.channels))
        except (ValueError, OSError) as error:
            if self.on_bad_image == 'stop':
                raise BadImage(_describe_error(self.source, number, error)) from None
        return result


def map_images(source, function, channels=3, on_bad_image='stop', threads=None, numbers=None):
    """Apply a function to every decoded image of a source, in order, in several threads.

    Args:
      source: see `sources`.
      function: uint8 [H, W, channels] -> anything.
      channels: 1 or 3.
      on_bad_image: 'stop', or 'skip': the function is not called for invalid images.
      threads: None is two per core, at most 32.
      numbers: of the examples; None for all.

    Returns:
      An iterator of dicts: index, label, name (of the file), value (the function's result; None for invalid images).

    Raises:
      BadImage: from the iterator, if an image cannot be read or decoded; the message names it.
    """
    numbers = np.arange(len(source)) if numbers is None else np.asarray(numbers)
    chunks = -(-len(numbers) // _CHUNK)
    mapped = grain.MapDataset.range(chunks).map(_Mapped(source, numbers, function, channels, on_bad_image))
    threads = threads or _threads()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    return itertools.chain.from_iterable(mapped.to_iter_dataset(options))


def gather(images, labels, index, epoch):
    """Return the batch of these examples of a data set in memory (`in_memory`), as `stream` would; can be traced."""
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
    """Return a function that puts a batch on devices with this sharding; each host puts its own rows."""

    def put(batch):
        return {key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()}

    return put


def test_batches(source, form, batch_size, on_bad_image='stop', workers=0, part=(0, 1)):
    """Yield all examples of a split in order, each once, in batches like those of `stream`.

    The last batch is padded and masked. Each host makes its `part` of every batch.
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
