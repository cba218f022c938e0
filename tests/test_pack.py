import contextlib
import io
import json
import os
import pickle
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from conftest import ROOT
from PIL import Image

from input_pipeline import datasets, geometry, pack, packed, sources
from input_pipeline.example import ArraySource
from runtime.errors import UserError

SIZES = ((40, 60), (60, 40), (24, 24), (24, 31), (13, 17), (90, 25))  # height, width


def photograph(height, width, seed):
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def images(tmp_path):
    """A class folder source of 12 images of several sizes and forms."""
    for number in range(12):
        folder = tmp_path / 'images' / 'ab'[number // 6]
        folder.mkdir(parents=True, exist_ok=True)
        image = photograph(*SIZES[number % 6], number)
        if number in (7, 9):
            image.convert('CMYK').save(folder / f'{number:02}.JPEG', 'JPEG')
        elif number == 8:
            image.convert('L').save(folder / f'{number:02}.JPEG', 'JPEG')
        else:
            image.save(folder / f'{number:02}.JPEG', 'PNG' if number == 4 else 'JPEG')
    return sources.FolderSource(tmp_path / 'images')


def shards(folder):
    """The files of a split's folder: its shards, and the index of each."""
    held = {path.name: path.read_bytes() for path in sorted((folder / 'train').iterdir())}
    assert {name.split('.')[1] for name in held} <= {'array_record', 'places'}
    return held


def test_a_raw_store_holds_the_resized_pixels(images, tmp_path):
    pack.pack({'train': images}, tmp_path / 'store', 24, raw=True, shard_records=5)
    store = datasets.open_source('pack', 'train', str(tmp_path / 'store'))
    assert len(store) == 12 and store.class_names == ('a', 'b') and store.notes == []
    expected_sizes = {(40, 60): (24, 36), (60, 40): (36, 24), (13, 17): (24, 31), (90, 25): (86, 24)}  # 31.38, 86.4
    for number, (example, original) in enumerate(zip(store, images, strict=True)):
        size = expected_sizes.get(SIZES[number % 6], SIZES[number % 6])
        decoded = geometry.decode(original.image)
        assert example.image.shape == (*size, 3) and example.label == original.label
        assert example.name == f'{tmp_path}/store/train[{number}]'
        assert np.array_equal(
            example.image, np.asarray(Image.fromarray(decoded).resize(size[::-1], Image.Resampling.BILINEAR))
        )
        assert example.image.base is not None  # a view of the record
    names = [f'pack-0000{i}-of-00003.{suffix}' for i in range(3) for suffix in ('array_record', 'places.npy')]
    assert list(shards(tmp_path / 'store')) == names


def test_half_a_pixel_of_the_long_side_is_rounded_up(tmp_path):
    for height, width, short_side, expected in ((4, 6, 3, (3, 5)), (6, 4, 3, (5, 3)), (500, 375, 256, (341, 256))):
        source = ArraySource(np.zeros((1, height, width, 3), np.uint8), [0], 'a', 'one')  # 4.5 -> 5
        record = pack.prepare_record(source, 0, short_side, 'raw', 3)
        assert packed.from_record(record, '').image.shape[:2] == expected


def test_a_jpeg_store_is_quality_95_with_halved_chroma(images, tmp_path):
    pack.pack({'train': images}, tmp_path / 'store', 24)
    store = packed.PackedSource(tmp_path / 'store', 'train')
    for number, (example, original) in enumerate(zip(store, images, strict=True)):
        assert isinstance(example.image, bytes) and example.label == original.label
        if number in (2, 3, 8):  # of that size already: stored untouched, the gray one too, but not the CMYK one
            assert example.image == original.image
            continue
        decoded = geometry.decode(original.image)
        size = packed.from_record(pack.prepare_record(images, number, 24, 'raw', 3), '').image.shape[:2]
        resized = Image.fromarray(decoded).resize(size[::-1], Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        resized.save(buffer, 'JPEG', quality=95, subsampling='4:2:0')
        assert np.array_equal(geometry.decode(example.image), geometry.decode(buffer.getvalue()))


def test_gray_stores(tmp_path):
    digits = datasets.open_source('digits', 'test')
    for raw in (False, True):
        folder = tmp_path / f'store{raw}'
        pack.pack({'test': digits}, folder, 8, raw=raw, channels=1)
        store = packed.PackedSource(folder, 'test')
        example = store[359]
        image = geometry.decode(example.image, 1) if not raw else example.image
        assert image.shape == (8, 8, 1) and len(store) == 360 and example.label == digits[359].label
        assert np.abs(image.astype(int) - digits[359].image).max() <= (0 if raw else 24)


def test_the_manifest_says_what_is_in_the_store(images, tmp_path):
    folder = tmp_path / 'store'
    returned = pack.pack({'train': images, 'val[:2]': images}, folder, 24, shard_records=7, command='the command')
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest == returned and sorted(p.name for p in folder.iterdir()) == ['manifest.json', 'train', 'val__2_']
    assert (manifest['format'], manifest['kind'], manifest['short_side'], manifest['quality']) == (1, 'jpeg', 24, 95)
    for split, place in (('train', 'train'), ('val[:2]', 'val__2_')):
        held = manifest['splits'][split]
        assert (
            held['source'] == f'{tmp_path}/images' and held['num_examples'] == 12 and held['command'] == 'the command'
        )
        assert held['class_names'] == ['a', 'b'] and [shard['count'] for shard in held['shards']] == [7, 5]
        for shard in held['shards']:
            path = folder / place / shard['name']
            assert path.stat().st_size == shard['bytes'] and packed.sha256(path) == shard['sha256']
        assert len(packed.PackedSource(folder, split)) == 12
    assert packed.verify(folder) == (4, 24)
    with pytest.raises(UserError, match=r'no split .vall., did you mean'):
        packed.PackedSource(folder, 'vall')


class Interrupt(Exception):
    pass


class Interrupted:
    """A source that ends the process's work, as far as Python can, at one example."""

    def __init__(self, source, at):
        self.source, self.at = source, at
        self.name, self.class_names, self.asked = source.name, source.class_names, []

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        self.asked.append(index)
        if index == self.at:
            raise Interrupt
        return self.source[index]


@pytest.mark.parametrize('raw', [False, True])
def test_an_interrupted_store_is_finished_to_the_same_bytes(images, tmp_path, raw):
    pack.pack({'train': images}, tmp_path / 'straight', 24, raw=raw, shard_records=4, threads=1)
    source, folder = Interrupted(images, 9), tmp_path / 'store'
    with pytest.raises(Interrupt):
        pack.pack({'train': source}, folder, 24, raw=raw, shard_records=4, threads=2, command='python -m it again')
    assert len(shards(folder)) == 4  # two of three shards, and their places
    with pytest.raises(UserError, match=r'train is not finished \(2 of 3 shards\). Finish it: python -m it again'):
        packed.PackedSource(folder, 'train')
    (folder / 'train' / 'pack-00002-of-00003.array_record').write_bytes(b'whole, but not entered in the manifest')
    (folder / 'train' / 'pack-00002-of-00003.array_record.partial').write_bytes(b'half')
    again = Interrupted(images, None)
    pack.pack({'train': again}, folder, 24, raw=raw, shard_records=4, threads=1)
    assert again.asked == [8, 9, 10, 11]  # complete shards are not written again
    assert shards(folder) == shards(tmp_path / 'straight')
    once_more = Interrupted(images, None)
    pack.pack({'train': once_more}, folder, 24, raw=raw, shard_records=4)
    assert once_more.asked == [] and packed.verify(folder) == (3, 12)


@pytest.mark.slow
def test_killed_and_finished_by_the_command_line(script, tmp_path):
    command = [
        'data.py',
        'pack',
        '--config',
        'configs/lenet5_digits.py',
        '--config.test_split=test',
        '--split',
    ]
    command += ['test', '--short_side', '8', '--shard_records', '2', '--raw']
    folder, straight = tmp_path / 'store', tmp_path / 'straight'
    with subprocess.Popen([sys.executable, *command, '--out', str(folder)], cwd=ROOT, env=script.env) as process:
        until = time.monotonic() + 60
        while not ((folder / 'test').is_dir() and len(os.listdir(folder / 'test')) > 10) and time.monotonic() < until:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    done = len(json.loads((folder / 'manifest.json').read_text())['splits']['test']['shards'])
    assert 4 <= done < 180
    with pytest.raises(UserError, match='not finished') as error:
        datasets.open_source('pack', 'test', str(folder))
    printed = shlex.split(re.search(r'Finish it: python (.*)', str(error.value))[1])
    finished = script(*printed)
    assert finished.returncode == 0, finished.stderr
    assert re.search(r'test: 360 images in 180 shard\(s\), [\d.]+ MB', finished.stdout)
    assert f'train from it: --config.dataset=pack --config.data_dir={folder}' in finished.stdout
    pack.pack({'test': datasets.open_source('digits', 'test')}, straight, 8, raw=True, channels=1, shard_records=2)
    for path in (straight / 'test').iterdir():
        assert (folder / 'test' / path.name).read_bytes() == path.read_bytes()
    verified = script('data.py', 'pack', '--verify', folder)
    assert verified.returncode == 0 and 'is complete: 360 examples in 180 shards' in verified.stdout, verified.stderr
    broken = folder / 'test' / 'pack-00007-of-00180.array_record'
    broken.write_bytes(broken.read_bytes()[:-1] + b'?')
    verified = script('data.py', 'pack', '--verify', folder)
    assert verified.returncode == 2 and len(verified.stderr.splitlines()) == 1
    assert broken.name in verified.stderr and 'has another SHA-256 than when it was written' in verified.stderr


def test_a_shard_that_is_cut_short_or_missing_is_refused_and_written_again(images, tmp_path):
    folder = tmp_path / 'store'
    pack.pack({'train': images}, folder, 24, shard_records=4, command='this again')
    before, path = shards(folder), folder / 'train' / 'pack-00001-of-00003.array_record'
    open_store = packed.PackedSource(folder, 'train')
    os.truncate(path, 1000)
    with pytest.raises(UserError, match=r'pack-00001-of-00003.array_record has 1,000 bytes, .* this again'):
        packed.PackedSource(folder, 'train')
    with pytest.raises(UserError, match='pack-00001-of-00003'):
        packed.verify(folder)
    with pytest.raises(OSError, match='pack-00001-of-00003.array_record'):
        open_store[5]
    assert open_store[3].label == 0  # the others are undamaged
    path.unlink()
    with pytest.raises(UserError, match='pack-00001-of-00003.array_record is missing'):
        packed.PackedSource(folder, 'train')
    pack.pack({'train': images}, folder, 24, shard_records=4)
    assert shards(folder) == before


def test_a_shard_cut_under_an_open_store(images, tmp_path):
    pack.pack({'train': images}, tmp_path / 'store', 24, raw=True)
    store = packed.PackedSource(tmp_path / 'store', 'train')
    assert store[0].label == 0
    os.truncate(store.paths[0], 3000)
    with pytest.raises(OSError, match=r'train\[11\] cannot be read from .*array_record: it is truncated'):
        store[11]


def test_places_are_those_that_array_record_reads(tmp_path):
    path = tmp_path / 'shard.array_record'
    rng = np.random.default_rng(0)
    block = 65_536 - 24
    sizes = [0, 1, 127, 128, block, block - 1, block - 46, 16_383, 16_384, 40_000_000, *rng.integers(0, 300_000, 100)]
    records = [rng.bytes(int(size)) for size in sizes]
    with contextlib.closing(ArrayRecordWriter(str(path), 'group_size:1,uncompressed')) as writer:
        for record in records:
            writer.write(record)
    places = packed.find_places(path, sizes)
    file = os.open(path, os.O_RDONLY)
    try:
        assert all(packed.read_place(file, *place).tobytes() == r for place, r in zip(places, records, strict=True))
    finally:
        os.close(file)
    assert packed.find_places(path, sizes[1:]) is None
    with contextlib.closing(ArrayRecordWriter(str(path), 'group_size:1')) as writer:  # compressed: not as they are
        writer.write(bytes(1000))
    assert packed.find_places(path, [1000]) is None


def test_a_store_without_places_is_read_by_array_record(images, tmp_path):
    pack.pack({'train': images}, tmp_path / 'store', 24, raw=True, shard_records=5)
    store = packed.PackedSource(tmp_path / 'store', 'train')
    for path in (tmp_path / 'store' / 'train').glob('*.npy'):
        path.unlink()
    slow = packed.PackedSource(tmp_path / 'store', 'train')
    assert store.notes == [] and 'has no .places.npy: reading is slower (3 such shards)' in slow.notes[0]
    with ThreadPoolExecutor(4) as pool:  # all begin with the readers not yet open
        for a, b in zip(store, pool.map(slow.__getitem__, range(12)), strict=True):
            assert np.array_equal(a.image, b.image) and a[1:] == b[1:]
    os.truncate(slow.paths[2], 1000)
    with pytest.raises((OSError, ValueError), match=r'train\[11\] '):
        slow[11]


def test_damage_within_a_shard_is_detected(images, tmp_path):
    pack.pack({'train': images}, tmp_path / 'store', 24, raw=True)
    store = packed.PackedSource(tmp_path / 'store', 'train')
    with open(store.paths[0], 'r+b') as file:
        at = file.read().index(store[6].image.tobytes()[:100])
        file.seek(at)
        file.write(b'????')
    with pytest.raises(UserError, match='has another SHA-256 than when it was written'):
        packed.verify(tmp_path / 'store')
    with open(store.paths[0], 'r+b') as file:
        file.seek(at - packed.HEADER.size)
        file.write(b'????')
    with pytest.raises(ValueError, match=r'train\[6\] has the label \d+, but the classes are 0 to 1'):
        store[6]
    with open(store.paths[0], 'r+b') as file:
        file.seek(at - packed.HEADER.size)
        file.write(b'\0\0\0\0??')
    with pytest.raises(ValueError, match=r'train\[6\] is not a record of a packed store'):
        store[6]


def test_other_settings_and_foreign_folders_are_refused(images, tmp_path):
    folder = tmp_path / 'store'
    pack.pack({'train': images}, folder, 24, shard_records=4)
    for options, message in (
        ({'short_side': 25}, 'was started with short_side 24, not 25'),
        ({'raw': True}, "was started with kind 'jpeg', not 'raw'"),
        ({'channels': 1}, 'was started with channels 3, not 1'),
        ({'shard_records': 5}, 'train was started with shard_records 4, not 5'),
    ):
        with pytest.raises(UserError, match=message):
            pack.pack({'train': images}, folder, **({'short_side': 24, 'shard_records': 4} | options))
    with pytest.raises(UserError, match='train was started with source '):
        pack.pack({'train': datasets.open_source('digits', 'test')}, folder, 24, shard_records=4)
    with pytest.raises(UserError, match=r'contains other files \(a\)'):
        pack.pack({'train': images}, tmp_path / 'images', 24)
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other' / 'manifest.json').write_text('{"name": "a web app"}')
    with pytest.raises(UserError, match='is not the manifest of a packed store'):
        pack.pack({'train': images}, tmp_path / 'other', 24)
    (tmp_path / 'other' / 'manifest.json').write_text('{"format": 1, "spl')
    with pytest.raises(UserError, match='that can be read'):
        datasets.open_source('pack', 'train', str(tmp_path / 'other'))
    with pytest.raises(UserError, match='is not a packed store: .*python data.py pack --config'):
        datasets.open_source('pack', 'train', str(tmp_path / 'images'))
    with pytest.raises(UserError, match='--short_side must be above 0'):
        pack.pack({'train': images}, tmp_path / 'new', 0)
    assert not (tmp_path / 'new').exists()


def test_one_packer_at_a_time(images, tmp_path):
    class Nosy(Interrupted):
        def __getitem__(self, index):
            with pytest.raises(UserError, match='another process is packing'):
                pack.pack({'train': images}, tmp_path / 'store', 24)
            return super().__getitem__(index)

    pack.pack({'train': Nosy(images, None)}, tmp_path / 'store', 24)


def test_bad_images_stop_or_are_left_out(images, tmp_path):
    folder, path = tmp_path / 'store', tmp_path / 'images' / 'a' / '01.JPEG'
    path.write_bytes(path.read_bytes()[:200])
    (tmp_path / 'images' / 'b' / '09.JPEG').unlink()
    Image.new('L', (20_000, 7)).save(tmp_path / 'images' / 'b' / '10.JPEG', 'PNG')
    with pytest.raises(UserError, match=r'images/a/01.JPEG cannot be decoded.*--config.on_bad_image=skip'):
        pack.pack({'train': images}, folder, 24, shard_records=4)
    assert not shards(folder)
    manifest = pack.pack({'train': images}, folder, 24, shard_records=4, on_bad_image='skip')
    held = manifest['splits']['train']
    left_out = [name for shard in held['shards'] for name in shard['left_out']]
    assert [shard['count'] for shard in held['shards']] == [3, 4, 2] and held['num_examples'] == 9
    assert 'a/01.JPEG cannot be decoded' in left_out[0] and 'b/09.JPEG' in left_out[1]
    assert 'b/10.JPEG is 7x20000: at a short side of 24 its long side would be 68,571 pixels' in left_out[2]
    store = packed.PackedSource(folder, 'train')
    assert len(store) == 9 and '3 invalid images were skipped' in store.notes[0]
    kept = [geometry.decode(images[i].image).shape for i in (0, 2, 3, 4, 5, 6, 7, 8, 11)]
    shapes = [geometry.decode(example.image).shape for example in store]
    assert [a[0] < a[1] for a in kept] == [b[0] < b[1] for b in shapes]
    wrong = datasets.open_source('digits', 'test')
    wrong.labels[3] = 11
    with pytest.raises(UserError, match=r'digits/test\[3\] has the label 11, but the classes are 0 to 9'):
        pack.pack({'test': wrong}, tmp_path / 'wrong', 8)


def test_threads_and_pickles(tmp_path):
    rng = np.random.default_rng(0)
    held = ArraySource(rng.integers(0, 256, (300, 9, 12, 3), np.uint8), np.arange(300) % 7, 'abcdefg', 'held')
    pack.pack({'train': held}, tmp_path / 'store', 9, raw=True, shard_records=70)
    store = packed.PackedSource(tmp_path / 'store', 'train')
    order = rng.integers(0, 300, 3000)
    copy = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) < 500
    del store
    with ThreadPoolExecutor(8) as pool:
        for i, example in zip(order, pool.map(copy.__getitem__, order), strict=True):
            assert np.array_equal(example.image, held.images[i]) and example.label == i % 7
            assert example.name == f'{tmp_path}/store/train[{i}]'
    for wrong in (300, -1):
        with pytest.raises(IndexError):
            copy[wrong]


def test_a_store_can_be_packed_again(images, tmp_path):
    pack.pack({'train': images}, tmp_path / 'large', 36, raw=True)
    pack.pack({'train': packed.PackedSource(tmp_path / 'large', 'train')}, tmp_path / 'small', 12)
    small = packed.PackedSource(tmp_path / 'small', 'train')
    assert [example.label for example in small] == [0] * 6 + [1] * 6
    assert min(geometry.decode(small[0].image).shape[:2]) == 12


def test_a_full_disk_is_one_line(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), np.uint8)
    source = ArraySource(pixels, np.zeros(300), 'a', 'held')
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r'pack-00000-of-00001.array_record.partial cannot be written: .*too large'):
            pack.pack({'train': source}, tmp_path / 'store', 32, raw=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / 'store' / 'train').iterdir()) == []
    pack.pack({'train': source}, tmp_path / 'store', 32, raw=True)
    assert len(packed.PackedSource(tmp_path / 'store', 'train')) == 300


def test_the_command_line_says_what_is_wrong(script, tmp_path):
    for arguments, message in (
        (['--out', tmp_path / 'x'], 'no config: pass --config'),
        (['--config', 'configs/lenet5_digits.py'], 'no store: pass --out STORE'),
        (['--verify', tmp_path], 'is not a packed store'),
    ):
        done = script('data.py', 'pack', *arguments)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
