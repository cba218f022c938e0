"""Damaged data: every reader reads it, or refuses it in a line that names the file; only regular files are read."""

import collections
import gzip
import io
import json
import os
import struct
import tarfile
import types
from pathlib import Path

import foreign_files
import numpy as np
import pytest
from foreign_files import FORMATS, IMAGES, INNER, LABELS, idx, jpeg, noise, tar_of
from mutate import damaged, damaged_json, damaged_zip

from evaluation import label_sets, prediction
from input_pipeline import classes, geometry, labels, pack, packed, small_sets, sources, tar
from input_pipeline.example import ArraySource
from runtime.errors import UserError
from runtime.text import printable


def images_of(source):
    """Read all images; an image that cannot be read is an OSError or a ValueError."""
    for number in range(len(source)):
        try:
            source[number]
        except (OSError, ValueError) as error:
            assert str(error)


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """The indices of tars are next to them."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


REBUILT = ('index of a tar', 'index of a tar, forged')  # a damaged index is not read
HERE = [name for name in FORMATS if name != 'checkpoint (Orbax)']  # see test_checkpoints.py


@pytest.mark.filterwarnings('ignore:Duplicate name')  # from zipfile, which writes the copy
@pytest.mark.parametrize('name', HERE)
def test_a_damaged_file_is_read_right_or_refused_in_a_line_that_names_it(tmp_path, name):
    form = FORMATS[name]
    files, outcomes = form.make(), collections.Counter()
    foreign_files.place(files, tmp_path / 'whole')
    how, whole = foreign_files.read(form, tmp_path / 'whole')
    assert how == 'read', whole
    for seed in range(40):
        path, content = foreign_files.mutant(form, files, seed)
        foreign_files.place(files | {path: content}, tmp_path / f'{seed}')
        how, value = foreign_files.read(form, tmp_path / f'{seed}')
        assert how == 'refused' or foreign_files.is_right(form, value, content, whole), (seed, how, value)
        outcomes[how] += 1
    assert outcomes['refused'] > 5 or name in REBUILT


@pytest.mark.parametrize('name', [name for name in HERE if not FORMATS[name].unpacks and name not in REBUILT])
def test_a_fifo_and_a_huge_file_are_not_read(tmp_path, name):
    form = FORMATS[name]
    files = form.make()
    foreign_files.place(files, tmp_path)
    path = next(tmp_path / path for path in files if Path(path).match(form.target))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises((UserError, FileNotFoundError)):
        form.read(tmp_path)
    path.unlink()
    path.touch()
    os.truncate(path, 6 << 30)
    with pytest.raises(UserError):
        form.read(tmp_path)


# Images


@pytest.mark.parametrize('height, width', [(48, 128), (192, 128), (96, 64), (96, 256), (104, 128), (96, 136)])
def test_a_jpeg_whose_header_declares_another_size_is_refused(height, width):
    whole = jpeg(96, 128)
    at = whole.index(b'\xff\xc0') + 5
    for channels in (1, 3):
        assert geometry.decode(whole, channels).shape == (96, 128, channels)
        with pytest.raises(ValueError, match='cannot be decoded: its header declares another size'):
            geometry.decode(whole[:at] + struct.pack('>HH', height, width) + whole[at + 4 :], channels)
    marker = whole.rindex(b'\xff\xd9')
    assert geometry.decode(whole[:marker] + b'padding' + whole[marker:]).shape == (96, 128, 3)  # as some cameras add


def test_an_image_that_is_not_a_regular_file_is_a_bad_image(tmp_path):
    (tmp_path / 'a').mkdir()
    os.mkfifo(tmp_path / 'a' / '1.jpg')
    (tmp_path / 'a' / '2.jpg').symlink_to('/dev/zero')
    (tmp_path / 'a' / '3.jpg').touch()
    os.truncate(tmp_path / 'a' / '3.jpg', 6 << 30)
    (tmp_path / 'a' / '4.jpg').mkdir()
    source, files = sources.FolderSource(tmp_path), prediction.Files(prediction.files([tmp_path / 'a'])[0])
    for number, says in enumerate(('is a FIFO', 'is a device', 'has 6,442,450,944 bytes', 'is a folder')):
        for each in (source, files):
            with pytest.raises(OSError, match=f'a/{number + 1}.jpg {says}'):
                each[number]
    with pytest.raises(UserError, match='1.jpg is not a file or folder'):
        prediction.files([tmp_path / 'a' / '1.jpg'])


# Small data sets


def test_an_idx_file_is_unpacked_to_the_size_that_it_declares(tmp_path):
    path = tmp_path / 't10k-images-idx3-ubyte.gz'
    (tmp_path / 't10k-labels-idx1-ubyte').write_bytes(idx(LABELS))
    for data in (
        gzip.compress(idx(IMAGES) + bytes(50 << 20), 1),
        gzip.compress(struct.pack('>4I', 0x803, 200_000, 28, 28) + bytes(200_000 * 784), 1),
        gzip.compress(struct.pack('>4I', 0x2803, *IMAGES.shape) + IMAGES.tobytes()),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match='is not a complete IDX file'):
            small_sets.idx(tmp_path, 'test', 'MNIST', '')


def test_files_of_cifar_have_the_same_number_of_images(tmp_path):
    (tmp_path / 'data_batch_1.bin').write_bytes(bytes(3 * 3073))
    (tmp_path / 'data_batch_2.bin').write_bytes(bytes(5 * 3073))
    with pytest.raises(UserError, match='not data_batch_1.bin 3, data_batch_2.bin 5; fetch CIFAR-10 again'):
        small_sets.cifar(tmp_path, 'train', small_sets.CIFAR10, 'labels')


# Labels


@pytest.mark.parametrize(
    'lists', [[[1], [1000], [2]], [[1], [-1], [2]], [[1], [True], [2]], [[1], [0.5], [2]], [1, 2, 3]]
)
def test_real_labels_are_classes(tmp_path, lists):
    (tmp_path / 'real.json').write_text(json.dumps(lists))
    with pytest.raises(UserError, match='real.json is not real.json, a list of lists of classes, that can be read'):
        label_sets._real(str(tmp_path / 'real.json'), foreign_files.THREE)


def test_a_huge_class_number_is_out_of_range(tmp_path):
    for number in (10**18, '9' * 5000):
        (tmp_path / 'labels.txt').write_text(f'a.jpg 0\nb.jpg {number}\n')
        with pytest.raises(UserError, match='labels.txt'):
            labels.read_labels(tmp_path / 'labels.txt', ['a.jpg', 'b.jpg'])


# Tars


def test_members_of_a_tar_that_are_links_or_sparse(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    folder = tmp_path / 'train'
    folder.mkdir()
    with tarfile.open(folder / 'n0.tar', 'w') as archive:
        for name, data in (('a.JPEG', b'first'), ('b.JPEG', b'b'), ('a.JPEG', b'second')):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo('c.JPEG')
        link.type, link.linkname = tarfile.LNKTYPE, 'b.JPEG'
        archive.addfile(link)
    source = tar.TarSource(folder)
    assert [example.image for example in source] == [b'second', b'b', b'b'] and source.notes == []
    link.linkname = 'none.JPEG'
    with tarfile.open(folder / 'n0.tar', 'w') as archive:
        archive.addfile(link)
    with pytest.raises(UserError, match='a hard link c.JPEG to none.JPEG, which is not before it'):
        tar.TarSource(folder)
    sparse = bytearray(tar_of({'a.JPEG': b'data'}))
    sparse[156:157] = tarfile.GNUTYPE_SPARSE
    sparse[148:156] = b'%06o\0 ' % (sum(sparse[:148]) + 8 * 32 + sum(sparse[156:512]))
    (folder / 'n0.tar').write_bytes(sparse)
    with pytest.raises(UserError, match='has the sparse file a.JPEG: make the tar again without --sparse'):
        tar.TarSource(folder)


@pytest.mark.parametrize('size', [-(1 << 20), 1 << 40])
@pytest.mark.parametrize('kind', [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_tar_whose_header_declares_an_impossible_size(tmp_path, monkeypatch, size, kind):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    data = bytearray(tar_of({'a.JPEG': b'data'}))
    data[124:136] = (size % 2**96 | (0x80 << 88 if size > 0 else 0)).to_bytes(12, 'big')
    data[156:157] = kind
    data[148:156] = b'%06o\0 ' % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
    (tmp_path / 'n0.tar').write_bytes(data)
    with pytest.raises(UserError, match='n0.tar '):
        tar.TarSource(tmp_path)


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_a_damaged_index_of_a_tar_is_built_again(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    path, index = tmp_path / 'train.tar', tmp_path / 'train.tar.index.npz'
    path.write_bytes(tar_of({'n0.tar': INNER, 'n1.tar': INNER}))
    expected = [(example.image, example.label) for example in tar.TarSource(path)]
    whole = index.read_bytes()
    with np.load(index) as file:
        arrays = dict(file)
    for copy in (*damaged(whole, 1, 60), *damaged_zip(whole, 1, 60)):
        index.write_bytes(copy)
        source = tar.TarSource(path, on_bad_image='skip')
        assert len(source.offsets) == len(source.sizes) and all(source.labels >= 0) and all(source.labels < 2)
        images_of(source)
    for key, value in (('offsets', 10**6), ('sizes', -1), ('labels', 2), ('labels', -1), ('tar', 1)):
        np.savez(index, **arrays | {key: np.full_like(arrays[key], value)})
        assert [(example.image, example.label) for example in tar.TarSource(path)] == expected


# Packed stores


@pytest.fixture
def store(tmp_path):
    source = ArraySource(noise(12, 8, 8, 3), np.arange(12) % 3, 'abc', 'noise')
    pack.pack({'train': source}, tmp_path / 'store', 8, raw=True, shard_records=12)
    return tmp_path / 'store', [example.image.tobytes() for example in source]


def read_store(folder):
    return [example.image.tobytes() for example in packed.PackedSource(folder, 'train')]


def without_digest(folder):
    """Turn a store into one of an older version, whose manifest has no checksum of the places."""
    manifest = json.loads((folder / 'manifest.json').read_text())
    del manifest['splits']['train']['shards'][0]['places_sha256']
    (folder / 'manifest.json').write_text(json.dumps(manifest))


@pytest.mark.parametrize('digest', [True, False])
def test_wrong_places_are_refused_by_the_reader_and_the_check(store, digest):
    folder, images = store
    if not digest:
        without_digest(folder)
    assert read_store(folder) == images and packed.verify(folder) == (1, 12)
    (path,) = (folder / 'train').glob('*.npy')
    right = np.load(path)
    wrong = {
        'one place': np.repeat(right[:1], 12, 0),
        'exchanged': right[::-1],
        'one twice': right[[0, 1, 1, *range(3, 12)]],
        'fewer': right[:-1],
        'overlapping': right + np.array([0, 100]),
        'outside': right + np.array([1 << 20, 0]),
        'negative': right - np.array([1000, 0]),
        'another type': right.astype(np.float64),
        'empty records': right * np.array([1, 0]),
    }
    for name, places in wrong.items():
        np.save(path, places)
        for read in (read_store, packed.verify):
            with pytest.raises(UserError, match='places.npy is not the index of a shard .*write both again'):
                read(folder)
                pytest.fail(name)
    np.save(path, right - np.array([1, 0]))  # records of the right sizes, one byte off
    with pytest.raises(UserError, match='places.npy'):
        packed.verify(folder)
    path.unlink()
    assert read_store(folder) == images and packed.verify(folder) == (1, 12)


def test_a_damaged_index_of_a_shard_never_gives_other_images(store):
    folder, _ = store
    (path,) = (folder / 'train').glob('*.npy')
    whole = path.read_bytes()
    for copy in damaged(whole, 29, 100):
        path.write_bytes(copy)
        if copy != whole:
            with pytest.raises(UserError, match='places.npy'):
                read_store(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match='places.npy is a FIFO'):
        read_store(folder)


def test_a_damaged_manifest_is_refused_in_a_line(store):
    folder, _ = store
    path = folder / 'manifest.json'
    whole = path.read_bytes()
    for copy in (*damaged(whole, 29, 100), *damaged_json(json.loads(whole), 29, 200)):
        path.write_bytes(copy)
        for read in (read_store, packed.verify):
            try:
                read(folder)
            except UserError as error:
                assert 'manifest.json' in str(error) or str(folder) in str(error) or 'no split' in str(error)


def test_records_of_a_damaged_shard_are_read_or_refused(store):
    folder, _ = store
    (path,) = (folder / 'train').glob('*.array_record')
    whole, places = bytearray(path.read_bytes()), np.load(next((folder / 'train').glob('*.npy')))
    for seed, (place, _) in enumerate(places):
        header = packed.HEADER.size
        at = place + packed._BLOCK_HEADER
        for copy in damaged(bytes(whole[at : at + header]), seed, 20):
            changed = whole.copy()
            changed[at : at + header] = copy[:header].ljust(header, b'\0')
            path.write_bytes(changed)
            images_of(packed.PackedSource(folder, 'train'))


# Names


def test_names_are_printed_without_control_characters():
    assert printable('caf\xe9 $x$ [red] \x1b[31m\r\n\udcff\u202e') == r'café $x$ [red] \x1b[31m\r\n\udcff\u202e'
    assert classes.readable(('n01440764', 'a\x1b[0m')) == (classes.NAMES[0], r'a\x1b[0m')


def test_names_in_a_figure_are_not_formulas_and_a_missing_glyph_is_its_code(tmp_path, capsys):
    from figures import style

    with style.look():
        figure = style.figure(3, 3)
        axes = figure.subplots()
        axes.set_title('cost in $: 5$ \\bad{ [red]\x1b[31m')
        axes.plot([1, 1000], [1, 2], label='$\\frac{$')
        axes.set(xscale='log')
        axes.set_yticks([1, 2], ['$a_', '^$'])
        axes.set(xlabel='Löwe 獅', ylabel='獅子 \N{LION FACE}')
        axes.legend()
        style.save(figure, tmp_path / 'figure.svg')
        assert 'x1b' in axes.get_title() and not axes.title.get_parse_math()
        assert all('mathdefault' in label.get_text() and label.get_parse_math() for label in axes.get_xticklabels())
        assert axes.get_xlabel() == r'Löwe \u7345' and axes.get_ylabel() == r'\u7345\u5b50 \U0001f981'
        style.save(figure, tmp_path / 'again.png')
    note = 'note: the font of figures lacks some characters, drawn as their codes: '
    assert capsys.readouterr().err == note + r'\u5b50, \u7345, \U0001f981' + '\n'  # once


# Sizes


def test_a_huge_test_batch_has_the_size_of_the_split():
    from input_pipeline import loader
    from training import run

    config = types.SimpleNamespace(test_batch_size=10_000_000)
    assert run.test_batch_size(config, 8, 360) == 360 and run.test_batch_size(config, 8, 50_001) == 50_008
    config.test_batch_size = 500
    assert run.test_batch_size(config, 1, 15) == 15 and run.test_batch_size(config, 8, 15) == 16
    form = loader.Form(4096, 3)
    with pytest.raises(UserError, match='a batch of 10,000,000 images needs 503,316.5 GB of memory'):
        loader.stream([], form, loader.in_order, 1, 10_000_000)
