import io
import os
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from input_pipeline import datasets, sources, tar
from runtime.errors import UserError

WNIDS = ('n01440764', 'n01443537', 'n01484850')
LONG = 'a' * 150  # does not fit a plain header


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('XDG_CACHE_HOME', str(folder))
    return folder / 'imagenet-decade' / 'tar'


def tar_of(files, form=tarfile.GNU_FORMAT):
    """The bytes of a tar of {name: bytes}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w', format=form) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def images_of(wnid, count=4):
    rng = np.random.default_rng(int(wnid[1:]))
    names = [f'{wnid}_{i}.JPEG' for i in (10026, 7, 33, 100)[:count]]
    return {name: rng.bytes(int(size)) for name, size in zip(names, rng.integers(0, 3000, count), strict=True)}


@pytest.fixture
def release(tmp_path):
    """A folder with the tars as they are released, the classes in no order, and the same unpacked."""
    folder = tmp_path / 'release'
    folder.mkdir()
    inner = {}
    for i, wnid in enumerate(reversed(WNIDS)):
        files = images_of(wnid)
        if i == 1:
            files[f'{LONG}.JPEG'] = b'long'
        for name, data in files.items():
            (tmp_path / 'unpacked' / wnid).mkdir(parents=True, exist_ok=True)
            (tmp_path / 'unpacked' / wnid / name).write_bytes(data)
        form = (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT)[i]
        inner[f'{wnid}.tar'] = tar_of(files | {'readme.txt': b'no image'}, form)
    (folder / 'ILSVRC2012_img_train.tar').write_bytes(tar_of(inner))
    return folder


def contents(source):
    return [(example.image, example.label, example.name.rsplit('/', 1)[1]) for example in source]


def test_the_training_tar_reads_as_the_unpacked_folder(release, tmp_path):
    source = datasets.open_source('tar', 'train', str(release))
    folder = sources.FolderSource(tmp_path / 'unpacked')
    assert len(source) == 13 and source.class_names == folder.class_names == WNIDS
    assert [note.partition(': ')[2] for note in source.notes] == [
        '3 files and folders are skipped: 3 .txt (n01440764.tar/readme.txt, ...)'
    ]
    assert contents(source) == contents(folder)
    assert source[0].name == f'{release}/ILSVRC2012_img_train.tar/n01440764_100.JPEG'
    assert source.offsets.dtype == np.int64 and source.names.dtype.kind == 'S'
    with pytest.raises(IndexError):
        source[13]
    assert contents(datasets.open_source('tar', 'train', str(release / 'ILSVRC2012_img_train.tar'))) == contents(source)


def test_a_folder_of_class_tars(release, tmp_path):
    folder = tmp_path / 'tars' / 'train'
    folder.mkdir(parents=True)
    with tarfile.open(release / 'ILSVRC2012_img_train.tar') as archive:
        archive.extractall(folder, filter='data')
    source = datasets.open_source('tar', 'train', str(tmp_path / 'tars'))
    assert contents(source) == contents(datasets.open_source('tar', 'train', str(release)))
    assert contents(datasets.open_source('tar', 'train', str(folder))) == contents(source)
    assert (folder / 'tars.index.npz').exists()
    for name in WNIDS[1:]:
        (folder / f'{name}.tar').unlink()
    assert datasets.open_source('tar', 'train', str(folder)).class_names == WNIDS[:1]  # and the index is written again


def test_threads_and_pickles_share_it(release):
    source = datasets.open_source('tar', 'train', str(release))
    expected = contents(source)
    copy = pickle.loads(pickle.dumps(source))
    del source
    order = np.random.default_rng(0).integers(0, len(copy), 2000)
    with ThreadPoolExecutor(8) as pool:
        for i, example in zip(order, pool.map(copy.__getitem__, order), strict=True):
            assert (example.image, example.label) == expected[i][:2]


def test_the_validation_tar_takes_a_label_file(release):
    files = {f'ILSVRC2012_val_{i:08}.JPEG': bytes([i]) * i for i in (2, 1, 4, 3)}
    (release / 'ILSVRC2012_img_val.tar').write_bytes(tar_of(files))
    with pytest.raises(UserError, match='contains images but no class tars: pass --config.labels=FILE'):
        datasets.open_source('tar', 'test', str(release))
    (release / 'truth.txt').write_text('2\n0\n1\n2\n')
    source = datasets.open_source('tar', 'test', str(release), num_classes=3, labels='truth.txt')
    assert [(image, label) for image, label, _ in contents(source)] == [
        (b'\1', 2),
        (b'\2\2', 0),
        (b'\3' * 3, 1),
        (b'\4' * 4, 2),
    ]
    (release / 'truth.txt').write_text('2\n0\n3\n2\n')
    with pytest.raises(UserError, match='truth.txt, line 3: the label 3 is out of range'):
        datasets.open_source('tar', 'test', str(release), num_classes=3, labels='truth.txt')


def test_the_index_is_kept_until_the_tar_changes(release, monkeypatch, cache):
    path = release / 'ILSVRC2012_img_train.tar'
    expected = contents(tar.TarSource(path))
    index = path.with_name(f'{path.name}.index.npz')
    whole = index.read_bytes()
    assert sorted(p.name for p in release.iterdir()) == [path.name, index.name]
    walked, walk = [], tar._walk
    monkeypatch.setattr(tar, '_walk', lambda *arguments: walked.append(1) or walk(*arguments))
    assert contents(tar.TarSource(path)) == expected and not walked
    index.write_bytes(whole[: len(whole) // 2])  # half-written
    assert contents(tar.TarSource(path)) == expected and len(walked) == 1 and index.read_bytes()[:2] == b'PK'
    os.utime(path, ns=(0, 1))
    assert contents(tar.TarSource(path)) == expected and len(walked) == 2
    path.write_bytes(tar_of({'n01440764.tar': tar_of({'a.JPEG': b'new'})}))
    assert contents(tar.TarSource(path)) == [(b'new', 0, 'a.JPEG')] and len(walked) == 3
    assert not cache.exists()


def test_the_index_goes_to_the_cache_where_the_folder_takes_none(release, cache):
    path = release / 'ILSVRC2012_img_train.tar'
    path.with_name(f'{path.name}.index.npz').mkdir()  # nothing can take this name
    expected = contents(tar.TarSource(path))
    (kept,) = cache.iterdir()
    assert contents(tar.TarSource(path)) == expected
    kept.unlink()
    cache.rmdir()
    cache.write_text('no folder')
    source = tar.TarSource(path)
    assert contents(source) == expected and 'rebuilt at every start' in source.notes[0]
    assert len(list(release.iterdir())) == 2  # nothing half-written stays


def test_a_tar_that_is_cut_short_is_named_with_its_member(release, tmp_path):
    path = release / 'ILSVRC2012_img_train.tar'
    data = path.read_bytes()
    with tarfile.open(path) as archive:
        first, second, _ = archive.getmembers()
    for cut, message in (
        (second.offset_data + 700, f'ends within {second.name}'),
        (second.offset + 100, f'after {first.name}'),  # within the second's header
        (second.offset, f'after {first.name}'),  # between two members: an end without its mark
        (100, 'is not a tar'),
    ):
        path.write_bytes(data[:cut])
        with pytest.raises(UserError, match=message) as error:
            tar.TarSource(path)
        assert str(path) in str(error.value) and 'fetch it again' in str(error.value)
    inner = tar_of(images_of(WNIDS[0], 2))
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        last = archive.getmembers()[1]
    path.write_bytes(tar_of({'n01440764.tar': inner[: last.offset_data + 1]}))
    with pytest.raises(UserError, match=f'{path.name}/n01440764.tar is truncated: it ends within {last.name}'):
        tar.TarSource(path)
    path.write_bytes(data[: first.offset_data] + b'\x1f\x8b' + bytes(100) + data[first.offset_data + 102 :])
    with pytest.raises(UserError, match=f'{first.name} is not a tar'):
        tar.TarSource(path)
    assert list(release.iterdir()) == [path]


def test_a_tar_that_shrinks_while_it_is_open(release):
    path = release / 'ILSVRC2012_img_train.tar'
    source = tar.TarSource(path)
    os.truncate(path, int(source.offsets[0]) + 1)
    with pytest.raises(OSError, match='ends within n01440764_100.JPEG'):
        source[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match='ILSVRC2012_img_train.tar'):
        pickle.loads(pickle.dumps(source))


def test_a_class_tar_without_images(release):
    path = release / 'ILSVRC2012_img_train.tar'
    path.write_bytes(tar_of({'n1.tar': tar_of({'a.JPEG': b'a'}), 'n0.tar': tar_of({})}))
    with pytest.raises(UserError, match='/n0 is a class without images'):
        tar.TarSource(path)
    source = tar.TarSource(path, on_bad_image='skip')
    assert source.class_names == ('n0', 'n1') and source[0].label == 1 and len(source.notes) == 1
    path.write_bytes(tar_of({'readme.txt': b''}))
    with pytest.raises(UserError, match='contains no images'):
        tar.TarSource(path)


def test_what_is_not_there(release, tmp_path):
    with pytest.raises(UserError, match=r'no tar of the split .test. .* with ILSVRC2012_img_val.tar'):
        datasets.open_source('tar', 'test', str(release))
    with pytest.raises(UserError, match='no tar of the split'):
        datasets.open_source('tar', 'train', str(tmp_path / 'none'))
    with pytest.raises(UserError, match='cannot be read'):
        tar.TarSource(tmp_path / 'none.tar')
