"""Where examples lie: one random-access interface over every kind of data set.

A source has a length, `source[i]` gives an `Example`, and `source.class_names` its classes. `ArraySource` holds its
images in memory; the loader keeps those on the device. The others read one record at a time.
"""

import gzip
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from errors import UserError, first_line, nearest


class Example(NamedTuple):
    """One example: `image` is encoded bytes or uint8 [H, W, C]; `name` says where it came from."""

    image: bytes | np.ndarray
    label: int
    name: str


class ArraySource:
    """Images in memory: `images` uint8 [N, H, W, C], `labels` int32 [N]."""

    def __init__(self, images, labels, class_names, name):
        self.images, self.labels = images, np.asarray(labels, np.int32)
        self.class_names, self.name = tuple(class_names), name

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Example(self.images[index], int(self.labels[index]), f'{self.name}[{index}]')


DIGITS = tuple('0123456789')


def digits(split, seed=0):
    """scikit-learn's bundled handwritten digits: 1,797 scans of 8x8 in 17 grey levels, ink high.

    The split is fixed: 80% train, 20% test, drawn with `seed` in equal proportions of each class.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = np.rint(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=seed, stratify=labels)
    chosen = {'train': train, 'test': test}[_known_split(split, ('train', 'test'))]
    return ArraySource(images[chosen], labels[chosen], DIGITS, f'digits/{split}')


def mnist(data_dir, split):
    """MNIST from its four IDX files (gzipped or not) in `data_dir`, as LeCun's page and torchvision lay them out."""
    stem = {'train': 'train', 'test': 't10k'}[_known_split(split, ('train', 'test'))]
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
    pattern = {'train': 'data_batch_*.bin', 'test': 'test_batch*.bin'}[_known_split(split, ('train', 'test'))]
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
    count = {'train': 1024, 'test': 256}[_known_split(split, ('train', 'test'))]
    rng = np.random.default_rng(seed + (split == 'test'))
    images = rng.integers(0, 256, (count, size, size, channels), np.uint8)
    return ArraySource(
        images, rng.integers(0, num_classes, count), [str(c) for c in range(num_classes)], f'synthetic/{split}'
    )


class FolderSource:
    """A folder of class folders, `FOLDER/CLASS/IMAGE`, the layout PyTorch users have; classes in sorted order."""

    SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.pgm', '.gif', '.tif', '.tiff', '.webp')

    def __init__(self, folder):
        folder = Path(folder)
        if not folder.is_dir():
            raise UserError(f'no folder {folder}: pass --config.data_dir=FOLDER, holding SPLIT/CLASS/IMAGE')
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        self.files = []  # (path, label)
        for label, name in enumerate(classes):
            files = sorted(p for p in (folder / name).rglob('*') if p.suffix.lower() in self.SUFFIXES)
            self.files += [(str(path), label) for path in files]
        if not self.files:
            raise UserError(f'{folder} holds no images: it needs one folder a class with images inside')
        self.class_names = tuple(classes)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        path, label = self.files[index]
        return Example(Path(path).read_bytes(), label, path)


class TfdsSource:
    """A TFDS data set prepared as ArrayRecord (no TensorFlow at run time)."""

    def __init__(self, name, data_dir, split):
        import tensorflow_datasets as tfds

        directory = {'data_dir': data_dir} if data_dir else {}
        try:
            builder = tfds.builder(name, **directory)
        except tfds.core.registered.DatasetNotFoundError as error:
            raise UserError(f'TFDS knows no data set {name!r}: {first_line(error)}') from None
        command = f'python -m input_pipeline.prepare {name}' + (f' --data_dir {data_dir}' if data_dir else '')
        if not builder.data_path.exists():
            raise UserError(
                f'{name} is not prepared in {builder.data_path}. Prepare it (needs requirements-prepare.txt): {command}'
            )
        wanted = tfds.core.FileFormat.ARRAY_RECORD
        if builder.info.file_format != wanted:
            raise UserError(
                f'{builder.data_path} is in {builder.info.file_format.value} form, which has no random access. Convert '
                f'it (needs requirements-prepare.txt): {command}'
            )
        split = _known_split(split, tuple(builder.info.splits))
        self.records = builder.as_data_source(split, decoders={'image': tfds.decode.SkipDecoding()})
        self.class_names = tuple(builder.info.features['label'].names)
        self.name = f'{name}/{split}'

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        record = self.records[index]
        return Example(record['image'], int(record['label']), f'{self.name}[{index}]')


def _known_split(split, known):
    base = split.partition('[')[0]  # TFDS slices: 'train[:50%]'
    if base not in known:
        raise UserError(f'no split {split!r}{nearest(base, known)} There are: {", ".join(known)}.')
    return split


def open_source(dataset, split, data_dir='', image_size=32, channels=1, num_classes=10):
    """The source that a config names.

    Args:
      dataset: 'digits', 'mnist', 'cifar10', 'synthetic', 'folder', or 'tfds:NAME'.
      split: 'train' or 'test'; a subfolder for 'folder'; TFDS's own split names and slices for 'tfds:NAME'.
      data_dir: the folder that holds it, where it is not embedded.
      image_size, channels, num_classes: of synthetic data.

    Raises:
      UserError: an unknown name, or data that is not there; the message says how to get it.
    """
    if dataset.startswith('tfds:'):
        return TfdsSource(dataset.removeprefix('tfds:'), data_dir, split)
    if dataset == 'folder':
        return FolderSource(Path(data_dir) / split)
    known = ('digits', 'mnist', 'cifar10', 'synthetic', 'folder', 'tfds:NAME')
    if dataset == 'digits':
        return digits(split)
    if dataset == 'mnist':
        return mnist(data_dir, split)
    if dataset == 'cifar10':
        return cifar10(data_dir, split)
    if dataset == 'synthetic':
        return synthetic(split, image_size, channels, num_classes)
    raise UserError(f'no data set {dataset!r}{nearest(dataset, known)} There are: {", ".join(known)}.')
