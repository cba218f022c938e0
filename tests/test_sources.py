import gzip
import io
import pickle
import struct

import numpy as np
import pytest
import scipy.io
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from input_pipeline import datasets, example, geometry, labels, sources
from runtime.errors import UserError


def write_idx(path, array):
    data = struct.pack(f'>{1 + array.ndim}I', 0x800 + array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == '.gz' else data)


@pytest.fixture
def mnist_folder(tmp_path):
    rng = np.random.default_rng(0)
    for stem, count in (('train', 30), ('t10k', 20)):
        write_idx(tmp_path / f'{stem}-images-idx3-ubyte.gz', rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / f'{stem}-labels-idx1-ubyte.gz', np.arange(count).astype(np.uint8) % 10)
    return tmp_path


def test_digits_are_split_by_class():
    train, test = datasets.open_source('digits', 'train'), datasets.open_source('digits', 'test')
    assert (len(train), len(test)) == (1437, 360)
    both = np.bincount(train.labels) + np.bincount(test.labels)
    assert both.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # of the data set
    assert np.abs(np.bincount(test.labels) - both / 5).max() < 1
    assert train.images.max() == 255 and train.images.dtype == np.uint8
    scans, labels = load_digits(return_X_y=True)
    drawn = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    for source, indices in zip((train, test), drawn, strict=True):
        assert np.array_equal(source.images[..., 0], np.rint(scans[indices].reshape(-1, 8, 8) * (255 / 16)))
        assert np.array_equal(source.labels, labels[indices])


def test_mnist_reads_idx_files(mnist_folder):
    train = datasets.open_source('mnist', 'train', str(mnist_folder))
    assert len(train) == 30 and train.images.shape == (30, 28, 28, 1)
    assert train[12].label == 2 and train[12].name == 'mnist/train[12]'
    assert np.array_equal(train[3].image, train.images[3])
    raw = gzip.decompress((mnist_folder / 'train-images-idx3-ubyte.gz').read_bytes())
    assert train.images[3].tobytes() == raw[16 + 3 * 784 : 16 + 4 * 784]


def test_mnist_says_what_is_wrong(mnist_folder, tmp_path):
    with pytest.raises(UserError, match='--config.data_dir'):
        datasets.open_source('mnist', 'train', str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match='did you mean train'):
        datasets.open_source('mnist', 'trian', str(mnist_folder))
    images = mnist_folder / 'train-images-idx3-ubyte.gz'
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(UserError, match='train-images-idx3-ubyte.gz is not a complete IDX file'):
        datasets.open_source('mnist', 'train', str(mnist_folder))


def test_cifar10_planes_become_pixels(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    labels = np.array([3, 9, 0, 5], np.uint8)
    records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(4, -1)], axis=1)
    (tmp_path / 'data_batch_1.bin').write_bytes(records[:2].tobytes())
    (tmp_path / 'data_batch_2.bin').write_bytes(records[2:].tobytes())
    (tmp_path / 'test_batch.bin').write_bytes(records[:1].tobytes()[:-5])
    source = datasets.open_source('cifar10', 'train', str(tmp_path))
    assert np.array_equal(source.images, images) and source.labels.tolist() == labels.tolist()
    assert source.class_names[source[1].label] == 'truck'
    with pytest.raises(UserError, match='does not consist of records'):
        datasets.open_source('cifar10', 'test', str(tmp_path))
    with pytest.raises(UserError, match='CIFAR-10 is not in'):
        datasets.open_source('cifar10', 'test', str(tmp_path / 'none'))


def save_images(folder, mode='RGB', suffix='png'):
    for name in ('b', 'a'):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((10, 12, 3), 40 * i + (name == 'b'), np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f'{i}.{suffix}')


def test_a_folder_of_class_folders(tmp_path):
    save_images(tmp_path)
    (tmp_path / 'a' / 'notes.txt').write_text('not an image')
    source = sources.FolderSource(tmp_path)
    assert source.class_names == ('a', 'b') and len(source) == 6
    example = source[4]
    assert example.label == 1 and example.name.endswith('b/1.png')
    assert geometry.decode(example.image)[0, 0].tolist() == [41, 41, 41]
    assert [source[i].name for i in range(6)] == [f'{tmp_path}/{c}/{i}.png' for c in 'ab' for i in range(3)]
    copy = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 1000 and [copy[i] for i in range(6)] == [source[i] for i in range(6)]
    with pytest.raises(IndexError):
        source[6]
    with pytest.raises(UserError, match='no folder .*: a, b$'):
        sources.FolderSource(tmp_path / 'none')
    with pytest.raises(UserError, match='contains images but no class folders: pass --config.labels=FILE'):
        sources.FolderSource(tmp_path / 'a')
    (tmp_path / 'a' / 'inside').mkdir()
    with pytest.raises(UserError, match='contains no images'):
        sources.FolderSource(tmp_path / 'a' / 'inside')


def test_images_below_a_class_folder_are_in_order_of_their_paths(tmp_path):
    for file in ('c/x.png', 'c/x-1/z.png', 'c/x/y.JPEG', 'c/.hidden.png', 'c/w.PNG', '.hidden/a.png'):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(file.encode())
    source = sources.FolderSource(tmp_path)
    paths = sorted(path for path in (tmp_path / 'c').rglob('*') if path.is_file() and path.name[0] != '.')
    assert [source[i].image.decode() for i in range(4)] == [str(path.relative_to(tmp_path)) for path in paths]
    assert source.class_names == ('c',)


def test_a_class_folder_without_images(tmp_path):
    save_images(tmp_path)
    (tmp_path / 'aa').mkdir()
    (tmp_path / 'aa' / 'readme.txt').write_text('none yet')
    with pytest.raises(UserError, match=r'/aa is a class without images: .*--config.on_bad_image=skip'):
        sources.FolderSource(tmp_path)
    source = sources.FolderSource(tmp_path, on_bad_image='skip')
    assert source.class_names == ('a', 'aa', 'b') and source[3].label == 2 and len(source) == 6
    assert source.notes[0] == f'{tmp_path}/aa is a class without images'


def test_a_file_that_vanishes_is_named(tmp_path):
    save_images(tmp_path)
    source = sources.FolderSource(tmp_path)
    (tmp_path / 'b' / '1.png').unlink()
    with pytest.raises(OSError, match='b/1.png'):
        source[4]
    assert source[5].label == 1


WNIDS = ('n01440764', 'n01443537', 'n01484850', 'n01491361')
DEVKIT = tuple(WNIDS[i] for i in (2, 0, 3, 1))  # an order of ILSVRC ids
LABELS = (3, 0, 2, 1, 0)


@pytest.fixture
def validation(tmp_path):
    """Five images named as ILSVRC2012's validation set, each holding its own name."""
    folder = tmp_path / 'val'
    folder.mkdir()
    names = [f'ILSVRC2012_val_{i:08}.JPEG' for i in range(1, 6)]
    for name in reversed(names):
        (folder / name).write_bytes(name.encode())
    return folder, names


def label_forms(names):
    wnids = [WNIDS[label] for label in LABELS]
    pairs, reverse = list(zip(names, LABELS, strict=True)), list(zip(names, wnids, strict=True))[::-1]
    return {
        'caffe': [f'{name} {label}' for name, label in pairs],
        'wnids': [f'val/{name} {wnid}' for name, wnid in reverse],
        'tabs': ['filename\tlabel', *(f'{name}\t{label}' for name, label in pairs)],
        'csv': [f'{name},{label}' for name, label in pairs],
        'header': ['file,label', *(f'{name},{label}' for name, label in pairs[::-1])],
        'ours': ['file,wnid,index,name', *(f'{n},{WNIDS[i]},{i},"a name, or two"' for n, i in pairs)],
        'kaggle': ['ImageId,PredictionString', *(f'{n[:-5]},{w} 85 1 499 272' for n, w in reverse)],
        'bare': [str(label) for label in LABELS],
        'bare_wnids': wnids,
    }


@pytest.mark.parametrize('form', label_forms([''] * 5))
def test_label_files_of_every_form(validation, tmp_path, form):
    folder, names = validation
    file = tmp_path / 'labels'
    file.write_text('\n'.join(label_forms(names)[form]) + '\n')
    source = sources.FlatFolderSource(folder, file)
    assert len(source) == 5 and source.notes == []
    assert [source[i].image.decode() for i in range(5)] == names
    assert tuple(source[i].label for i in range(5)) == LABELS
    assert source.class_names == (WNIDS if form in ('wnids', 'ours', 'kaggle', 'bare_wnids') else ('0', '1', '2', '3'))
    (tmp_path / 'synset_words.txt').write_text(''.join(f'{wnid} a name\n' for wnid in WNIDS))
    assert sources.FlatFolderSource(folder, file, 4).class_names == WNIDS


def test_devkit_ids_are_not_taken_for_class_numbers(validation, tmp_path):
    folder, _ = validation
    for name in ('ILSVRC2012_validation_ground_truth.txt', 'other.txt'):
        file = tmp_path / name
        file.write_text(''.join(f'{DEVKIT.index(WNIDS[label]) + 1}\n' for label in LABELS))
        with pytest.raises(UserError, match="devkit's ILSVRC ids, whose order is not"):
            sources.FlatFolderSource(folder, file, 4)
        source = sources.FlatFolderSource(folder, file, 4, DEVKIT)
        assert tuple(source.labels) == LABELS and source.class_names == WNIDS
    (tmp_path / 'synsets.txt').write_text('\n'.join(WNIDS))  # the sorted order is not the devkit's
    with pytest.raises(UserError, match="devkit's ILSVRC ids, whose order is not"):
        sources.FlatFolderSource(folder, file, 4)
    inner = ('n00001740', 'n00001930')
    rows = [(i, wnid, 'words', 'gloss', 0 if wnid in WNIDS else 7) for i, wnid in enumerate(DEVKIT + inner, 1)]
    names = ('ILSVRC2012_ID', 'WNID', 'words', 'gloss', 'num_children')
    synsets = np.array(rows[::-1], [(name, object) for name in names])
    scipy.io.savemat(tmp_path / 'meta.mat', {'synsets': synsets[:, None]})
    source = sources.FlatFolderSource(folder, file)
    assert tuple(source.labels) == LABELS and source.class_names == WNIDS


def test_a_part_of_the_validation_set_takes_its_lines_by_number(validation, tmp_path):
    folder, names = validation
    file = tmp_path / 'labels.txt'
    file.write_text('\n'.join(map(str, LABELS)))
    for name in names[:2]:
        (folder / name).unlink()
    source = sources.FlatFolderSource(folder, file)
    assert tuple(source.labels) == LABELS[2:] and source.notes == [f'{file} has labels for 2 missing images']
    file.write_text('0\n1\n2\n3\n')
    with pytest.raises(UserError, match='4 labels, but none for ILSVRC2012_val_00000005.JPEG'):
        sources.FlatFolderSource(folder, file)
    (folder / 'other.JPEG').write_bytes(b'')
    with pytest.raises(UserError, match='has 3 labels for 4 images'):
        file.write_text('0\n1\n2\n')
        sources.FlatFolderSource(folder, file)


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        (['{0} 1', '{1} 4', '{2} 0'], r'labels, line 2: the label 4 is out of range: 4 classes .* are 0 to 3'),
        (['{0} 1', '{1} 2', '{2} -1'], 'labels, line 3: the label -1 is out of range'),
        (
            ['file,label', '{0},1', '{1},cat', '{2},0'],
            "labels, line 3: 'cat' is neither a class number nor a WordNet id",
        ),
        (['{0},1', '{1}', '{2},0'], 'labels, line 2: 1 fields, but line 1 has 2'),
        (['{0} 1', '{1} n01440764'], 'labels, line 2: .*: use numbers or ids, not both'),
        (['{0} 1', '{1} 2', '{0} 2'], 'labels, line 3: ILSVRC2012_val_00000001.JPEG has two different labels, 1 and 2'),
        (['{0} 1', '{1} 2'], r'no label for ILSVRC2012_val_00000003.JPEG \(3 of 5 images\)'),
        (['{0} n01440764', '{1} n01443537'], '2 WordNet ids but the config has 4 classes: put the list .*synsets.txt'),
        (['file,label'], 'a header but no labels'),
        ([''], 'is empty'),
    ],
)
def test_bad_label_files_name_the_line(validation, tmp_path, lines, message):
    folder, names = validation
    file = tmp_path / 'labels'
    file.write_text('\n'.join(line.format(*names) for line in lines))
    with pytest.raises(UserError, match=message):
        sources.FlatFolderSource(folder, file, 4)


def test_a_list_of_classes_that_contradicts_the_labels(validation, tmp_path):
    folder, names = validation
    file = tmp_path / 'labels'
    file.write_text('\n'.join(label_forms(names)['ours']).replace(f'{WNIDS[2]},2', f'{WNIDS[1]},2'))
    (tmp_path / 'synsets.txt').write_text('\n'.join(WNIDS))
    with pytest.raises(UserError, match=f'line 4: class 2 is {WNIDS[1]}, but {WNIDS[2]} elsewhere'):
        sources.FlatFolderSource(folder, file, 4)
    (tmp_path / 'synsets.txt').unlink()
    file.write_text('\n'.join(label_forms(names)['ours']).replace(f'5.JPEG,{WNIDS[0]}', f'5.JPEG,{WNIDS[1]}'))
    with pytest.raises(UserError, match=f'line 6: class 0 is {WNIDS[1]}, but {WNIDS[0]} elsewhere'):
        sources.FlatFolderSource(folder, file, 4)


def test_flat_folders_open_by_name(validation, tmp_path):
    folder, names = validation
    with pytest.raises(UserError, match=f'no label file: pass --config.labels=FILE .looked for {folder}/labels.csv'):
        datasets.open_source('flat', 'val', str(tmp_path), num_classes=4)
    lines = label_forms(names)
    (tmp_path / 'labels.csv').write_text('\n'.join(lines['csv']))
    (folder / 'mine.txt').write_text('\n'.join(lines['wnids']))
    assert tuple(datasets.open_source('flat', 'val', str(tmp_path), num_classes=4).labels) == LABELS
    assert datasets.open_source('flat', 'val', str(tmp_path), num_classes=4, labels='mine.txt').class_names == WNIDS
    # Training images in class folders and flat validation images, as they are unpacked, are one data set.
    assert (
        tuple(datasets.open_source('folder', 'val', str(tmp_path), num_classes=4, labels='labels.csv').labels) == LABELS
    )
    with pytest.raises(UserError, match='no label file: pass --config.labels=FILE .looked for .*/none.csv'):
        datasets.open_source('flat', 'val', str(tmp_path), num_classes=4, labels='none.csv')
    for dataset in ('flat', 'folder', 'tar', 'pack'):
        with pytest.raises(UserError, match='needs --config.data_dir=FOLDER'):
            datasets.open_source(dataset, 'train')


def test_tfds_array_record_without_tensorflow(tmp_path):
    tfds = pytest.importorskip('tensorflow_datasets')

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version('1.0.0')

        def _info(self):
            features = {'image': tfds.features.Image(), 'label': tfds.features.ClassLabel(names=['cat', 'dog'])}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {'train': self._generate_examples(), 'test': self._generate_examples()}

        def _generate_examples(self):
            for i in range(8):
                buffer = io.BytesIO()
                Image.fromarray(np.full((9, 7, 3), i * 10, np.uint8)).save(buffer, 'PNG')
                buffer.seek(0)
                yield i, {'image': buffer, 'label': i % 2}

    with pytest.raises(UserError, match=r'python data.py prepare tiny --data_dir'):
        datasets.open_source('tfds:tiny', 'train', str(tmp_path))
    Tiny(data_dir=str(tmp_path), file_format='array_record').download_and_prepare()
    source = datasets.open_source('tfds:tiny', 'train', str(tmp_path))
    assert len(source) == 8 and source.class_names == ('cat', 'dog')
    values = [int(geometry.decode(source[i].image)[0, 0, 0]) for i in range(8)]
    assert sorted(values) == [0, 10, 20, 30, 40, 50, 60, 70]  # TFDS shuffles when it writes
    assert all(source[i].label == value // 10 % 2 for i, value in enumerate(values))
    with pytest.raises(UserError, match='no split'):
        datasets.open_source('tfds:tiny', 'trian', str(tmp_path))
    with pytest.raises(UserError, match='TFDS has no data set'):
        datasets.open_source('tfds:tinny', 'train', str(tmp_path))


def test_unknown_names_offer_the_nearest():
    for wrong, right in (('cifar', 'cifar10'), ('folders', 'folder'), ('packed', 'pack'), ('flatt', 'flat')):
        with pytest.raises(UserError, match=f'did you mean {right}?'):
            datasets.open_source(wrong, 'train')
    with pytest.raises(UserError, match=r'no split .train\[:10%\].'):
        datasets.open_source('digits', 'train[:10%]')


def test_labels_in_memory_are_classes():
    with pytest.raises(UserError, match=r'few\[2\] has the label 3, but the 3 classes are 0 to 2'):
        example.ArraySource(np.zeros((3, 2, 2, 1), np.uint8), [0, 2, 3], 'abc', 'few')


def test_real_mnist(test_data):
    train, test = (datasets.open_source('mnist', split, str(test_data / 'mnist')) for split in ('train', 'test'))
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    counts = np.bincount(train.images.ravel(), minlength=256)
    counts[0] += len(train) * (32 * 32 - 28 * 28)  # the border
    values = -0.1 + 1.275 * np.arange(256) / 255
    mean = np.average(values, weights=counts)
    deviation = np.sqrt(np.average((values - mean) ** 2, weights=counts))
    assert mean == pytest.approx(0.0275, abs=1e-3) and deviation == pytest.approx(0.351, abs=1e-3)


def test_real_imagenet_labels(test_data):
    folder, truth = test_data / 'imagenet', test_data / 'imagenet' / 'imagenet_labels' / 'val_index.txt'
    for name, count in (('imagenet_val', 100), ('imagenet_val227', 163)):
        by_table = datasets.open_source('flat', name, str(folder), num_classes=1000)
        by_list = datasets.open_source('flat', name, str(folder), num_classes=1000, labels=str(truth))
        assert len(by_table) == count and np.array_equal(by_table.labels, by_list.labels)
        assert all(by_table.class_names[label] == by_list.class_names[label] for label in by_table.labels)
        assert by_list.notes == [f'{truth} has labels for {50_000 - count:,} missing images']
    photos = datasets.open_source('flat', 'imagenet_photos', str(folder), num_classes=1000)
    assert all(example.name.split('/')[-1].startswith(photos.class_names[example.label]) for example in photos)


def test_real_cifar10(test_data):
    source = datasets.open_source('cifar10', 'test', str(test_data / 'cifar10'))
    assert source.images.shape == (1000, 32, 32, 3)
    assert [source.class_names[label] for label in source.labels[:4]] == ['cat', 'ship', 'ship', 'airplane']
    folder = sources.FolderSource(test_data / 'cifar10' / 'jpeg' / 'test')
    assert len(folder) == 10_000 and folder.class_names == datasets.CIFAR10


def test_a_devkit_cut_anywhere_is_refused_in_a_line(tmp_path):
    synsets = np.zeros(3, [('ILSVRC2012_ID', 'O'), ('WNID', 'O'), ('num_children', 'O')])
    for number in range(3):
        synsets[number] = number + 1, f'n0000000{number}', 0
    scipy.io.savemat(tmp_path / 'whole.mat', {'synsets': synsets[:, None]})
    assert labels.devkit_order(tmp_path / 'whole.mat') == ['n00000000', 'n00000001', 'n00000002']
    data, path = (tmp_path / 'whole.mat').read_bytes(), tmp_path / 'cut.mat'
    for size in range(0, len(data) - 8, 37):
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match='cut.mat is not .* that can be read: .*; fetch .* again'):
            labels.devkit_order(path)
