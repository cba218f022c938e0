"""Each data set in the byte format it is released in: its labels, its classes, and truncated files."""

import gzip
import pickle
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from conftest import ROOT
from PIL import Image

from configs import base
from evaluation import checkpoint, label_sets, protocols
from input_pipeline import colour, datasets, matlab
from input_pipeline.classes import WNIDS
from runtime.errors import UserError

RNG = np.random.default_rng(0)


def noise(*shape):
    return RNG.integers(0, 256, shape, np.uint8)


def test_every_data_set_is_documented_and_has_what_asks_for_it():
    page = (ROOT / 'docs' / 'data.md').read_text()
    for name, data in datasets.DATASETS.items():
        assert f'| `{name}` |' in page, name
        assert (data.open is None) != (data.read is None)
        assert (data.mean is None) == (data.std is None) == (name not in colour.MEANS) == (name not in colour.STDS)
        assert not data.view or protocols.create(data.view).is_single
    with pytest.raises(UserError, match="no data set 'cifar1000', did you mean cifar100"):
        datasets.open_source('cifar1000', 'train')


def test_a_new_data_set_is_one_entry(monkeypatch):
    """All code reads the properties of a data set from the table."""
    images, labels = noise(6, 8, 8, 1), np.arange(6) % 2
    entry = datasets.DataSet(
        'toys', read=lambda request: (images, labels), class_names=('ball', 'block'), view='mnist_single'
    )
    monkeypatch.setitem(datasets.DATASETS, 'toys', entry)
    config = base.get_config()
    config.dataset, config.num_classes = 'toys', 2
    train, test = datasets.open_splits(config)
    assert np.array_equal(train.images, images) and train.name == 'toys/train' and test.class_names[1] == 'block'
    assert datasets.of_network(None, config) == datasets.class_names('toys', 2) == ('ball', 'block')
    assert datasets.describe(('ball', 'block'), 2) == 'toys: ball, block'
    few = 'CIFAR-100: apple, aquarium_fish, baby, bear, beaver and 95 more'
    assert datasets.describe(datasets.CIFAR100, 100) == few
    assert checkpoint._own_view(config).name == 'mnist_single'
    monkeypatch.setitem(datasets.DATASETS, 'toys', entry._replace(read=None))
    with pytest.raises(
        UserError, match='^toys has neither `open` nor `read` in DATASETS of input_pipeline/datasets.py$'
    ):
        datasets.open_splits(config)


def test_the_classes_of_an_entry_are_those_of_its_files(monkeypatch, tmp_path):
    for name in ('ball', 'block'):
        (tmp_path / 'train' / name).mkdir(parents=True)
        Image.fromarray(noise(8, 8, 3)).save(tmp_path / 'train' / name / '0.png')
    for names, fits in ((('ball', 'block'), True), (('block', 'ball'), False), (('ball', 'block', 'cube'), False)):
        entry = datasets.DATASETS['folder']._replace(title='toys', class_names=names)
        monkeypatch.setitem(datasets.DATASETS, 'toys', entry)
        if fits:
            assert len(datasets.open_source('toys', 'train', str(tmp_path))) == 2
            continue
        with pytest.raises(UserError, match='does not have the classes of toys in DATASETS: '):
            datasets.open_source('toys', 'train', str(tmp_path))


# CIFAR


def records(images, *labels):
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([*(np.uint8(each)[:, None] for each in labels), planes], 1)


def as_python_2(batch):
    """A dict of texts, lists of numbers and one array of bytes as Python 2 pickled it: protocol 2, text for bytes."""

    def text(value):
        value = value if isinstance(value, bytes) else value.encode()
        return b'U' + bytes([len(value)]) + value if len(value) < 256 else b'T' + struct.pack('<i', len(value)) + value

    def number(value):
        return b'K' + bytes([value]) if value < 256 else b'M' + struct.pack('<H', value)

    out = b'\x80\x02}q\x01('
    for key, value in batch.items():
        out += text(key)
        if isinstance(value, list):
            items = b''.join(map(number, value)) if isinstance(value[0], int) else b''.join(map(text, value))
            out += b']q\x02(' + items + b'e'
        elif isinstance(value, np.ndarray):
            out += b'cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01'
            out += number(value.shape[0]) + number(value.shape[1]) + b'\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87R'
            out += b'q\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89' + text(value.tobytes()) + b'tb'
        else:
            out += text(value)
    return out + b'u.'


FINE, COARSE = [49, 0, 99], [10, 4, 13]  # mountain, apple, worm


@pytest.fixture(params=['binary', 'python 2', 'python 3', 'python 3 by columns'])
def cifar100(request, tmp_path):
    """The archive unpacked, and its training images."""
    images = noise(3, 32, 32, 3)
    binary = records(images, COARSE, FINE)
    if request.param == 'binary':
        folder = tmp_path / 'cifar-100-binary'
        folder.mkdir()
        (folder / 'train.bin').write_bytes(binary.tobytes())
        (folder / 'test.bin').write_bytes(binary[:1].tobytes())
        return tmp_path, images
    folder = tmp_path / 'cifar-100-python'
    folder.mkdir()
    for name, count in (('train', 3), ('test', 1)):
        pixels = np.array(binary[:count, 2:], order='F' if 'columns' in request.param else 'C')
        batch = {'filenames': [f'{n}.png' for n in range(count)], 'batch_label': 'training batch 1 of 1'}
        batch |= {'fine_labels': FINE[:count], 'coarse_labels': COARSE[:count], 'data': pixels}
        data = as_python_2(batch) if request.param == 'python 2' else pickle.dumps(batch, 2)
        (folder / name).write_bytes(data)
    return tmp_path, images


def test_cifar100(cifar100):
    folder, images = cifar100
    fine = datasets.open_source('cifar100', 'train', str(folder))
    assert np.array_equal(fine.images, images) and fine.labels.tolist() == FINE
    assert [fine.class_names[label] for label in FINE] == ['mountain', 'apple', 'worm']
    coarse = datasets.open_source('cifar100_coarse', 'train', str(folder))
    names = [coarse.class_names[label] for label in coarse.labels]
    assert names == ['large_natural_outdoor_scenes', 'fruit_and_vegetables', 'non-insect_invertebrates']
    (inside,) = folder.iterdir()
    assert len(datasets.open_source('cifar100', 'test', str(inside))) == 1
    for name in datasets.names_where(lambda data: 'CIFAR-100' in data.title):
        assert list(datasets.DATASETS[name].class_names) == sorted(datasets.DATASETS[name].class_names)


def test_cifar10_for_python(tmp_path):
    images = noise(4, 32, 32, 3)
    for number, half in enumerate((slice(0, 2), slice(2, 4)), 1):
        batch = {'labels': [3, 9], 'data': records(images[half])}
        (tmp_path / f'data_batch_{number}').write_bytes(as_python_2(batch))
    (tmp_path / 'batches.meta').write_bytes(b'')
    source = datasets.open_source('cifar10', 'train', str(tmp_path))
    assert np.array_equal(source.images, images) and source.labels.tolist() == [3, 9, 3, 9]


class Program:
    """The state of a pickle that would run something."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def bomb(depth=60):
    """A tuple of two of the one before it, and so on: 2^60 of them, from a few hundred bytes."""
    return b'\x80\x02}(' + b'K\x01' + b''.join(b'q' + bytes([n]) + b'h' + bytes([n]) + b'\x86' for n in range(depth))


def test_a_hostile_pickle_ends_in_a_line_and_is_not_run(tmp_path):
    whole = as_python_2({'fine_labels': FINE, 'data': noise(3, 3072)})
    cases = {
        'program': pickle.dumps({'data': Program(tmp_path / 'made'), 'fine_labels': FINE}, 2),
        'cut': whole[:-400],
        'no data': as_python_2({'fine_labels': FINE}),
        'fewer labels': as_python_2({'fine_labels': FINE[:2], 'data': noise(3, 3072)}),
        'labels of text': as_python_2({'fine_labels': ['a', 'b', 'c'], 'data': noise(3, 3072)}),
        'label 1000': as_python_2({'fine_labels': [1000, 1, 2], 'data': noise(3, 3072)}),
        'other numbers': whole.replace(b'u1', b'f4'),
        'a key without end': bomb() + b'K\x01u.',
        'a function without end': bomb() + b')R0u.',
        'a name without end': bomb() + b'\x8c\x01x\x930u.',
        'the call of a call of a call': b'\x80\x02cx\ny\n' + b')R' * 60 + b'.',
        'a class by its name': b'\x80\x02(ios\nsystem\n.',
        'no pickle': noise(100).tobytes(),
        'nothing': b'',
        'a list': pickle.dumps([1, 2], 2),
    }
    for name, data in cases.items():
        (tmp_path / 'train').write_bytes(data)
        with pytest.raises(UserError, match=r'^[^\n]*train [^\n]*$'):
            datasets.open_source('cifar100', 'train', str(tmp_path))
            pytest.fail(name)
    assert not (tmp_path / 'made').exists()


def test_broken_binary_files(tmp_path):
    images = noise(2, 32, 32, 3)
    (tmp_path / 'train.bin').write_bytes(records(images, [1, 2], [3, 4]).tobytes()[:-1])
    with pytest.raises(UserError, match='train.bin does not consist of records of 3,074 bytes; fetch CIFAR-100 again'):
        datasets.open_source('cifar100', 'train', str(tmp_path))
    (tmp_path / 'train.bin').write_bytes(records(images, [1, 20], [3, 4]).tobytes())
    assert len(datasets.open_source('cifar100', 'train', str(tmp_path))) == 2
    with pytest.raises(UserError, match=r'cifar100_coarse/train\[1\] has the label 20, but the 20 classes'):
        datasets.open_source('cifar100_coarse', 'train', str(tmp_path))
    with pytest.raises(UserError, match='CIFAR-100 is not in .*: unpack cifar-100-binary.tar.gz'):
        datasets.open_source('cifar100', 'test', str(tmp_path))


# SVHN


def save_svhn(path, labels, **values):
    """As its authors wrote it, by MATLAB level 5, compressed; X has the images last."""
    arrays = {'X': noise(32, 32, 3, len(labels)), 'y': np.uint8(labels)[:, None]} | values
    scipy.io.savemat(path, arrays, do_compression=True)
    return arrays['X'].transpose(3, 0, 1, 2)


def test_svhn(tmp_path):
    train = save_svhn(tmp_path / 'train_32x32.mat', [10, 1, 9])
    save_svhn(tmp_path / 'test_32x32.mat', [4], y=np.array([[10.0]]))  # of MATLAB's usual type
    extra = save_svhn(tmp_path / 'extra_32x32.mat', [2, 10])
    source = datasets.open_source('svhn', 'train', str(tmp_path))
    assert np.array_equal(source.images, train) and source.labels.tolist() == [0, 1, 9]
    assert source.class_names == tuple('0123456789') and source.images.flags.c_contiguous
    both = datasets.open_source('svhn', 'train+extra', str(tmp_path))
    assert np.array_equal(both.images, np.concatenate([train, extra])) and both.labels.tolist() == [0, 1, 9, 2, 0]
    assert datasets.open_source('svhn', 'test', str(tmp_path)).labels.tolist() == [0]
    with pytest.raises(UserError, match='no split .*, did you mean train.extra'):
        datasets.open_source('svhn', 'train+extr', str(tmp_path))
    (tmp_path / 'extra_32x32.mat').unlink()
    with pytest.raises(UserError, match=r'SVHN is not in .*extra_32x32.mat'):
        datasets.open_source('svhn', 'train+extra', str(tmp_path))


def test_matlab_files_are_read_as_scipy_reads_them(tmp_path):
    arrays = {
        'a': RNG.normal(size=(3, 4)),
        'b': np.arange(6, dtype=np.int16).reshape(1, 2, 3),
        'c': np.float32([[1.5]]),
    }
    more = {'text': 'words', 'cells': np.array([1, 'x'], object), 'empty': np.zeros((0, 0))}
    for compressed in (False, True):
        scipy.io.savemat(tmp_path / 'x.mat', more | arrays, do_compression=compressed)
        found = matlab.read(tmp_path / 'x.mat', (*arrays, 'empty', 'none'))
        assert set(found) == {*arrays, 'empty'} and found['empty'].shape == (0, 0)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
        for name in ('text', 'cells'):
            with pytest.raises(UserError, match=f'{name} is not an array of real numbers'):
                matlab.read(tmp_path / 'x.mat', (name,))


def element(kind, data):
    return struct.pack('<II', kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(shape=(32, 32, 3, 1), numbers=bytes(3072), flags=9, name=b'X', kind=2):
    """A matrix element, uint8 by default."""
    head = element(6, struct.pack('<II', flags, 0)) + element(5, struct.pack(f'<{len(shape)}i', *shape))
    return element(14, head + element(1, name) + element(kind, numbers))


def packed(data, said=None):
    data = data if said is None else data[:4] + struct.pack('<I', said) + data[8:]
    data = zlib.compress(data)
    return struct.pack('<II', 15, len(data)) + data


def test_hostile_matlab_files(tmp_path):
    path = tmp_path / 'train_32x32.mat'
    header = b'MATLAB 5.0 MAT-file'.ljust(124) + b'\x00\x01IM'
    y = matrix((1, 1), b'\x01', name=b'y')
    path.write_bytes(header + packed(matrix()) + y)
    assert len(datasets.open_source('svhn', 'train', str(tmp_path))) == 1
    nan = matrix((1, 1), struct.pack('<d', float('nan')), flags=6, name=b'y', kind=9)
    cases = [
        ('it has no header of level 5', b'x' * 500),
        ('it has version 2', header[:124] + b'\x00\x02IM' + bytes(400)),
        ('it is truncated', header + packed(matrix())[:-9]),
        ('it is truncated', header + packed(matrix(), said=2**32 - 8)),
        ('it is truncated', header + matrix()[:-2000]),
        ('unpack', header + matrix()[:5]),
        ('Error -3', header + packed(matrix())[:40] + b'x' * 20 + packed(matrix())[60:] + y),
        ('X has the shape', header + packed(matrix((32, 32, 3, 2**30))) + y),
        ('X has the shape', header + packed(matrix((-1, 32, -96, 1))) + y),
        ('X has the shape', header + packed(matrix((), b'')) + y),
        ('X is not an array of real numbers', header + packed(matrix(flags=1)) + y),
        ('X has numbers of type 14', header + packed(matrix(kind=14)) + y),
        ('buffer size', header + packed(matrix(kind=9, numbers=bytes(12))) + y),
        ('an invalid element', header + packed(matrix()) + struct.pack('<II', 2**24, 1)),
        ('is not SVHN: X should be bytes', header + packed(matrix((32, 32, 3, 2), bytes(6144))) + y),
        ('is not SVHN: X should be bytes', header + y),
        ('is not SVHN: its labels', header + packed(matrix()) + matrix((1, 1), b'\x00', name=b'y')),
        ('is not SVHN: its labels', header + packed(matrix()) + nan),
    ]
    for message, data in cases:
        path.write_bytes(data)
        with pytest.raises(UserError, match=f'train_32x32.mat .*{message}'):
            datasets.open_source('svhn', 'train', str(tmp_path))
            pytest.fail(message)


# MNIST's form


def idx(array, count=None):
    shape = (count or len(array), *array.shape[1:])
    return struct.pack(f'>{1 + array.ndim}I', 0x800 + array.ndim, *shape) + array.tobytes()


IDX = idx(noise(3, 28, 28))


@pytest.mark.parametrize(
    ('dataset', 'folder', 'last'), [('mnist', 'MNIST', '9'), ('fashion_mnist', 'FashionMNIST', 'Ankle boot')]
)
def test_fashion_mnist_has_the_files_of_mnist_and_its_own_classes(tmp_path, dataset, folder, last):
    images = noise(3, 28, 28)
    for place in (tmp_path / 'here', tmp_path / 'torchvision' / folder / 'raw'):
        place.mkdir(parents=True)
        (place / 't10k-images-idx3-ubyte').write_bytes(idx(images))
        (place / 't10k-labels-idx1-ubyte').write_bytes(idx(np.uint8([9, 0, 5])))
    for data_dir in ('here', 'torchvision'):
        source = datasets.open_source(dataset, 'test', str(tmp_path / data_dir))
        assert np.array_equal(source.images[..., 0], images)
        assert source.class_names[source.labels[0]] == last
    others = {'mnist': 'fashion_mnist', 'fashion_mnist': 'mnist'}
    with pytest.raises(UserError, match='MNIST is not in'):  # torchvision's folders keep the two apart
        datasets.open_source(others[dataset], 'test', str(tmp_path / 'torchvision'))


@pytest.mark.parametrize('data', [idx(noise(3, 28, 28), 2**31), idx(noise(3, 28, 28), 4), b'', IDX[:9], IDX + b'1'])
def test_a_broken_idx_file(tmp_path, data):
    (tmp_path / 't10k-images-idx3-ubyte').write_bytes(data)
    with pytest.raises(UserError, match='t10k-images-idx3-ubyte is not a complete IDX file'):
        datasets.open_source('fashion_mnist', 'test', str(tmp_path))


def test_a_broken_compressed_idx_file(tmp_path):
    data = gzip.compress(IDX)
    bomb = gzip.compress(idx(noise(3, 28, 28), 2**20) + bytes(2**20))  # more than its file can hold
    for broken in (data[:20] + b'x' * 50 + data[70:], data[:-9], data[:5], bomb):
        (tmp_path / 't10k-images-idx3-ubyte.gz').write_bytes(broken)
        with pytest.raises(UserError, match='t10k-images-idx3-ubyte.gz is not a complete IDX file'):
            datasets.open_source('fashion_mnist', 'test', str(tmp_path))


# Photographs


def photographs(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(8, 8, 3)).save(folder / name, 'JPEG')


def test_tiny_imagenet_by_its_name(tmp_path):
    folder = tmp_path / 'tiny-imagenet-200'
    for wnid in ('n02', 'n01'):
        photographs(folder, f'train/{wnid}/images/{wnid}_0.JPEG')
    photographs(folder, 'val/images/val_0.JPEG', 'val/images/val_1.JPEG', 'test/images/test_0.JPEG')
    lines = folder / 'val' / 'val_annotations.txt'
    lines.write_text('val_0.JPEG\tn02\t0\t0\t1\t1\nval_1.JPEG\tn01\t0\t0\t1\t1\n')
    for data_dir in (tmp_path, folder):
        train = datasets.open_source('tiny_imagenet', 'train', str(data_dir))
        assert train.class_names == ('n01', 'n02') and len(train) == 2
        test = datasets.open_source('tiny_imagenet', 'test', str(data_dir))
        assert test.labels.tolist() == [1, 0] and test.notes[0].endswith('val is used')
    lines.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(UserError, match='val_annotations.txt is not .* that can be read'):
        datasets.open_source('tiny_imagenet', 'val', str(tmp_path))


def test_imagenette_trains_ten_classes_and_tests_networks_of_1000(tmp_path):
    for split in ('train', 'val'):
        photographs(
            tmp_path / 'imagenette2-160',
            *(f'{split}/{wnid}/{n}.JPEG' for wnid in datasets.IMAGENETTE for n in range(2)),
        )
    train = datasets.open_source('imagenette', 'train', str(tmp_path))
    assert train.class_names == datasets.IMAGENETTE and len(train) == 20
    test = datasets.open_source('imagenette', 'test', str(tmp_path))
    assert label_sets.fitting(test, WNIDS) == 'subset=all'
    labels = label_sets.create('subset=all', test, 1000, WNIDS)
    assert sorted({labels.label(label) for label in test.labels}) == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    photographs(tmp_path / 'imagenette2-160', 'val/n09999999/0.JPEG')
    with pytest.raises(UserError, match="has the class 'n09999999', which Imagenette does not have"):
        datasets.open_source('imagenette', 'val', str(tmp_path))
    with pytest.raises(UserError, match="'imagenette' needs --config.data_dir"):
        datasets.open_source('imagenette', 'val')


def test_copies_of_cifar_in_class_folders(tmp_path):
    config = base.get_config()
    config.dataset, config.data_dir, config.channels = 'cifar10', str(tmp_path), 3
    with pytest.raises(UserError, match='CIFAR-10 is not in'):
        datasets.open_split(config, 'train')
    for number, name in enumerate(reversed(datasets.CIFAR10)):
        for split in ('train', 'val'):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(np.full((32, 32, 3), number, np.uint8)).save(tmp_path / split / name / '0.png')
    train, test = datasets.open_splits(config)
    assert train.images[:, 0, 0, 0].tolist() == [9 - label for label in train.labels] == list(range(9, -1, -1))
    assert len(test) == 10 and datasets.image_folder('cifar10', str(tmp_path), 'test') == tmp_path / 'val'
    assert datasets.image_folder('mnist', str(tmp_path), 'test') is None
    config.num_classes = 11
    with pytest.raises(
        UserError, match='data set cifar10 has 10 classes but the config has 11: pass --config.num_classes=10'
    ):
        datasets.open_splits(config)
    place = tmp_path / 'val' / 'cat' / '0.png'
    Image.fromarray(noise(31, 32, 3)).save(place)
    with pytest.raises(UserError, match='cat/0.png has 31x32 pixels, not 32x32; for images of any size pass'):
        datasets.open_source('cifar10', 'test', str(tmp_path))
    place.write_bytes(place.read_bytes()[:-40])
    with pytest.raises(UserError, match='cat/0.png .*; fetch the data set again'):
        datasets.open_source('cifar10', 'test', str(tmp_path))


def test_as_many_labels_as_images(tmp_path):
    (tmp_path / 't10k-images-idx3-ubyte').write_bytes(IDX)
    (tmp_path / 't10k-labels-idx1-ubyte').write_bytes(idx(np.uint8([1, 2])))
    with pytest.raises(UserError, match='3 images but 2 labels for t10k; fetch the files again'):
        datasets.open_source('mnist', 'test', str(tmp_path))
