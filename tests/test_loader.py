import functools
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import synchronize
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from input_pipeline import crops, datasets, example, geometry, loader, pack, packed, sources
from runtime.errors import UserError

KEYS = ('image', 'label', 'index', 'epoch', 'offset', 'mask', 'bad')
SMALL = loader.Form(8, 1, 'resize')
CROPPED = loader.Form(16, 3, crop=functools.partial(crops.random_crop, size=16, short_side=(20, 28)))


def folder_source(folder, count=10, size=(6, 6), noise=False):
    """PNGs of two classes, a half each; flat, of the gray level of their number, or noise."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / str(2 * number // count) / f'{number:03}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*size, 3)) if noise else np.full((*size, 3), number)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    return sources.FolderSource(folder)


def path_of(source, number):
    return Path(source.folder, source.files[number].decode())


def photographs(count=24, height=24, width=33):
    """Images in memory, of noise: no two crops of them are alike."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)
    return example.ArraySource(pixels, np.arange(count) % 5, 'abcde', 'photographs')


def random_order(source, seed=3):
    return functools.partial(loader.example_order, num_examples=len(source), seed=seed)


def stream(source, num_batches, batch_size, form=CROPPED, order=None, **options):
    options = {'seed': 3, **options}
    return list(loader.stream(source, form, order or random_order(source), num_batches, batch_size, **options))


def joined(batches):
    """Batches one after the other as one."""
    batches = list(batches)
    return {key: np.concatenate([batch[key] for batch in batches]) for key in KEYS}


def assert_same(a, b):
    for key in KEYS:
        assert a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key]), key


def share_of_equal(images, others):
    return np.mean([np.array_equal(a, b) for a, b in zip(images, others, strict=True)])


def raised(batches):
    """The message with which an iterator of batches ends."""
    with pytest.raises(UserError) as error:
        list(batches)
    assert '\n' not in str(error.value)
    return str(error.value)


# Order


def test_every_example_occurs_once_per_epoch():
    n = 37
    numbers, epochs = loader.example_order(0, 3 * n, n, seed=5)
    assert epochs.tolist() == [0] * n + [1] * n + [2] * n
    for epoch in numbers.reshape(3, n):
        assert sorted(epoch) == list(range(n))
    assert len({tuple(epoch) for epoch in numbers.reshape(3, n)}) == 3


def test_the_order_is_a_function_of_seed_and_position():
    n = 37
    numbers, epochs = loader.example_order(0, 100, n, seed=5)
    cuts = ((0, 10), (10, 10), (10, 36), (36, 37), (37, 75), (75, 100))
    pieces = [loader.example_order(a, b, n, 5) for a, b in cuts]
    assert np.array_equal(np.concatenate([piece for piece, _ in pieces]), numbers)
    assert np.array_equal(np.concatenate([piece for _, piece in pieces]), epochs)
    assert not np.array_equal(loader.example_order(0, 100, n, seed=6)[0], numbers)
    assert loader.example_order(1_281_167 * 89, 1_281_167 * 89 + 4, 1_281_167, 0)[1].tolist() == [89] * 4


def test_the_order_stays_as_it_is():
    """A change here would make every published run another run."""
    assert loader.example_order(0, 8, 1000, seed=0)[0].tolist() == [998, 162, 670, 664, 185, 322, 431, 318]


def test_every_place_of_the_order_is_as_likely():
    firsts = np.array([loader.example_order(epoch * 10, epoch * 10 + 10, 10, 1)[0] for epoch in range(1000)])
    counts = np.array([np.bincount(column, minlength=10) for column in firsts.T])
    assert np.abs(counts - 100).max() < 45  # standard deviation 9.5, a hundred of them


def test_in_order_is_padded():
    numbers, epochs = loader.in_order(6, 12, 10)
    assert numbers.tolist() == [6, 7, 8, 9, -1, -1] and epochs.tolist() == [0] * 6


# Batches


def test_streamed_batches_follow_the_order(tmp_path):
    source = folder_source(tmp_path)
    batches = stream(source, 3, 4, SMALL, start=3)
    assert [batch['image'].shape for batch in batches] == [(4, 8, 8, 1)] * 3
    numbers, epochs = loader.example_order(3, 15, len(source), seed=3)
    batch = joined(batches)
    assert batch['index'].tolist() == numbers.tolist() and batch['epoch'].tolist() == epochs.tolist()
    assert batch['mask'].all() and not batch['bad'].any() and not batch['offset'].any()
    for image, label, index in zip(batch['image'], batch['label'], batch['index'], strict=True):
        assert label == source[index].label == index // 5 and (image == index).all()
    types = [batch[key].dtype for key in KEYS]
    assert types == [np.uint8, np.int32, np.int32, np.int32, np.int32, bool, bool]


def test_the_same_seed_gives_the_same_batches():
    source = photographs()
    once, again = stream(source, 5, 8), stream(source, 5, 8)
    for a, b in zip(once, again, strict=True):
        assert_same(a, b)
    other = stream(source, 5, 8, order=random_order(source), seed=4)  # the same examples, cut elsewhere
    assert np.array_equal(joined(other)['index'], joined(once)['index'])
    assert share_of_equal(joined(once)['image'], joined(other)['image']) < 0.1


@pytest.mark.parametrize('hosts', [2, 4])
def test_hosts_make_disjoint_parts_of_the_batches_of_one(hosts):
    source = photographs()
    alone = stream(source, 6, 8, start=5)
    parts = [stream(source, 6, 8, start=5, part=(host, hosts)) for host in range(hosts)]
    for number, batch in enumerate(alone):
        assert parts[0][number]['image'].shape == (8 // hosts, 16, 16, 3)
        assert_same(joined([part[number] for part in parts]), batch)
    for epoch in (0, 1):
        seen = [set(joined(part)['index'][joined(part)['epoch'] == epoch]) for part in parts]
        assert sum(map(len, seen)) == len(set.union(*seen))


@pytest.mark.parametrize('at', [8, 24, 32, 40])  # within an epoch of 24, at its end
@pytest.mark.parametrize('after', [1, 2, 6, 16])
def test_another_batch_size_from_any_point_neither_repeats_nor_skips(at, after):
    source = photographs()
    straight = joined(stream(source, 48, 1))
    before = stream(source, at // 8, 8)
    goes_on = stream(source, -(-(48 - at) // after), after, start=at)
    resumed = {key: value[:48] for key, value in joined(before + goes_on).items()}
    assert_same(resumed, straight)
    for epoch in (0, 1):
        assert sorted(resumed['index'][resumed['epoch'] == epoch]) == list(range(24))


def test_what_is_random_in_an_image_is_a_function_of_seed_epoch_and_example():
    source = photographs()
    batch = joined(stream(source, 6, 8))
    for row in range(48):
        index, epoch = int(batch['index'][row]), int(batch['epoch'][row])
        image, offset = loader.prepare_image(source[index].image, CROPPED, crops.Draws(3, epoch, index))
        assert np.array_equal(image, batch['image'][row]) and tuple(batch['offset'][row]) == offset
    # In another order, among others
    backwards = joined(
        stream(source, 8, 3, order=lambda a, b: (np.arange(24)[::-1][a:b].astype(np.int32), np.ones(b - a, np.int32)))
    )
    rows = {int(index): row for row, index in enumerate(batch['index']) if batch['epoch'][row] == 1}
    for row, index in enumerate(backwards['index']):
        assert np.array_equal(backwards['image'][row], batch['image'][rows[int(index)]])


def test_epochs_differ_in_order_and_in_crops():
    source = photographs()
    first, second = (joined(stream(source, 3, 8, start=start)) for start in (0, 24))
    assert first['index'].tolist() != second['index'].tolist()
    again = first['image'][np.argsort(first['index'])], second['image'][np.argsort(second['index'])]
    assert share_of_equal(*again) < 0.1


@pytest.mark.parametrize('threads', [1, 2, 4])
def test_threads_do_not_change_batches(threads):
    source = photographs()
    assert_same(joined(stream(source, 9, 8, threads=threads)), joined(stream(source, 9, 8, threads=3)))


def test_offsets_are_those_of_the_mean_images_frame():
    """An image whose pixels encode their position in the central square has the offset of its first pixel."""
    rows, columns = np.indices((40, 40), np.uint8)
    square = np.stack([rows, columns, np.zeros_like(rows)], -1)
    wide, tall = np.zeros((40, 61, 3), np.uint8), np.zeros((55, 40, 3), np.uint8)
    wide[:, 10:50], tall[7:47] = square, square  # (61 - 40) // 2, (55 - 40) // 2
    for image in (square, wide, tall):
        source = example.ArraySource(np.stack([image] * 16), np.zeros(16), 'a', 'frames')
        for kind, places in (('random', 17), ('one_of_five', 3), ('center', 1)):
            rule = crops.rule(
                24, kind, short_side=(40, 40), filter='bilinear', square=True, warp=False, truncate=False,
                center_rounds='down', area=(1, 1), aspect=(1, 1), ends_only=False,
            )  # fmt: skip
            batch = joined(stream(source, 16, 16, loader.Form(24, 3, crop=rule)))
            assert np.array_equal(batch['image'][:, 0, 0, :2], batch['offset'])
            assert np.array_equal(batch['image'][:, -1, -1, :2], batch['offset'] + 23)
            assert len(np.unique(batch['offset'][:, 0])) == len(np.unique(batch['offset'][:, 1])) == places


def test_versions_are_of_the_same_example(tmp_path):
    source = folder_source(tmp_path)
    numbers = np.array([4, 14, 94], np.int32)
    (batch,) = stream(source, 1, 3, SMALL, order=lambda a, b: (numbers[a:b], np.zeros(b - a, np.int32)))
    assert batch['index'].tolist() == [4, 14, 94]  # what the distortion is drawn from
    assert (batch['image'] == 4).all() and batch['label'].tolist() == [0, 0, 0]


def test_data_on_the_device_gives_the_batches_that_streaming_gives():
    pixels = np.random.default_rng(0).integers(0, 256, (10, 6, 7, 1), np.uint8)
    source = example.ArraySource(pixels, np.arange(10) % 3, 'abc', 'held')
    for form in (SMALL, loader.Form(8, 1, 'pad'), loader.Form(8, 3, 'pad'), loader.Form(5, 3, 'resize')):
        images, labels = loader.in_memory(source, form)
        assert loader.fits_in_memory(source) and len(images) == 10
        order = random_order(source)
        gather = jax.jit(loader.gather)
        for number, batch in enumerate(stream(source, 4, 4, form)):
            assert_same(loader.gather(images, labels, *order(4 * number, 4 * number + 4)), batch)
            traced = gather(images, labels, *order(4 * number, 4 * number + 4))
            assert_same({key: np.asarray(value) for key, value in traced.items()}, batch)


def test_batches_reach_the_devices_of_a_mesh():
    source = photographs()
    sharding = NamedSharding(Mesh(np.array(jax.devices()), ('data',)), PartitionSpec('data'))
    on_devices = stream(source, 4, 16, put=loader.to_device(sharding))
    for a, b in zip(on_devices, stream(source, 4, 16), strict=True):
        assert all(a[key].sharding == sharding and len(a[key].addressable_shards) == 8 for key in KEYS)
        assert_same({key: np.asarray(value) for key, value in a.items()}, b)


def test_an_error_on_the_way_to_the_device_is_raised():
    def put(batch):
        raise RuntimeError(f'no room for {batch["index"][0]}')

    with pytest.raises(RuntimeError, match='no room for 0'):
        stream(photographs(), 4, 8, order=functools.partial(loader.in_order, num_examples=24), put=put)


# Tests


@pytest.mark.parametrize('batch_size', [1, 3, 4, 10, 16])
def test_test_batches_hold_every_example_once(tmp_path, batch_size):
    in_folder = folder_source(tmp_path)
    held = example.ArraySource(np.zeros((10, 6, 6, 1), np.uint8), np.arange(10) // 5, 'ab', 'held')
    center = loader.Form(8, 1, crop=functools.partial(crops.center_crop, size=8, short_side=(9, 9)))
    for source in (in_folder, held):
        for form in (loader.Form(8, 1), center):
            batches = list(loader.test_batches(source, form, batch_size))
            assert [batch['image'].shape for batch in batches] == [(batch_size, 8, 8, 1)] * -(-10 // batch_size)
            batch = joined(batches)
            assert batch['index'][batch['mask']].tolist() == list(range(10)) and not batch['bad'].any()
            assert batch['label'][batch['mask']].tolist() == [0] * 5 + [1] * 5 and not batch['epoch'].any()


def test_of_large_images_one_is_in_memory_at_a_time(tmp_path, monkeypatch):
    source, lock, held, most = folder_source(tmp_path, 24), threading.Lock(), [], []

    def shrink(image):
        with lock:
            held.append(image)
            most.append(len(held))
        time.sleep(0.001)
        with lock:
            held.pop()

    monkeypatch.setattr(geometry, '_LARGE', 35)  # pixels
    assert len(list(loader.map_images(source, shrink, threads=8))) == 24 and max(most) == 1
    encoded = source[0].image
    assert geometry.decode(encoded).shape == geometry.decode(encoded).shape == (6, 6, 3)  # outside, without a turn


def test_test_batches_are_the_same_each_time():
    form = CROPPED._replace(crop=functools.partial(crops.center_crop, size=16, short_side=(20, 20)))
    once, again = (joined(loader.test_batches(photographs(), form, 7)) for _ in range(2))
    assert_same(once, again)
    expected = [crops.extract(i, crops.center_crop(24, 33, size=16, short_side=(20, 20))) for i in photographs().images]
    assert np.array_equal(once['image'][once['mask']], expected)


def test_an_image_too_large_to_pad(tmp_path):
    with pytest.raises(UserError, match='fit=resize'):
        loader.in_memory(datasets.open_source('synthetic', 'test', '', 64, 1, 10), loader.Form(32, 1, 'pad'))
    message = raised(loader.test_batches(folder_source(tmp_path), loader.Form(4, 1, 'pad'), 4))
    assert '0/000.png is 6x6, too large to be padded to 4x4' in message


# What cannot be read

BREAK = {
    'truncated': lambda path: path.write_bytes(path.read_bytes()[:40]),
    'empty': lambda path: path.write_bytes(b''),
    'text': lambda path: path.write_text('<html>404 Not Found</html>'),
    'vanished': lambda path: path.unlink(),
    'a folder': lambda path: (path.unlink(), path.mkdir()),
}
SAYS = {
    'truncated': '/1/007.png cannot be decoded: ',
    'empty': '/1/007.png cannot be decoded: it is not an image',
    'text': '/1/007.png cannot be decoded: it is not an image',
    'vanished': '/1/007.png: No such file or directory',
    'a folder': '/1/007.png is a folder, not a regular file',
}


@pytest.mark.parametrize('how', BREAK)
def test_an_image_that_cannot_be_read_stops_and_is_named(tmp_path, how):
    source = folder_source(tmp_path)
    BREAK[how](tmp_path / '1' / '007.png')
    for batches in (
        loader.stream(source, SMALL, random_order(source), 3, 4),
        loader.test_batches(source, SMALL, 4),
        loader.stream(source, SMALL, random_order(source), 3, 4, put=dict),
    ):
        message = raised(batches)
        assert message.startswith(str(tmp_path)) and SAYS[how] in message
        assert message.endswith('Fix or remove it, or pass --config.on_bad_image=skip to skip such images')


def test_batches_before_a_bad_image_are_given(tmp_path):
    source = folder_source(tmp_path)
    BREAK['empty'](tmp_path / '1' / '007.png')
    batches = loader.test_batches(source, SMALL, 3)
    assert next(batches)['index'].tolist() == [0, 1, 2] and next(batches)['index'].tolist() == [3, 4, 5]
    with pytest.raises(loader.BadImage, match='007.png'):
        next(batches)


def test_a_file_that_vanishes_in_mid_epoch_is_named(tmp_path):
    source = folder_source(tmp_path, 60)
    order = functools.partial(loader.in_order, num_examples=60)
    batches = loader.stream(source, SMALL, order, 30, 2, threads=1)
    next(batches)
    (tmp_path / '1' / '055.png').unlink()
    assert '/1/055.png: No such file or directory' in raised(batches)


@pytest.mark.parametrize('how', BREAK)
def test_a_bad_image_is_counted_and_another_takes_its_place(tmp_path, how):
    source = folder_source(tmp_path)
    for number in (3, 7, 9):
        BREAK[how](path_of(source, number))
    batch = joined(stream(source, 5, 4, SMALL, on_bad_image='skip'))
    assert sorted(batch['index'].tolist()) == sorted([*range(10)] * 2)  # the positions stay as they are
    bad = np.isin(batch['index'], (3, 7, 9))
    assert np.array_equal(batch['bad'], bad) and batch['mask'].all()
    taken = {3: 4, 7: 8, 9: 0}  # the next that is good; after the last the first
    for image, label, index in zip(batch['image'], batch['label'], batch['index'].tolist(), strict=True):
        example = taken.get(index, index)
        assert (image == example).all() and label == example // 5


@pytest.mark.parametrize('how', ['truncated', 'vanished'])
def test_replacement_depends_on_no_host_batch_size_or_thread(tmp_path, how):
    source = folder_source(tmp_path, 24, (24, 33), noise=True)
    for number in (2, 4, 5, 22, 23):
        BREAK[how](path_of(source, number))
    once = joined(stream(source, 6, 8, on_bad_image='skip'))
    assert once['bad'].sum() == 10
    for batch_size, threads in ((1, 3), (4, 1), (24, 2)):
        again = stream(source, 48 // batch_size, batch_size, on_bad_image='skip', threads=threads)
        assert_same(joined(again), once)
    parts = [stream(source, 6, 8, on_bad_image='skip', part=(host, 2)) for host in (0, 1)]
    assert_same(joined(batch for pair in zip(*parts, strict=True) for batch in pair), once)
    for number, other in ((4, 6), (22, 0)):
        row = int(np.flatnonzero(once['index'] == number)[0])
        draws = crops.Draws(3, int(once['epoch'][row]), number)  # another crop than the one of its own visit
        assert np.array_equal(once['image'][row], loader.prepare_image(source[other].image, CROPPED, draws)[0])


@pytest.mark.parametrize('batch_size', [3, 4, 10])
def test_bad_images_are_masked_out_of_tests_and_counted(tmp_path, batch_size):
    source = folder_source(tmp_path)
    for number, how in zip((0, 3, 4, 8, 9), BREAK, strict=True):
        BREAK[how](path_of(source, number))
    batch = joined(loader.test_batches(source, SMALL, batch_size, on_bad_image='skip'))
    assert batch['index'][batch['mask']].tolist() == [1, 2, 5, 6, 7]
    assert batch['index'][batch['bad']].tolist() == [0, 3, 4, 8, 9] and not (batch['bad'] & batch['mask']).any()


def test_a_hundred_bad_images_in_a_row_are_an_error(tmp_path):
    source = folder_source(tmp_path, 150, (2, 2))
    for number in range(40, 139):
        BREAK['empty'](path_of(source, number))
    order = functools.partial(loader.in_order, num_examples=150)
    batch = joined(stream(source, 15, 10, SMALL, order, on_bad_image='skip'))
    assert np.flatnonzero(batch['bad']).tolist() == list(range(40, 139)) and (batch['image'][40] == 139).all()
    BREAK['empty'](path_of(source, 139))
    message = raised(loader.stream(source, SMALL, order, 15, 10, on_bad_image='skip'))
    assert message == f'{tmp_path}: 100 images in a row cannot be read, from number 40 on'


def test_a_set_without_any_good_image_is_an_error(tmp_path):
    source = folder_source(tmp_path, 3)
    for number in range(3):
        BREAK['text'](path_of(source, number))
    message = raised(loader.stream(source, SMALL, random_order(source), 2, 3, on_bad_image='skip'))
    assert '100 images in a row cannot be read' in message


@pytest.fixture
def store(tmp_path):
    """A packed store of raw 8 x 8 images, in two shards."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    held = example.ArraySource(pixels, np.arange(60) % 3, 'abc', 'held')
    pack.pack({'train': held}, tmp_path / 'store', 8, raw=True, shard_records=30)
    return packed.PackedSource(tmp_path / 'store', 'train')


def test_a_label_out_of_range_is_named(store):
    with open(store.paths[1], 'r+b') as file:
        at = file.read().index(store[37].image.tobytes()) - packed.HEADER.size
        file.seek(at)
        file.write(b'\7\0\0\0')
    order = functools.partial(loader.in_order, num_examples=60)
    message = raised(loader.stream(store, SMALL, order, 15, 4))
    assert f'{store.name}[37] has the label 7, but the classes are 0 to 2. Fix or remove it' in message
    batch = joined(stream(store, 15, 4, SMALL, order, on_bad_image='skip'))
    assert np.flatnonzero(batch['bad']).tolist() == [37] and batch['label'][37] == 38 % 3
    assert np.array_equal(batch['image'][37], batch['image'][38])


def test_a_shard_that_is_cut_short_in_mid_epoch_names_the_record(store):
    order = functools.partial(loader.in_order, num_examples=60)
    batches = loader.stream(store, loader.Form(8, 3), order, 30, 2, threads=1)
    assert next(batches)['mask'].all()
    os.truncate(store.paths[1], 5000)
    message = raised(batches)
    number = int(message.split('[')[1].split(']')[0])
    assert 30 < number < 60
    assert f'{store.name}[{number}] cannot be read from {store.paths[1]}: it is truncated' in message
    batch = joined(stream(store, 30, 2, loader.Form(8, 3), order, on_bad_image='skip'))
    assert np.flatnonzero(batch['bad']).tolist() == list(range(number, 60))
    assert np.array_equal(batch['image'][59], store[0].image)


class Failing:
    """A source that fails at one example, in ways that are neither the image's nor the file's."""

    name, class_names = 'failing', 'a'

    def __init__(self, error, at=20):
        self.error, self.at = error, at

    def __len__(self):
        return 64

    def __getitem__(self, index):
        if index == self.at:
            raise self.error()
        return sources.Example(np.zeros((8, 8, 3), np.uint8), 0, f'failing[{index}]')


def broken_exception():
    error = LookupError('what is this')
    error.lock = lambda: None  # does not pickle
    return error


@pytest.mark.parametrize('put', [None, dict])
@pytest.mark.parametrize('error', [MemoryError, broken_exception, SystemExit])
def test_other_failures_are_raised_and_never_waited_for(error, put):
    order = functools.partial(loader.in_order, num_examples=64)
    with pytest.raises(RuntimeError, match='batch 5: (MemoryError|LookupError: what is this|SystemExit)'):
        list(loader.stream(Failing(error), SMALL, order, 16, 4, put=put))


# Worker processes


def streamed_by_two(source, num_batches=5000, batch_size=8, form=CROPPED, **options):
    return loader.stream(source, form, random_order(source), num_batches, batch_size, seed=3, workers=2, **options)


@pytest.mark.slow
@pytest.mark.parametrize('put', [None, dict])
def test_worker_processes_give_the_same_batches(tmp_path, put):
    source = folder_source(tmp_path, size=(30, 22))
    BREAK['empty'](path_of(source, 5))
    with_workers = list(streamed_by_two(source, 11, put=put, on_bad_image='skip'))
    assert all(type(batch['image']) is np.ndarray for batch in with_workers)
    assert_same(joined(with_workers), joined(stream(source, 11, 8, on_bad_image='skip')))
    test = [joined(loader.test_batches(source, SMALL, 3, 'skip', workers=workers)) for workers in (0, 1, 2)]
    assert_same(test[0], test[1])
    assert_same(test[0], test[2])
    assert not multiprocessing.active_children()
    until = time.monotonic() + 5  # Grain frees shared memory in a thread
    while '/dev/shm/psm' in Path('/proc/self/maps').read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert '/dev/shm/psm' not in Path('/proc/self/maps').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('put', [None, dict])
@pytest.mark.parametrize('kept', [0, 20])
def test_a_worker_that_dies_is_reported_within_seconds(put, kept):
    batches = streamed_by_two(photographs(), put=put)
    for _ in range(1 + kept):
        next(batches)
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    started = time.monotonic()
    assert 'an input worker process died (exit code -9, killed: possibly out of memory)' in raised(batches)
    assert time.monotonic() - started < 30 and not multiprocessing.active_children()


@pytest.mark.slow
@pytest.mark.parametrize('put', [None, dict])
@pytest.mark.parametrize('dies', [True, False])
def test_a_lock_of_grains_that_is_never_released_blocks_nothing(put, dies, monkeypatch):
    """Grain's `close` and its iterators would wait forever for the lock of a worker that died or is stuck."""
    monkeypatch.setattr(loader, '_GRACE', 2)
    others = _events()
    batches = streamed_by_two(photographs(), put=put)
    next(batches)
    events = [thing for thing in _events() if not any(thing is other for other in others)]
    assert events and all(event._cond.acquire(timeout=20) for event in events)
    children = multiprocessing.active_children()
    if dies:
        os.kill(children[0].pid, signal.SIGKILL)
        assert 'an input worker process died (exit code -9' in raised(batches)
    else:
        batches.close()
    assert not any(child.is_alive() for child in children) and not multiprocessing.active_children()
    for event in events:
        event._cond.release()


def _events():
    return [thing for thing in gc.get_objects() if type(thing) is synchronize.Event]


@pytest.mark.slow
@pytest.mark.parametrize('put', [None, dict])
def test_errors_of_workers_reach_the_user(tmp_path, put):
    source = folder_source(tmp_path, 40)
    BREAK['text'](path_of(source, 33))
    message = raised(streamed_by_two(source, put=put))
    assert '/1/033.png cannot be decoded: it is not an image that Pillow can read. Fix or remove it' in message
    with pytest.raises(RuntimeError, match='batch 2: LookupError: what is this'):
        order = functools.partial(loader.in_order, num_examples=64)
        list(loader.stream(Failing(broken_exception), SMALL, order, 8, 8, workers=2, put=put))
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_workers_leave_the_signals_of_the_terminal_to_the_run():
    batches = streamed_by_two(photographs())
    first = [next(batches) for _ in range(4)]
    for process in multiprocessing.active_children():
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGTERM)
    assert_same(joined(first + [next(batches) for _ in range(20)]), joined(stream(photographs(), 24, 8)))
    batches.close()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_workers_end_with_the_process_that_they_work_for(script):
    program = """
        import multiprocessing, sys, time
        sys.path.insert(0, 'tests')
        import test_loader

        if __name__ == '__main__':
            batches = test_loader.streamed_by_two(test_loader.photographs())
            for _ in range(4):
                next(batches)
            print(*[process.pid for process in multiprocessing.active_children()], flush=True)
            time.sleep(60)
    """
    program = '\n'.join(line[8:] for line in program.splitlines())
    with subprocess.Popen(
        [sys.executable, '-c', program], cwd=ROOT, env=script.env, stdout=subprocess.PIPE, text=True
    ) as process:
        workers = list(map(int, process.stdout.readline().split()))
        assert len(workers) == 2 and all(os.path.exists(f'/proc/{worker}') for worker in workers)
        process.kill()
    until = time.monotonic() + 20
    while any(_runs(worker) for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(_runs(worker) for worker in workers)


def _runs(process):
    try:
        with open(f'/proc/{process}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_closing_ends_the_reading_ahead():
    class Counted(Failing):
        read = 0

        def __getitem__(self, index):
            Counted.read += 1
            return super().__getitem__(index)

    source = Counted(MemoryError, at=None)
    order = functools.partial(loader.in_order, num_examples=64)
    batches = loader.stream(source, SMALL, order, 16, 4, threads=1, put=dict)
    next(batches)
    batches.close()
    time.sleep(0.2)
    read = Counted.read
    time.sleep(0.3)
    assert Counted.read == read < 64
