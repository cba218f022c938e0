"""Small data sets that are held in memory: digits, MNIST, CIFAR-10, and random pixels."""

import gzip
import importlib.util
import struct
from pathlib import Path

import numpy as np

from input_pipeline.example import ArraySource, known_split
from runtime.errors import UserError, first_line

DIGITS = tuple('0123456789')


def digits(split):
    """scikit-learn's bundled handwritten digits: 1,797 scans of 8x8 in 17 grey levels, ink high.

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
    chosen = {'train': train, 'test': test}[known_split(split, ('train', 'test'))]
    table = table[np.array(chosen.split(), int)]
    images = np.rint(table[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    return ArraySource(images, table[:, 64], DIGITS, f'digits/{split}')


def mnist(data_dir, split):
    """MNIST from its four IDX files (gzipped or not) in `data_dir`, as LeCun's page and torchvision lay them out."""
    stem = {'train': 'train', 'test': 't10k'}[known_split(split, ('train', 'test'))]
    advice = (
        f'MNIST is not in {data_dir!r}: put the four files train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, '
        't10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz in a folder and pass --config.data_dir=FOLDER'
    )
    images = _read_idx(_find(data_dir, f'{stem}-images-idx3-ubyte', advice), 3)
    labels = _read_idx(_find(data_dir, f'{stem}-labels-idx1-ubyte', advice), 1)
    if len(images) != len(labels):
        raise UserError(f'{data_dir}: {len(images)} images but {len(labels)} labels for {stem}; fetch the files again')
    return ArraySource(images[..., None], labels, DIGITS, f'mnist/{split}')


def _find(data_dir, name, advice):
    for folder in (Path(data_dir), Path(data_dir) / 'MNIST' / 'raw'):  # the second is torchvision's
        for path in (folder / f'{name}.gz', folder / name):
            if path.is_file():
                return path
    raise UserError(advice)


def _read_idx(path, dimensions):
    """An IDX file of bytes: a magic number with the count of dimensions, their sizes, the values."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
        magic, *shape = struct.unpack(f'>{1 + dimensions}I', data[: 4 * (1 + dimensions)])
        if magic != 0x800 + dimensions:
            raise ValueError(f'magic number {magic:#x}')
        return np.frombuffer(data, np.uint8, offset=4 * (1 + dimensions)).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(f'{path} is no whole IDX file ({first_line(error)}); fetch it again') from None


CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


def cifar10(data_dir, split):
    """CIFAR-10's binary version: records of a label byte and 3,072 bytes (red, green, blue planes of 32x32)."""
    pattern = {'train': 'data_batch_*.bin', 'test': 'test_batch*.bin'}[known_split(split, ('train', 'test'))]
    paths = sorted(Path(data_dir).glob(pattern)) or sorted(Path(data_dir).glob(f'cifar-10-batches-bin/{pattern}'))
    if not paths:
        raise UserError(
            f'CIFAR-10 is not in {data_dir!r}: unpack cifar-10-binary.tar.gz (data_batch_1.bin ... test_batch.bin) and '
            'pass --config.data_dir=FOLDER'
        )
    data = b''.join(path.read_bytes() for path in paths)
    if len(data) % 3073:
        raise UserError(f'{paths[0].parent}: {pattern} is not whole records of 3,073 bytes; fetch CIFAR-10 again')
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    if records[:, 0].max(initial=0) > 9:
        raise UserError(f'{paths[0].parent}: {pattern} has labels above 9; this is not CIFAR-10 (CIFAR-100?)')
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return ArraySource(np.ascontiguousarray(images), records[:, 0], CIFAR10, f'cifar10/{split}')


def synthetic(split, size, channels, num_classes, seed=0):
    """Random pixels and labels, for benchmarks: 1,024 training and 256 test images."""
    count = {'train': 1024, 'test': 256}[known_split(split, ('train', 'test'))]
    rng = np.random.default_rng(seed + (split == 'test'))
    images = rng.integers(0, 256, (count, size, size, channels), np.uint8)
    names = [str(number) for number in range(num_classes)]
    source = ArraySource(images, rng.integers(0, num_classes, count), names, f'synthetic/{split}')
    source.numbered = True
    return source
