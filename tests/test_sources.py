import gzip
import io
import struct

import numpy as np
import pytest
from PIL import Image

from errors import UserError
from input_pipeline import geometry, sources


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
    train, test = sources.digits('train'), sources.digits('test')
    assert (len(train), len(test)) == (1437, 360)
    both = np.bincount(train.labels) + np.bincount(test.labels)
    assert both.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # of the data set
    assert np.abs(np.bincount(test.labels) - both / 5).max() < 1
    assert train.images.max() == 255 and train.images.dtype == np.uint8
    assert np.array_equal(train.images, sources.digits('train').images)  # a fixed split


def test_mnist_reads_idx_files(mnist_folder):
    train = sources.mnist(str(mnist_folder), 'train')
    assert len(train) == 30 and train.images.shape == (30, 28, 28, 1)
    assert train[12].label == 2 and train[12].name == 'mnist/train[12]'
    assert np.array_equal(train[3].image, train.images[3])
    raw = gzip.decompress((mnist_folder / 'train-images-idx3-ubyte.gz').read_bytes())
    assert train.images[3].tobytes() == raw[16 + 3 * 784 : 16 + 4 * 784]


def test_mnist_says_what_is_wrong(mnist_folder, tmp_path):
    with pytest.raises(UserError, match='--config.data_dir'):
        sources.mnist(str(tmp_path / 'nowhere'), 'train')
    with pytest.raises(UserError, match='did you mean train'):
        sources.mnist(str(mnist_folder), 'trian')
    images = mnist_folder / 'train-images-idx3-ubyte.gz'
    images.write_bytes(images.read_bytes()[:-100])
    with pytest.raises(UserError, match='train-images-idx3-ubyte.gz is no whole IDX file'):
        sources.mnist(str(mnist_folder), 'train')


def test_cifar10_planes_become_pixels(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    labels = np.array([3, 9, 0, 5], np.uint8)
    records = np.concatenate([labels[:, None], images.transpose(0, 3, 1, 2).reshape(4, -1)], axis=1)
    (tmp_path / 'data_batch_1.bin').write_bytes(records[:2].tobytes())
    (tmp_path / 'data_batch_2.bin').write_bytes(records[2:].tobytes())
    (tmp_path / 'test_batch.bin').write_bytes(records[:1].tobytes()[:-5])
    source = sources.cifar10(str(tmp_path), 'train')
    assert np.array_equal(source.images, images) and source.labels.tolist() == labels.tolist()
    assert source.class_names[source[1].label] == 'truck'
    with pytest.raises(UserError, match='whole records'):
        sources.cifar10(str(tmp_path), 'test')
    with pytest.raises(UserError, match='CIFAR-10 is not in'):
        sources.cifar10(str(tmp_path / 'none'), 'test')


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
    with pytest.raises(UserError, match='no folder'):
        sources.FolderSource(tmp_path / 'none')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='holds no images'):
        sources.FolderSource(tmp_path / 'empty')


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

    with pytest.raises(UserError, match=r'python -m input_pipeline.prepare tiny --data_dir'):
        sources.open_source('tfds:tiny', 'train', str(tmp_path))
    Tiny(data_dir=str(tmp_path), file_format='array_record').download_and_prepare()
    source = sources.open_source('tfds:tiny', 'train', str(tmp_path))
    assert len(source) == 8 and source.class_names == ('cat', 'dog')
    values = [int(geometry.decode(source[i].image)[0, 0, 0]) for i in range(8)]
    assert sorted(values) == [0, 10, 20, 30, 40, 50, 60, 70]  # TFDS shuffles when it writes
    assert all(source[i].label == value // 10 % 2 for i, value in enumerate(values))
    with pytest.raises(UserError, match='no split'):
        sources.open_source('tfds:tiny', 'trian', str(tmp_path))
    with pytest.raises(UserError, match='TFDS knows no data set'):
        sources.open_source('tfds:tinny', 'train', str(tmp_path))


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UserError, match='did you mean cifar10'):
        sources.open_source('cifar', 'train')


def test_decoding_agrees_with_pillow():
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((61, 47)))
    for suffix, options in (('JPEG', {'quality': 90}), ('JPEG', {'progressive': True}), ('PNG', {})):
        buffer = io.BytesIO()
        Image.fromarray(smooth).save(buffer, suffix, **options)
        expected = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert('RGB'))
        assert np.array_equal(geometry.decode(buffer.getvalue()), expected)
        assert geometry.decode(buffer.getvalue(), channels=1).shape == (47, 61, 1)
    buffer = io.BytesIO()
    Image.fromarray(smooth).convert('CMYK').save(buffer, 'JPEG')
    assert geometry.decode(buffer.getvalue()).shape == (47, 61, 3)
    buffer = io.BytesIO()
    Image.fromarray(smooth).convert('L').save(buffer, 'JPEG')
    grey = geometry.decode(buffer.getvalue())
    assert np.array_equal(grey[..., 0], grey[..., 2])
    with pytest.raises(ValueError, match='cannot be decoded'):
        geometry.decode(b'\xff\xd8 no image')
    with pytest.raises(ValueError, match='cannot be decoded'):
        geometry.decode(buffer.getvalue()[:200], channels=1)


def test_padding_centres_and_grey_is_pillows():
    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28, 1)
    padded = geometry.pad(image, 32, 32)
    assert np.array_equal(padded[2:30, 2:30], image) and padded.sum() == image.sum()
    rgb = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    assert np.array_equal(geometry.match_channels(rgb, 1)[..., 0], np.asarray(Image.fromarray(rgb).convert('L')))
    with pytest.raises(ValueError, match='too large'):
        geometry.fit(image, 20, 'pad')


def test_resize_is_pillows_antialiased_bilinear():
    rgb = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    expected = np.asarray(Image.fromarray(rgb).resize((8, 8), Image.Resampling.BILINEAR))
    assert np.array_equal(geometry.resize(rgb, 8, 8), expected)


def test_real_mnist(test_data):
    train, test = (sources.mnist(str(test_data / 'mnist'), split) for split in ('train', 'test'))
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    padded = np.pad(train.images, ((0, 0), (2, 2), (2, 2), (0, 0))).astype(np.float64)
    values = -0.1 + 1.275 * padded / 255
    assert values.mean() == pytest.approx(0.0275, abs=1e-3) and values.std() == pytest.approx(0.351, abs=1e-3)


def test_real_cifar10(test_data):
    source = sources.cifar10(str(test_data / 'cifar10'), 'test')
    assert source.images.shape == (1000, 32, 32, 3)
    assert [source.class_names[label] for label in source.labels[:4]] == ['cat', 'ship', 'ship', 'airplane']
    folder = sources.FolderSource(test_data / 'cifar10' / 'jpeg' / 'test')
    assert len(folder) == 10_000 and folder.class_names == sources.CIFAR10
