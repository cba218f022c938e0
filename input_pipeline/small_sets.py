"""Readers of small data sets, which are held in memory: scikit-learn's digits, the forms of MNIST, CIFAR and SVHN.

Each gives (images uint8 [N, H, W, C], labels [N]). `datasets` says which data sets come in which form.
"""

import gzip
import importlib.util
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from input_pipeline import geometry, matlab
from input_pipeline.example import check_split
from runtime import pickles
from runtime.errors import UserError, first_line

_SPLITS = ('train', 'test')


def digits(split):
    """scikit-learn's bundled handwritten digits: 1,797 scans of 8x8 in 17 gray levels, ink high.

    The split is fixed: 80% train, 20% test in equal proportions of each class. `digits_split.txt` lists the examples of
    each in order, as scikit-learn's `train_test_split(test_size=0.2, random_state=0, stratify=labels)` draws them.

    Importing scikit-learn takes as long as importing JAX, so the file that `sklearn.datasets.load_digits` reads is read
    here.

    Raises:
      UserError: scikit-learn is not installed, or there is no such split.
    """
    package = importlib.util.find_spec('sklearn')
    if package is None:
        raise UserError('the digits come with scikit-learn: pip install scikit-learn')
    scans = Path(package.origin).parent / 'datasets/data/digits.csv.gz'
    table = np.loadtxt(scans, delimiter=',', dtype=np.uint8)  # 64 pixels and the label
    train, test = (Path(__file__).parent / 'digits_split.txt').read_text().split('\n\n')
    chosen = {'train': train, 'test': test}[check_split(split, _SPLITS)]
    table = table[np.array(chosen.split(), int)]
    return np.rint(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8), table[:, 64]


def synthetic(split, size, channels, num_classes):
    """Random pixels and labels, for benchmarks: 1,024 training and 256 test images."""
    count = {'train': 1024, 'test': 256}[check_split(split, _SPLITS)]
    rng = np.random.default_rng(int(split == 'test'))
    images = rng.integers(0, 256, (count, size, size, channels), np.uint8)
    return images, rng.integers(0, num_classes, count)


# IDX, the form of MNIST

_DEFLATE = 1_032  # bytes that one compressed byte can become, at most


def idx(data_dir, split, title, folder):
    """A split of MNIST, or of a set that takes its place, from its IDX files, gzipped or not.

    Args:
      data_dir: the folder with the four files, or the one with `folder`.
      split: 'train' or 'test'.
      title: of the data set, for messages.
      folder: in which torchvision puts them, 'MNIST/raw'.

    Raises:
      UserError: no such split, no such files, or files that are cut short.
    """
    stem = {'train': 'train', 'test': 't10k'}[check_split(split, _SPLITS)]
    images, labels = (
        _idx_file(data_dir, f'{stem}-{part}-ubyte', title, folder) for part in ('images-idx3', 'labels-idx1')
    )
    if len(images) != len(labels):
        raise UserError(f'{data_dir}: {len(images)} images but {len(labels)} labels for {stem}; fetch the files again')
    return images[..., None], labels


def _idx_file(data_dir, name, title, folder):
    """An IDX file of bytes: a magic number with the count of dimensions, their sizes, the values."""
    path = _first(data_dir, ('', folder), (f'{name}.gz', name))
    if path is None:
        raise UserError(
            f'{title} is not in {data_dir!r}: put the four files train-images-idx3-ubyte.gz, '
            'train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz in a folder and pass '
            '--config.data_dir=FOLDER'
        )
    dimensions = int(name.removesuffix('-ubyte')[-1])
    try:
        with gzip.open(path) if path.suffix == '.gz' else open(path, 'rb') as file:
            magic, *shape = struct.unpack(f'>{1 + dimensions}I', file.read(4 * (1 + dimensions)))
            count = math.prod(shape)
            if magic != 0x800 + dimensions:
                raise ValueError(f'magic number {magic:#x}')
            if count > _DEFLATE * path.stat().st_size:
                raise ValueError(f'{count:,} bytes are not in it')
            return np.frombuffer(file.read(count + 1), np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise UserError(f'{path} is no whole IDX file ({first_line(error)}); fetch it again') from None


def _first(data_dir, folders, names):
    """The path of the first file that is there, of some names in some folders of one; None where there is none."""
    paths = (Path(data_dir) / folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


# CIFAR's archives


class Cifar(NamedTuple):
    """The files of one of the two CIFARs.

    Fields:
      title: in messages.
      archive: the file that is fetched.
      binary, python: the folder of the binary and of the Python version.
      train, test: what the files of a split are called, without a suffix.
      labels: what the label bytes of a binary record are, in order.
    """

    title: str
    archive: str
    binary: str
    python: str
    train: str
    test: str
    labels: tuple


CIFAR10 = Cifar(
    'CIFAR-10', 'cifar-10-binary.tar.gz (data_batch_1.bin ... test_batch.bin)', 'cifar-10-batches-bin',
    'cifar-10-batches-py', 'data_batch_*', 'test_batch*', ('labels',),
)  # fmt: skip
CIFAR100 = Cifar(
    'CIFAR-100', 'cifar-100-binary.tar.gz (train.bin, test.bin)', 'cifar-100-binary',
    'cifar-100-python', 'train', 'test', ('coarse_labels', 'fine_labels'),
)  # fmt: skip


def cifar(data_dir, split, files, label):
    """A split of CIFAR-10 or CIFAR-100, in the binary version or in the one for Python.

    Args:
      data_dir: the folder of the files, or the one that holds their folder.
      split: 'train' or 'test'.
      files: `CIFAR10` or `CIFAR100`.
      label: which one of `files.labels`.

    Raises:
      UserError: no such split, no such files, or files that are not theirs.
    """
    pattern = {'train': files.train, 'test': files.test}[check_split(split, _SPLITS)]
    for suffix, folder, read in (('.bin', files.binary, _binary), ('', files.python, _python)):
        for place in (Path(data_dir), Path(data_dir) / folder):
            paths = sorted(path for path in place.glob(pattern + suffix) if path.suffix == suffix and path.is_file())
            if paths:
                pixels, labels = zip(*(read(path, files, label) for path in paths), strict=True)
                images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                return np.ascontiguousarray(images), np.concatenate(labels)
    raise UserError(f'{files.title} is not in {data_dir!r}: unpack {files.archive} and pass --config.data_dir=FOLDER')


def _binary(path, files, label):
    """Records of the label bytes and 3,072 bytes: red, green and blue planes of 32x32."""
    width = len(files.labels) + 3072
    data = path.read_bytes()
    if len(data) % width:
        raise UserError(f'{path} is not whole records of {width:,} bytes; fetch {files.title} again')
    records = np.frombuffer(data, np.uint8).reshape(-1, width)
    return records[:, len(files.labels) :], records[:, files.labels.index(label)]


def _python(path, files, label):
    """A pickled dict with the same bytes, an array [N, 3072], and lists of labels; it is read as data."""
    try:
        with open(path, 'rb') as file:
            batch = pickles.load(file, path, _call, build=_build)
        batch = batch if isinstance(batch, dict) else {}
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        pixels, labels = batch.get('data'), batch.get(label)
        if not isinstance(pixels, _Array) or not isinstance(labels, list):
            raise ValueError(f'it has no data or no {label}')
        if not all(type(number) is int and 0 <= number < 256 for number in labels):
            raise ValueError(f'{label} are not numbers')
        return pixels.bytes(len(labels), 3072), np.array(labels, np.uint8)
    except (OSError, EOFError, ValueError, pickles.Broken) as error:
        raise UserError(f'{path} is no file of {files.title} ({first_line(error)}); fetch it again') from None


class _Array:
    """What NumPy's pickled array says of itself: (version, shape, dtype, whether by columns, bytes)."""

    state = ()

    def bytes(self, *shape):
        """Its values, uint8; ValueError where it is of another shape or type."""
        match self.state:
            case (_, held, 'u1', by_columns, data) if held == shape and type(data) in (bytes, str):
                data = data.encode('latin-1') if isinstance(data, str) else data  # text, as Python 2 wrote it
                return np.frombuffer(data, np.uint8).reshape(shape, order='F' if by_columns else 'C')
        raise ValueError(f'its data is no array of bytes, {shape[0]:,} x {shape[1]:,}')


def _call(function, arguments):
    match str(function), arguments:
        case 'numpy.core.multiarray._reconstruct' | 'numpy._core.multiarray._reconstruct', _:
            return _Array()
        case 'numpy.dtype', ('u1' | b'u1', *_):
            return 'u1'
        case '_codecs.encode', (str(text), 'latin1' | 'latin-1'):  # bytes, as Python 3 writes them for Python 2
            return text.encode('latin-1')
    return pickles.Foreign(str(function))


def _build(thing, state):
    if isinstance(thing, _Array):
        thing.state = state


# SVHN


def svhn(data_dir, split):
    """A split of SVHN's cropped digits, from its MATLAB files; their label 10 is the digit 0.

    Args:
      data_dir: the folder of train_32x32.mat, test_32x32.mat and extra_32x32.mat.
      split: 'train', 'test', 'extra', or 'train+extra', what papers train on.

    Raises:
      UserError: no such split, no such files, or files that are not SVHN's.
    """
    check_split(split, (*_SPLITS, 'extra', 'train+extra'))
    parts = [_svhn_file(data_dir, f'{part}_32x32.mat') for part in split.split('+')]
    images = np.empty((sum(len(labels) for _, labels in parts), 32, 32, 3), np.uint8)
    np.concatenate([pixels for pixels, _ in parts], out=images)
    return images, np.concatenate([labels for _, labels in parts])


def _svhn_file(data_dir, name):
    path = _first(data_dir, ('',), (name,))
    if path is None:
        raise UserError(
            f'SVHN is not in {data_dir!r}: put train_32x32.mat and test_32x32.mat (and extra_32x32.mat, for '
            '--config.train_split=train+extra) in a folder and pass --config.data_dir=FOLDER'
        )
    arrays = matlab.read(path, ('X', 'y'))
    pixels, labels = (arrays.get(key, np.empty(0)) for key in ('X', 'y'))
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels  # MATLAB leaves out a last side of 1
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape != (32, 32, 3, labels.size):
        raise UserError(
            f'{path} is not SVHN: X should be bytes, 32 x 32 x 3 x N, and y N numbers; they are of the shapes '
            f'{pixels.shape} and {labels.shape}'
        )
    if not np.isin(labels, np.arange(1, 11)).all():
        raise UserError(f'{path} is not SVHN: its labels should be 1 to 10')
    return pixels.transpose(3, 0, 1, 2), labels.ravel().astype(np.int32) % 10


# Copies


def of_folders(source):
    """The images of a source of class folders, all of 32x32.

    Raises:
      UserError: an image is of another size, or cannot be read.
    """
    images, labels = np.empty((len(source), 32, 32, 3), np.uint8), np.empty(len(source), np.int32)
    for index, place in enumerate(images):
        example = source[index]
        try:
            image = geometry.decode(example.image)
        except ValueError as error:
            raise UserError(f'{example.name} {first_line(error)}; fetch the data set again') from None
        if image.shape != place.shape:
            raise UserError(f'{example.name} is of {image.shape[0]}x{image.shape[1]} pixels, not of 32x32')
        place[...], labels[index] = image, example.label
    return images, labels
