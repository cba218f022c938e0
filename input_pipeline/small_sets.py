"""Readers of small data sets, which fit in memory: scikit-learn's digits and the formats of MNIST, CIFAR and SVHN.

Each returns (images uint8 [N, H, W, C], labels [N]). `datasets` says which data sets have which format.
"""

import gzip
import importlib.util
import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from input_pipeline import geometry, matlab
from input_pipeline.example import check_split
from runtime import foreign, pickles
from runtime.errors import UserError, first_line

_MAX_BYTES = 1 << 30  # of a file of MNIST or CIFAR; the largest released one has 155 MB
_SPLITS = ('train', 'test')


def digits(split):
    """Read scikit-learn's handwritten digits: 1,797 scans of 8x8 in 17 gray levels, ink high.

    The split is fixed: 80% train, 20% test, in equal proportions of each class. `digits_split.txt` lists the examples
    of each in order, as drawn by `train_test_split(test_size=0.2, random_state=0, stratify=labels)` of scikit-learn.

    Importing scikit-learn takes as long as importing JAX, so this reads the file of `sklearn.datasets.load_digits`
    directly.

    Raises:
      UserError: scikit-learn is not installed, or there is no such split.
    """
    package = importlib.util.find_spec('sklearn')
    if package is None:
        raise UserError('the digits are part of scikit-learn: pip install scikit-learn')
    scans = Path(package.origin).parent / 'datasets/data/digits.csv.gz'
    table = np.loadtxt(scans, delimiter=',', dtype=np.uint8)  # 64 pixels and the label
    train, test = (Path(__file__).parent / 'digits_split.txt').read_text().split('\n\n')
    indices = {'train': train, 'test': test}[check_split(split, _SPLITS)].split()
    table = table[np.array(indices, int)]
    return np.rint(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8), table[:, 64]


def synthetic(split, size, channels, num_classes):
    """Generate random pixels and labels for benchmarks: 1,024 training and 256 test images."""
    count = {'train': 1024, 'test': 256}[check_split(split, _SPLITS)]
    rng = np.random.default_rng(int(split == 'test'))
    images = rng.integers(0, 256, (count, size, size, channels), np.uint8)
    return images, rng.integers(0, num_classes, count)


# IDX, MNIST's format


def idx(data_dir, split, title, folder):
    """Read a split of MNIST, or of a data set in its format, from IDX files, gzipped or not.

    Args:
      data_dir: the folder with the four files, or the folder that contains `folder`.
      split: 'train' or 'test'.
      title: of the data set, for messages.
      folder: where torchvision stores the files, such as 'MNIST/raw'.

    Raises:
      UserError: no such split, missing files, or truncated files.
    """
    stem = {'train': 'train', 'test': 't10k'}[check_split(split, _SPLITS)]
    images, labels = (
        _idx_file(data_dir, f'{stem}-{part}-ubyte', title, folder) for part in ('images-idx3', 'labels-idx1')
    )
    if len(images) != len(labels):
        raise UserError(f'{data_dir}: {len(images)} images but {len(labels)} labels for {stem}; fetch the files again')
    return images[..., None], labels


def _idx_file(data_dir, name, title, folder):
    """Read an IDX file of bytes: a magic number with the number of dimensions, their sizes, the values."""
    path = _find_file(data_dir, ('', folder), (f'{name}.gz', name))
    if path is None:
        raise UserError(
            f'{title} is not in {data_dir!r}: put the four files train-images-idx3-ubyte.gz, '
            'train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz in a folder and pass '
            '--config.data_dir=FOLDER'
        )
    dimensions = int(name.removesuffix('-ubyte')[-1])
    with foreign.parsing(path, 'a complete IDX file', 'fetch it again'), foreign.open_regular(path, _MAX_BYTES) as file:
        values = gzip.GzipFile(fileobj=file) if path.suffix == '.gz' else file
        magic, *shape = struct.unpack(f'>{1 + dimensions}I', values.read(4 * (1 + dimensions)))
        count = math.prod(shape)
        if magic != 0x800 + dimensions:
            raise ValueError(f'magic number {magic:#x}')
        if count > foreign.most_unpacked(path.stat().st_size):
            raise ValueError(f'it cannot contain {count:,} bytes')
        return np.frombuffer(values.read(count + 1), np.uint8).reshape(shape)


def _find_file(data_dir, folders, names):
    """Return the path of the first existing file with one of the names in one of the subfolders, or None."""
    paths = (Path(data_dir) / folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)


# CIFAR's archives


class Cifar(NamedTuple):
    """The files of CIFAR-10 or CIFAR-100.

    Fields:
      title: for messages.
      archive: the released file.
      binary, python: the folder of the binary and of the Python version.
      train, test: patterns for the file names of a split, without suffix.
      labels: the kinds of label at the start of a binary record, in order.
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
    """Read a split of CIFAR-10 or CIFAR-100, from the binary or the Python version.

    Args:
      data_dir: the folder with the files, or the folder that contains it.
      split: 'train' or 'test'.
      files: `CIFAR10` or `CIFAR100`.
      label: one of `files.labels`.

    Raises:
      UserError: no such split, or missing or invalid files.
    """
    pattern = {'train': files.train, 'test': files.test}[check_split(split, _SPLITS)]
    for suffix, folder, read in (('.bin', files.binary, _binary), ('', files.python, _python)):
        for root in (Path(data_dir), Path(data_dir) / folder):
            paths = sorted(path for path in root.glob(pattern + suffix) if path.suffix == suffix and path.is_file())
            if paths:
                pixels, labels = zip(*(read(path, files, label) for path in paths), strict=True)
                if len(set(map(len, labels))) > 1:
                    counts = ', '.join(f'{path.name} {len(part):,}' for path, part in zip(paths, labels, strict=True))
                    raise UserError(
                        f'{root}: the files should have the same number of images, not {counts}; '
                        f'fetch {files.title} again'
                    )
                images = np.concatenate(pixels).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                return np.ascontiguousarray(images), np.concatenate(labels)
    raise UserError(f'{files.title} is not in {data_dir!r}: unpack {files.archive} and pass --config.data_dir=FOLDER')


def _binary(path, files, label):
    """Read records of label bytes and 3,072 pixel bytes: red, green and blue planes of 32x32."""
    width = len(files.labels) + 3072
    data = foreign.read_regular(path, _MAX_BYTES)
    if len(data) % width:
        raise UserError(f'{path} does not consist of records of {width:,} bytes; fetch {files.title} again')
    records = np.frombuffer(data, np.uint8).reshape(-1, width)
    return records[:, len(files.labels) :], records[:, files.labels.index(label)]


def _python(path, files, label):
    """Read a pickled dict with the same bytes, an array [N, 3072], and lists of labels, without executing it."""
    with foreign.parsing(path, f'a file of {files.title}', 'fetch it again'):
        with foreign.open_regular(path, _MAX_BYTES) as file:
            batch = pickles.load(file, path, _call, build=_build)
        batch = batch if isinstance(batch, dict) else {}
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        pixels, labels = batch.get('data'), batch.get(label)
        if not isinstance(pixels, _Array) or not isinstance(labels, list):
            raise ValueError(f'it lacks data or {label}')
        if not all(type(number) is int and 0 <= number < 256 for number in labels):
            raise ValueError(f'{label} are not numbers')
        return pixels.bytes(len(labels), 3072), np.array(labels, np.uint8)


class _Array:
    """The state of a pickled NumPy array: (version, shape, dtype, whether in column order, bytes)."""

    state = ()

    def bytes(self, *shape):
        """Return the values as uint8; raise ValueError if the array has another shape or type."""
        match self.state:
            case (_, saved_shape, 'u1', by_columns, data) if saved_shape == shape and type(data) in (bytes, str):
                data = data.encode('latin-1') if isinstance(data, str) else data  # text, as Python 2 wrote it
                return np.frombuffer(data, np.uint8).reshape(shape, order='F' if by_columns else 'C')
        raise ValueError(f'its data is not an array of bytes, {shape[0]:,} x {shape[1]:,}')


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
    """Read a split of SVHN's cropped digits from MATLAB files; label 10 there is the digit 0.

    Args:
      data_dir: the folder of train_32x32.mat, test_32x32.mat and extra_32x32.mat.
      split: 'train', 'test', 'extra', or 'train+extra' as in papers.

    Raises:
      UserError: no such split, or missing or invalid files.
    """
    check_split(split, (*_SPLITS, 'extra', 'train+extra'))
    parts = [_svhn_file(data_dir, f'{part}_32x32.mat') for part in split.split('+')]
    images = np.empty((sum(len(labels) for _, labels in parts), 32, 32, 3), np.uint8)
    np.concatenate([pixels for pixels, _ in parts], out=images)
    return images, np.concatenate([labels for _, labels in parts])


def _svhn_file(data_dir, name):
    path = _find_file(data_dir, ('',), (name,))
    if path is None:
        raise UserError(
            f'SVHN is not in {data_dir!r}: put train_32x32.mat and test_32x32.mat (and extra_32x32.mat, for '
            '--config.train_split=train+extra) in a folder and pass --config.data_dir=FOLDER'
        )
    arrays = matlab.read(path, ('X', 'y'))
    pixels, labels = (arrays.get(key, np.empty(0)) for key in ('X', 'y'))
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels  # MATLAB drops a last dimension of 1
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape != (32, 32, 3, labels.size):
        raise UserError(
            f'{path} is not SVHN: X should be bytes, 32 x 32 x 3 x N, and y N numbers, but their shapes are '
            f'{pixels.shape} and {labels.shape}'
        )
    if not np.isin(labels, np.arange(1, 11)).all():
        raise UserError(f'{path} is not SVHN: its labels should be 1 to 10')
    return pixels.transpose(3, 0, 1, 2), labels.ravel().astype(np.int32) % 10


# Copies as image files


def read_folders(source):
    """Read all images of a source of class folders, which must be 32x32.

    Raises:
      UserError: an image has another size, or cannot be read.
    """
    images, labels = np.empty((len(source), 32, 32, 3), np.uint8), np.empty(len(source), np.int32)
    for index in range(len(source)):
        example = source[index]
        try:
            image = geometry.decode(example.image)
        except ValueError as error:
            raise UserError(f'{example.name} {first_line(error)}; fetch the data set again') from None
        if image.shape[:2] != (32, 32):
            raise UserError(
                f'{example.name} has {image.shape[0]}x{image.shape[1]} pixels, not 32x32; for images of any size pass '
                '--config.dataset=folder'
            )
        images[index], labels[index] = image, example.label
    return images, labels
