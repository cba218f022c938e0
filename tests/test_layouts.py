"""Common layouts of folders, and the files that are skipped in them, which are counted and named."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from evaluation import prediction
from input_pipeline import datasets, example, geometry, sources, tar
from runtime.errors import UserError


def write(folder, *names):
    """Write small images of different gray levels, and empty files for names of other kinds."""
    for number, name in enumerate(names):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if example.is_image(path.name):
            Image.new('L', (4, 4), number).save(path, 'PNG')
        else:
            path.write_bytes(b'')


def names(source):
    return [os.path.relpath(source[i].name, source.folder) for i in range(len(source))]


@pytest.mark.parametrize('dataset', ['folder', 'imagenet'])
@pytest.mark.parametrize('held_out', ['test', 'val', 'validation'])
def test_the_held_out_folder_has_any_of_its_names(tmp_path, held_out, dataset):
    write(tmp_path, 'train/a/1.png', f'{held_out}/a/2.png', f'{held_out}/b/3.png')
    for split in ('test', 'val', 'validation'):
        source = datasets.open_source(dataset, split, str(tmp_path))
        assert source.name == f'{tmp_path}/{held_out}' and names(source) == ['a/2.png', 'b/3.png']
        assert source.notes == []
    assert len(datasets.open_source(dataset, 'train', str(tmp_path))) == 1


def test_the_requested_name_has_precedence(tmp_path):
    write(tmp_path, 'test/a/1.png', 'val/a/2.png', 'validation/a/3.png')
    for split in ('test', 'val', 'validation'):
        assert datasets.open_source('folder', split, str(tmp_path)).name == f'{tmp_path}/{split}'
    with pytest.raises(UserError, match='no folder .*/train: '):
        datasets.open_source('folder', 'train', str(tmp_path))


def test_flat_images_without_labels_are_not_the_test_split_where_others_have_some(tmp_path):
    write(tmp_path, 'test/1.png', 'val/2.png')
    (tmp_path / 'val' / 'labels.csv').write_text('2.png,0\n')
    source = datasets.open_source('flat', 'test', str(tmp_path), num_classes=1)
    assert names(source) == ['2.png']
    assert source.notes == [f'{tmp_path}/test has no labels: {tmp_path}/val is used']


@pytest.fixture
def tiny_imagenet(tmp_path):
    """Its layout, with three classes: wnids.txt is not sorted, as the original's."""
    for wnid in ('n03', 'n01', 'n02'):
        write(tmp_path, *(f'train/{wnid}/images/{wnid}_{n}.JPEG' for n in range(2)), f'train/{wnid}/{wnid}_boxes.txt')
    write(tmp_path, *(f'val/images/val_{n}.JPEG' for n in range(12)), *(f'test/images/test_{n}.JPEG' for n in range(3)))
    lines = [f'val_{n}.JPEG\t{("n02", "n03", "n01")[n % 3]}\t0\t0\t3\t3' for n in range(12)]
    (tmp_path / 'val' / 'val_annotations.txt').write_text('\n'.join(lines) + '\n')
    (tmp_path / 'wnids.txt').write_text('n03\nn01\nn02\n')
    return tmp_path


@pytest.mark.parametrize('dataset', ['folder', 'imagenet'])
@pytest.mark.parametrize('split', ['test', 'val'])
def test_tiny_imagenet(tiny_imagenet, dataset, split):
    train = datasets.open_source(dataset, 'train', str(tiny_imagenet))
    assert train.class_names == ('n01', 'n02', 'n03') and train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.notes == [f'{tiny_imagenet}/train: 3 files and folders are skipped: 3 .txt (n01/n01_boxes.txt, ...)']
    val = datasets.open_source(dataset, split, str(tiny_imagenet))
    assert val.class_names == train.class_names and len(val) == 12
    lines = (tiny_imagenet / 'val' / 'val_annotations.txt').read_text().splitlines()
    expected = {line.split('\t')[0]: line.split('\t')[1] for line in lines}
    assert {Path(item.name).name: val.class_names[item.label] for item in val} == expected
    assert geometry.decode(val[2].image)[0, 0, 0] == 10  # val_10 comes before val_2
    assert val.notes == ([f'{tiny_imagenet}/test has no labels: {tiny_imagenet}/val is used'] * (split == 'test'))


def test_tiny_imagenet_with_other_images_than_lines(tiny_imagenet):
    (tiny_imagenet / 'val' / 'images' / 'val_3.JPEG').unlink()
    val = datasets.open_source('folder', 'val', str(tiny_imagenet))
    assert len(val) == 11 and val.notes == [f'{tiny_imagenet}/val/val_annotations.txt has labels for 1 missing images']
    write(tiny_imagenet, 'val/images/x.png')
    with pytest.raises(UserError, match='val_annotations.txt has no line for x.png'):
        datasets.open_source('folder', 'val', str(tiny_imagenet))


ADVICE = '(this Pillow cannot read .heic: convert them)'
JUNK = (
    '.DS_Store', 'Thumbs.db', 'loose.png', '__MACOSX/a/._1.png', 'lost+found/x', '.ipynb_checkpoints/1.png',
    'a/Thumbs.db', 'a/.ipynb_checkpoints/1-checkpoint.png', 'a/._1.png', 'a/3.heic', 'b/4.HEIC', 'b/readme.txt',
    'a/__MACOSX/1.png',
)  # fmt: skip


def test_files_of_operating_systems_are_not_classes_and_are_counted(tmp_path):
    write(tmp_path, 'a/1.png', 'b/2.png', *JUNK)
    source = sources.FolderSource(tmp_path)
    assert source.class_names == ('a', 'b') and names(source) == ['a/1.png', 'b/2.png']
    (note,) = source.notes
    assert note == (
        f'{tmp_path}: 13 files and folders are skipped: 4 hidden (.DS_Store, ...), 2 .db (Thumbs.db, ...), '
        f'2 __MACOSX (__MACOSX/, ...), 2 .heic (a/3.heic, ...), b/readme.txt, 2 more {ADVICE}'
    )


def test_skipping_is_reported_of_single_files_and_of_many():
    assert example.skipped_note('here', []) == []
    assert example.skipped_note('here', ['x/y.txt']) == ['here: 1 file or folder is skipped: x/y.txt']
    (many,) = example.skipped_note('here', [f'{n}.txt' for n in range(2000)])
    assert many == 'here: 2,000 files and folders are skipped: 2,000 .txt (0.txt, ...)'


@pytest.mark.parametrize('suffix', ['.jpe', '.jfif', '.JPG', '.webp', '.avif'])
def test_images_by_their_suffix(tmp_path, suffix):
    if suffix == '.avif' and not features.check('avif'):
        pytest.skip('Pillow without AVIF')
    forms = {'.webp': 'WEBP', '.avif': 'AVIF'}
    (tmp_path / 'a').mkdir()
    Image.new('RGB', (8, 8), (200, 100, 50)).save(tmp_path / 'a' / f'x{suffix}', forms.get(suffix, 'JPEG'))
    source = sources.FolderSource(tmp_path)
    assert np.abs(geometry.decode(source[0].image).astype(int) - [200, 100, 50]).max() < 6


def test_a_class_of_images_that_pillow_does_not_read(tmp_path):
    assert not set(example.IMAGE_SUFFIXES) & set(example.UNREAD_SUFFIXES)
    write(tmp_path, 'a/1.png', 'b/2.heic', 'c/note.txt')
    with pytest.raises(
        UserError, match='b is a class without images .nor in 1 more.: .*: b/2.heic .this Pillow cannot read'
    ):
        sources.FolderSource(tmp_path)
    (tmp_path / 'a' / '1.png').unlink()
    with pytest.raises(UserError, match='contains no images: .* 2 files and folders are skipped: b/2.heic, c/note.txt'):
        sources.FolderSource(tmp_path)


def test_links_below_a_class_folder_are_followed(tmp_path):
    write(tmp_path, 'elsewhere/x.png', 'elsewhere/deep/y.png', 'split/a/1.png', 'split/b/2.png', 'other/z.png')
    (tmp_path / 'split' / 'a' / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'split' / 'c').symlink_to(tmp_path / 'other')
    (tmp_path / 'split' / 'b' / 'one.png').symlink_to(tmp_path / 'other' / 'z.png')
    source = sources.FolderSource(tmp_path / 'split')
    assert names(source) == ['a/1.png', 'a/linked/deep/y.png', 'a/linked/x.png', 'b/2.png', 'b/one.png', 'c/z.png']
    assert source.labels.tolist() == [0, 0, 0, 1, 1, 2] and source.notes == []


def test_links_without_an_end_are_skipped(tmp_path):
    write(tmp_path, 'a/in/1.png', 'b/2.png', 'far/3.png')
    (tmp_path / 'a' / 'in' / 'up').symlink_to('..')
    (tmp_path / 'a' / 'all').symlink_to(tmp_path)
    (tmp_path / 'far' / 'there').symlink_to(tmp_path / 'b')
    (tmp_path / 'b' / 'back').symlink_to(tmp_path / 'far')
    source = sources.FolderSource(tmp_path)
    assert names(source) == ['a/in/1.png', 'b/2.png', 'b/back/3.png', 'far/3.png', 'far/there/2.png']
    assert source.notes == [
        f'{tmp_path}: 4 files and folders are skipped: a/all/, a/in/up/, b/back/there/, far/there/back/'
    ]


def image_bytes(gray):
    buffer = io.BytesIO()
    Image.new('L', (4, 4), gray).save(buffer, 'PNG')
    return buffer.getvalue()


def write_tar(path, members, link=None):
    with tarfile.open(path, 'w') as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, 'elsewhere'
            file.addfile(info)


def test_what_is_skipped_in_tars_is_counted_also_from_their_index(tmp_path):
    folder = tmp_path / 'train'
    folder.mkdir()
    members = {'1.png': image_bytes(1), 'notes.txt': b'x', '2.heic': b'x', '__MACOSX/3.png': image_bytes(3)}
    write_tar(folder / 'n01.tar', members, link='4.png')
    for _ in range(2):  # the second time from the index
        source = tar.TarSource(folder)
        assert len(source) == 1 and source.notes == [
            f'{folder}: 4 files and folders are skipped: 2 .png (n01.tar/4.png, ...), n01.tar/2.heic, '
            f'n01.tar/notes.txt {ADVICE}'
        ]
    whole = tmp_path / 'all.tar'
    write_tar(whole, {'n01.tar': (folder / 'n01.tar').read_bytes(), 'LICENSE': b'x'})
    source = tar.TarSource(whole)
    assert len(source) == 1 and '5 files and folders are skipped' in source.notes[0] and 'LICENSE' in source.notes[0]


def test_a_folder_for_predictions(tmp_path):
    write(tmp_path, 'b.png', 'a.jfif', '.hidden.png', 'c.heic', 'sub/d.png')
    paths, notes = prediction.files([str(tmp_path)])
    assert paths == [f'{tmp_path}/a.jfif', f'{tmp_path}/b.png']
    assert notes == [f'{tmp_path}: 3 files and folders are skipped: .hidden.png, c.heic, sub/ {ADVICE}']
    (tmp_path / 'none').mkdir()
    (tmp_path / 'none' / 'x.heic').write_bytes(b'')
    with pytest.raises(UserError, match='none holds no images. .*x.heic .this Pillow cannot read .heic: convert them'):
        prediction.files([str(tmp_path / 'none')])
