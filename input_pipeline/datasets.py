"""The data sets by name (`config.dataset`).

`DATASETS` has an entry for each. A new data set needs an entry, and a reader if no other data set has its format: in
`small_sets` if it fits in memory, in `sources` if it is streamed. The protocols, the figures and the checks of a config
read the entry. docs/data.md has the table for users.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from input_pipeline import classes, small_sets, sources
from input_pipeline.example import ArraySource
from runtime.errors import UserError, nearest

# The names of classes, in the order of the labels

DIGITS = tuple('0123456789')
FASHION = (
    'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot',
)  # fmt: skip
CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
CIFAR100 = (
    'apple', 'aquarium_fish', 'baby', 'bear', 'beaver', 'bed', 'bee', 'beetle', 'bicycle', 'bottle', 'bowl', 'boy',
    'bridge', 'bus', 'butterfly', 'camel', 'can', 'castle', 'caterpillar', 'cattle', 'chair', 'chimpanzee', 'clock',
    'cloud', 'cockroach', 'couch', 'crab', 'crocodile', 'cup', 'dinosaur', 'dolphin', 'elephant', 'flatfish',
    'forest', 'fox', 'girl', 'hamster', 'house', 'kangaroo', 'keyboard', 'lamp', 'lawn_mower', 'leopard', 'lion',
    'lizard', 'lobster', 'man', 'maple_tree', 'motorcycle', 'mountain', 'mouse', 'mushroom', 'oak_tree', 'orange',
    'orchid', 'otter', 'palm_tree', 'pear', 'pickup_truck', 'pine_tree', 'plain', 'plate', 'poppy', 'porcupine',
    'possum', 'rabbit', 'raccoon', 'ray', 'road', 'rocket', 'rose', 'sea', 'seal', 'shark', 'shrew', 'skunk',
    'skyscraper', 'snail', 'snake', 'spider', 'squirrel', 'streetcar', 'sunflower', 'sweet_pepper', 'table', 'tank',
    'telephone', 'television', 'tiger', 'tractor', 'train', 'trout', 'tulip', 'turtle', 'wardrobe', 'whale',
    'willow_tree', 'wolf', 'woman', 'worm',
)  # fmt: skip
CIFAR100_COARSE = (
    'aquatic_mammals', 'fish', 'flowers', 'food_containers', 'fruit_and_vegetables', 'household_electrical_devices',
    'household_furniture', 'insects', 'large_carnivores', 'large_man-made_outdoor_things',
    'large_natural_outdoor_scenes', 'large_omnivores_and_herbivores', 'medium_mammals', 'non-insect_invertebrates',
    'people', 'reptiles', 'small_mammals', 'trees', 'vehicles_1', 'vehicles_2',
)  # fmt: skip
IMAGENETTE = tuple(classes.WNIDS[number] for number in (0, 217, 482, 491, 497, 566, 569, 571, 574, 701))


class Request(NamedTuple):
    """The arguments of `open_source`."""

    dataset: str
    split: str
    data_dir: str
    image_size: int
    channels: int
    num_classes: int
    labels: str
    on_bad_image: str
    val_fraction: float
    val_seed: int


class DataSet(NamedTuple):
    """A data set, with either `open` or `read`.

    Fields:
      title: its name for people.
      open: `Request` -> source, for a streamed data set.
      read: `Request` -> (images uint8 [N, H, W, C], labels [N]), for a data set in memory.
      class_names: in the order of the labels; () if they come from the files. `open` has to return a source with
        these names (`classes.relabel_to`); with `read` they name its labels.
      any_classes: whether data with other classes may be opened under this name.
      class_summary: one line about the classes, if a list of their names is too long.
      data_dir, labels: whether `config.data_dir` and the label file `config.labels` are read.
      image_folders: whether 32x32 images in DATA_DIR/SPLIT/CLASS may replace its files.
      test_images: number of test images in the papers.
      view: name of the protocol that tests each image once and uncropped; '' if images are cropped.
      is_cropped: whether its images are crops of photographs, which a network sees whole, resized to its size.
      mean, std: of the channels, in gray levels (0..255), for `config.mean=NAME` and `config.std=NAME`.
      box: for handwritten digits, the side of an image and the side of the central box that a digit fills.
    """

    title: str
    open: Callable | None = None
    read: Callable | None = None
    class_names: tuple = ()
    any_classes: bool = False
    class_summary: str = ''
    data_dir: bool = True
    labels: bool = False
    image_folders: bool = False
    test_images: int = 0
    view: str = ''
    is_cropped: bool = False
    mean: tuple | float | None = None
    std: tuple | float | None = None
    box: tuple | None = None

    @property
    def in_memory(self):
        """Whether its images are read into memory."""
        return self.read is not None


# How to open each of them


def _imagenet(request):
    dataset, split = sources.find_imagenet(request.data_dir, request.split, request.labels)
    if dataset in ('folder', 'flat') and split != '.':
        split = request.split  # it is looked up again, for the note if another folder is used instead
    source = find(dataset).open(request._replace(dataset=dataset, split=split))
    if split == '.':
        source.notes.append(f'{request.data_dir} has no splits: the same images are used for training and testing')
    return source


def _folder(request, flat=False):
    return sources.open_folder(
        _data_dir(request), request.split, request.labels, request.num_classes, request.on_bad_image, flat,
        request.val_fraction, request.val_seed,
    )  # fmt: skip


def _tar(request):
    from input_pipeline import tar

    path = tar.find(_data_dir(request), request.split)
    folders = (path.parent, Path(request.data_dir))
    labels_file = sources.find_labels(request.labels, folders, needed=bool(request.labels))
    return tar.TarSource(path, labels_file, request.num_classes, on_bad_image=request.on_bad_image)


def _pack(request):
    from input_pipeline.packed import PackedSource

    return PackedSource(_data_dir(request), request.split)


def _tfds(request):
    return sources.TfdsSource(request.dataset.removeprefix('tfds:'), request.data_dir, request.split)


def _data_dir(request):
    if not request.data_dir:
        raise UserError(f'the data set {request.dataset!r} needs --config.data_dir=FOLDER')
    return request.data_dir


def _in_archive_folder(request, *names):
    """Return the request with `data_dir` replaced by the subfolder that the archive unpacks to, if it exists."""
    folders = (Path(_data_dir(request)) / name for name in names)
    return request._replace(data_dir=str(next(filter(Path.is_dir, folders), request.data_dir)), labels='')


def _tiny_imagenet(request):
    return _folder(_in_archive_folder(request, 'tiny-imagenet-200'))


def _imagenette(request):
    source = _folder(_in_archive_folder(request, 'imagenette2', 'imagenette2-320', 'imagenette2-160'))
    return classes.relabel_to(source, IMAGENETTE, 'Imagenette', request.on_bad_image)


def _imagenet_c(request):
    from papers import imagenet_c

    corruption, _, severity = request.split.partition('/')
    names = (*imagenet_c.ALEXNET, *imagenet_c.EXTRA)
    if corruption not in names or severity not in map(str, imagenet_c.SEVERITIES):
        hint = '.' if corruption in names else nearest(corruption, names)
        raise UserError(
            f'ImageNet-C has no split {request.split!r}{hint} Its splits, all for tests, are CORRUPTION/SEVERITY, as '
            'in --config.test_split=fog/3 (evaluate.py takes all with --config.test_split=test): '
            f'{", ".join(names)}; 1 to 5'
        )
    folder = imagenet_c_folder(_data_dir(request), request.split)
    if folder is None:
        raise UserError(
            f'no folder {Path(request.data_dir) / request.split}: pass --config.data_dir=FOLDER, in which the archives '
            'of ImageNet-C are unpacked'
        )
    return _folder(request._replace(data_dir=str(folder.parent), split=severity, labels=''))


def imagenet_c_folder(data_dir, split):
    """Return the folder of a split of ImageNet-C, CORRUPTION/SEVERITY, or None if it is missing.

    The archives are unpacked in one folder, or each in a folder of its name.
    """
    folders = (Path(data_dir) / archive / split for archive in ('', 'noise', 'blur', 'weather', 'digital', 'extra'))
    return next(filter(Path.is_dir, folders), None)


def _idx(title, folder):
    return lambda request: small_sets.idx(request.data_dir, request.split, title, folder)


def _cifar(files, label):
    return lambda request: small_sets.cifar(request.data_dir, request.split, files, label)


# The table

_CIFAR100 = DataSet(
    'CIFAR-100', read=_cifar(small_sets.CIFAR100, 'fine_labels'), class_names=CIFAR100, image_folders=True,
    test_images=10_000, view='cifar_single', mean=(129.3, 124.1, 112.4), std=(68.2, 65.4, 70.4),  # fb.resnet.torch
)  # fmt: skip

DATASETS = {
    'mnist': DataSet(
        'MNIST', read=_idx('MNIST', 'MNIST/raw'), class_names=DIGITS, class_summary='digits 0 to 9', test_images=10_000,
        view='mnist_single', box=(28, 20),  # LeCun et al. 1998, section III.A
    ),
    'digits': DataSet(
        "scikit-learn's digits", read=lambda request: small_sets.digits(request.split), class_names=DIGITS,
        data_dir=False, test_images=360, box=(8, 8),
    ),
    'fashion_mnist': DataSet(
        'Fashion-MNIST', read=_idx('Fashion-MNIST', 'FashionMNIST/raw'), class_names=FASHION, test_images=10_000,
        view='fashion_mnist_single', mean=72.93, std=90.015,  # 0.2860 and 0.3530 of 0..1
    ),
    'cifar10': DataSet(
        'CIFAR-10', read=_cifar(small_sets.CIFAR10, 'labels'), class_names=CIFAR10, image_folders=True,
        test_images=10_000, view='cifar_single', mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7),  # fb.resnet.torch
    ),
    'cifar100': _CIFAR100,
    'cifar100_coarse': _CIFAR100._replace(
        title="CIFAR-100's 20 superclasses", read=_cifar(small_sets.CIFAR100, 'coarse_labels'),
        class_names=CIFAR100_COARSE, mean=None, std=None,
    ),
    'svhn': DataSet(
        'SVHN', read=lambda request: small_sets.svhn(request.data_dir, request.split), class_names=DIGITS,
        test_images=26_032, view='svhn_single',
    ),
    'synthetic': DataSet(
        'random pixels', data_dir=False, read=lambda request: small_sets.synthetic(
            request.split, request.image_size, request.channels, request.num_classes
        ),
    ),
    'imagenet': DataSet(
        'ImageNet', open=_imagenet, class_names=classes.WNIDS, any_classes=True, labels=True, test_images=50_000,
        class_summary='ILSVRC2012: WordNet ids, sorted (0 is n01440764, 999 is n15075141)',
    ),
    'tiny_imagenet': DataSet(
        'Tiny-ImageNet', open=_tiny_imagenet, test_images=10_000, view='tiny_imagenet_single',
        mean=(122.451, 114.2655, 101.3625), std=(70.635, 68.6205, 71.9355),  # .4802, .4481, .3975; .2770, .2691, .2821
    ),
    'imagenette': DataSet('Imagenette', open=_imagenette, class_names=IMAGENETTE, test_images=3_925),
    'imagenet_c': DataSet(
        'ImageNet-C', open=_imagenet_c, class_names=classes.WNIDS, any_classes=True, is_cropped=True,
        test_images=50_000,
    ),
    'folder': DataSet('class folders', open=_folder, labels=True),
    'flat': DataSet('images with a label file', open=functools.partial(_folder, flat=True), labels=True),
    'tar': DataSet('the tars of ImageNet', open=_tar, labels=True),
    'pack': DataSet('a packed store', open=_pack),
    'tfds:NAME': DataSet('a TFDS data set', open=_tfds),
}  # fmt: skip
VIEWS = tuple(dict.fromkeys(data.view for data in DATASETS.values() if data.view))


def names_where(condition):
    """Return the names of the data sets whose entry satisfies `condition`."""
    return tuple(name for name, data in DATASETS.items() if condition(data))


def find(name):
    """Return the entry of a data set.

    Raises:
      UserError: there is no data set of that name.
    """
    key = 'tfds:NAME' if name.startswith('tfds:') else name
    if key not in DATASETS:
        raise UserError(f'no data set {name!r}{nearest(name, DATASETS)} There are: {", ".join(DATASETS)}.')
    return DATASETS[key]


# Opening


def open_source(
    dataset, split, data_dir='', image_size=32, channels=1, num_classes=10, labels='', on_bad_image='stop',
    val_fraction=0.0, val_seed=0,
):  # fmt: skip
    """Open the source of a split; `sources` documents the interface.

    Args:
      dataset: a name of `DATASETS`, or tfds:NAME.
      split: 'train' or 'test'; in folders 'test' may be named val or validation (`sources.find_split`); a packed store
        and TFDS have their own names and slices; SVHN also has 'extra' and 'train+extra'.
      data_dir: the folder of the data set, unless it is built in.
      image_size, channels: of synthetic data.
      num_classes: of synthetic data, and of data with a label file.
      labels: the label file of flat images: a path, or a name in DATA_DIR/SPLIT or DATA_DIR; '' looks for labels.csv
        and labels.txt there.
      on_bad_image: 'stop' or 'skip': whether a class without images is an error.
      val_fraction: of class folders without a folder of test images, the fraction of each class to test on.
      val_seed: draws those images.

    Raises:
      UserError: an unknown name or missing data; the message says how to get it.
    """
    data = find(dataset)
    if not (data.open or data.read):
        raise UserError(f'{dataset} has neither `open` nor `read` in DATASETS of input_pipeline/datasets.py')
    request = Request(
        dataset, split, data_dir, image_size, channels, num_classes, labels, on_bad_image, val_fraction, val_seed
    )
    if data.in_memory:
        return _read_into_memory(data, request)
    source = data.open(request)
    if data.class_names and not data.any_classes and tuple(source.class_names) != data.class_names:
        difference = classes.first_difference(data.class_names, source.class_names)
        raise UserError(f'{source.name} does not have the classes of {dataset} in DATASETS: {difference}')
    return source


def _read_into_memory(data, request):
    name, notes = f'{request.dataset}/{request.split}', []
    names = data.class_names or tuple(map(str, range(request.num_classes)))
    folder = image_folder(request.dataset, request.data_dir, request.split)
    if folder:
        folder_source = sources.FolderSource(folder, request.on_bad_image)
        folder_source = classes.relabel_to(folder_source, names, name, request.on_bad_image)
        images, labels = small_sets.read_folders(folder_source)
        notes = folder_source.notes
    else:
        images, labels = data.read(request)
    source = ArraySource(images, labels, names, name)
    source.notes, source.numbered = notes, not data.class_names
    return source


def image_folder(dataset, data_dir, split):
    """Return the folder of images to read instead of a data set's own files, or None."""
    if not (data_dir and dataset in DATASETS and DATASETS[dataset].image_folders):
        return None
    folder = Path(data_dir) / sources.find_split(data_dir, split)[0]
    return folder if folder.is_dir() else None


def open_split(config, split, any_classes=False):
    """Open a split with the data set and options of a config.

    Raises:
      UserError: the split is empty, or has another number of classes than the config (allowed with `any_classes`).
    """
    source = open_source(
        config.dataset, split, config.data_dir, config.image_size, config.channels, config.num_classes,
        config.labels, config.on_bad_image, config.val_fraction, config.val_seed,
    )  # fmt: skip
    if len(source.class_names) != config.num_classes and not any_classes:
        raise UserError(
            f'data set {config.dataset} has {len(source.class_names)} classes but the config has {config.num_classes}: '
            f'pass --config.num_classes={len(source.class_names)}'
        )
    if len(source) == 0:
        raise UserError(f'{config.dataset}: the split {split!r} is empty')
    return source


def open_splits(config):
    """Open the training and the test split; the labels of both index the class names of the training split.

    Raises:
      UserError: the splits have different class names; with `on_bad_image=skip` the test split may lack some.
    """
    train = open_split(config, config.train_split)
    test = open_split(config, config.test_split, any_classes=True)
    return train, classes.relabel_to(test, classes.known_names(train), train.name, config.on_bad_image)


# Class names


def class_names(dataset, num_classes, released=False):
    """Return the class names of a data set, or None if it may have others.

    Args:
      dataset: its name.
      num_classes: of a config; if the data set has another number, None is returned.
      released: whether the weights are published; all published weights for ImageNet have the same order.
    """
    data = DATASETS.get(dataset, DATASETS['tfds:NAME'])
    known = released or not data.any_classes
    return data.class_names if known and len(data.class_names) == num_classes else None


def of_network(names, config):
    """Return readable class names of a network: its checkpoint's, else those of its data set, else numbers.

    Args:
      names: from the checkpoint, with None for a class that only has a number; None if an older version wrote it.
      config: used if the checkpoint has no names.
    """
    known = names or class_names(config.dataset, config.num_classes, released=True)
    return classes.readable_or_numbers(known or [None] * config.num_classes)


def describe(names, num_classes):
    """Return one line about the classes of a network, for its passport; for `names` see `classes.known_names`."""
    data = next((data for data in DATASETS.values() if names and data.class_names == tuple(names)), None)
    if data and data.class_summary:
        return data.class_summary
    if data and num_classes <= 10:
        return f'{data.title}: {", ".join(names)}'
    return classes.describe(names, data.title if data else num_classes)
