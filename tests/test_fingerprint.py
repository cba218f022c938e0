"""Other data are noticed: by their names, sizes, labels and contents, and when a run or an evaluation resumes."""

import shutil
import tarfile

import numpy as np
import pytest
from conftest import digits
from PIL import Image

from input_pipeline import classes, datasets, example, fingerprint, pack, packed, sources, tar
from runtime.errors import UserError
from training import checkpoints, workdir
from training.run import Run


def photographs(root):
    """ROOT/{train,test}/{a,b}/NUMBER.png, gray noise of several sizes."""
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for name in 'ab':
            (root / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 256, (20, 20 + number), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f'{number}.png')
    return root


def swap(one, other):
    aside = one.with_name('aside')
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def in_place(path):
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)


CHANGES = {
    'two images': (lambda folder: swap(folder / 'a/0.png', folder / 'a/3.png'), 'sizes and the images'),
    'contents of one size': (lambda folder: in_place(folder / 'b/2.png'), 'images'),
    'a name': (lambda folder: (folder / 'a/1.png').rename(folder / 'a/1a.png'), 'names'),
    'a label': (lambda folder: (folder / 'a/3.png').rename(folder / 'b/.3.png'), 'number of images'),
    'another label': (lambda folder: (folder / 'a/3.png').rename(folder / 'b/9.png'), 'labels'),
    'the classes': (lambda folder: swap(folder / 'a', folder / 'b'), 'images'),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_changed_folder_has_another_fingerprint(tmp_path, change):
    photographs(tmp_path / 'here')
    before = fingerprint.of(sources.FolderSource(tmp_path / 'here/train'))
    shutil.copytree(tmp_path / 'here', tmp_path / 'moved')
    assert fingerprint.of(sources.FolderSource(tmp_path / 'moved/train')) == before
    function, says = CHANGES[change]
    function(tmp_path / 'moved/train')
    after = fingerprint.of(sources.FolderSource(tmp_path / 'moved/train'))
    assert says in fingerprint.differences(before, after)


def test_tars_have_the_fingerprint_of_the_folder(tmp_path):
    folder = photographs(tmp_path) / 'train'
    (tmp_path / 'tars').mkdir()
    for name in 'ab':
        with tarfile.open(tmp_path / f'tars/{name}.tar', 'w') as file:
            for path in sorted((folder / name).iterdir()):
                file.add(path, path.name)
    assert fingerprint.of(tar.TarSource(tmp_path / 'tars')) == fingerprint.of(sources.FolderSource(folder))


def test_all_bytes_of_images_in_memory_are_digested(monkeypatch):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 3, 3, 1), np.uint8), rng.integers(0, 4, 50)
    monkeypatch.setattr(fingerprint, '_CHUNK', 64)  # bytes: several chunks

    def of(images, labels):
        return fingerprint.of(example.ArraySource(images, labels, 'abcd', 'x'))

    before = of(images, labels)
    assert of(images.copy(), labels.astype(np.int64)) == before
    for number in range(50):
        changed = images.copy()
        changed[number, 1, 1] ^= 1
        assert fingerprint.differences(before, of(changed, labels)) == 'the images differ'
    labels[7] = (labels[7] + 1) % 4
    assert fingerprint.differences(before, of(images, labels)) == 'the labels differ'
    relabeled = classes.RelabeledSource(sources_like(images), (1, 0, 2, 3), 'abcd')
    assert 'order of the classes' in fingerprint.of(relabeled)


def sources_like(images):
    return example.ArraySource(images, np.zeros(len(images)), 'abcd', 'x')


def test_of_many_bytes_some_images_are_read(tmp_path, monkeypatch):
    source = sources.FolderSource(photographs(tmp_path) / 'train')
    read = []
    monkeypatch.setattr(fingerprint, '_ALL_BYTES', 100)
    monkeypatch.setattr(fingerprint, '_SAMPLES', 3)
    monkeypatch.setattr(type(source), '__getitem__', lambda self, number: read.append(number) or (b'', 0, ''))
    fingerprint.of(source)
    assert read == [0, 3, 7]


def test_a_store_has_the_fingerprint_of_its_shards(tmp_path):
    photographs(tmp_path / 'data')
    prints = []
    for number in range(2):
        source = sources.FolderSource(tmp_path / 'data/train')
        pack.pack({'train': source}, tmp_path / f'store{number}', 20, raw=True, channels=1)
        prints.append(fingerprint.of(packed.PackedSource(tmp_path / f'store{number}', 'train')))
        Image.new('L', (20, 20)).save(tmp_path / 'data/train/a/0.png')
    assert 'shards' in fingerprint.differences(*prints)


def run_with_a_checkpoint(tmp_path, **changes):
    photographs(tmp_path / 'data')
    config = digits(dataset='folder', data_dir=str(tmp_path / 'data'), num_classes=2, batch_size=4, **changes)
    with checkpoints.Checkpoints(tmp_path / 'run' / checkpoints.FOLDER) as kept:
        kept.save_model({'params': {'x': np.zeros(2)}, 'batch_stats': {}}, Run(config).info(0))
    return config


def test_a_run_is_resumed_on_its_data_alone(tmp_path, capsys):
    config = run_with_a_checkpoint(tmp_path)

    def resume():
        return workdir.resume_point(tmp_path / 'run', *datasets.open_splits(config), config.on_bad_image)

    assert resume()['start'] == (0, 0)
    (tmp_path / 'data').rename(tmp_path / 'moved')
    config.data_dir = str(tmp_path / 'moved')
    assert resume()['start'] == (0, 0)
    for split, part in (('train', 'training'), ('test', 'test')):
        swap(tmp_path / 'moved' / split / 'a/0.png', tmp_path / 'moved' / split / 'a/3.png')
        with pytest.raises(UserError, match=f'on other {part} data: the sizes and the images differ .*skip to accept'):
            resume()
        config.on_bad_image = 'skip'
        assert resume() and capsys.readouterr().err.count('warning: ') == 1
        config.on_bad_image = 'stop'
        swap(tmp_path / 'moved' / split / 'a/0.png', tmp_path / 'moved' / split / 'a/3.png')
    assert resume()
    (tmp_path / 'moved/train/a/0.png').rename(tmp_path / 'moved/train/a/00.png')
    config.on_bad_image = 'skip'
    with pytest.raises(UserError, match='the names differ .*; pass its data to resume, or another --workdir'):
        resume()
