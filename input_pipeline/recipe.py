"""What a config says of the input, as functions: the room's door for those who hold a config."""

import functools
from pathlib import Path

import jax
import numpy as np

from input_pipeline import classes, colour, crops, loader, sources, statistics
from input_pipeline.distortion import distort
from runtime.errors import UserError

MEASURED = (
    'mean_image',
    'channel_mean',
    'channel_mean_std',
)  # of `normalize`: what statistics of the data set it needs


def open_split(config, split, any_classes=False):
    """The source of a split that the config names; UserError when its classes are not the config's, unless any do."""
    source = sources.open_source(
        config.dataset, split, config.data_dir, config.image_size, config.channels, config.num_classes,
        config.labels, config.on_bad_image,
    )  # fmt: skip
    if len(source.class_names) != config.num_classes and not any_classes:
        raise UserError(
            f'{config.dataset} has {len(source.class_names)} classes and the config {config.num_classes}: pass '
            f'--config.num_classes={len(source.class_names)}'
        )
    if len(source) == 0:
        raise UserError(f'{config.dataset}: the split {split!r} is empty')
    return source


def open_splits(config):
    """The sources of the training and the test split, the labels of both counting in the training split's classes.

    Raises:
      UserError: they have other classes, by name; with `on_bad_image=skip` the test split may lack some.
    """
    train = open_split(config, config.train_split)
    test = open_split(config, config.test_split, any_classes=True)
    return train, classes.like(test, classes.told(train), train.name, config.on_bad_image)


def form(config, train):
    """How a training or a test image of the config comes to the device."""
    crop = config.crop if train else config.test_crop
    rule = None if crop.kind == 'none' else crops.rule(config.image_size, **crop)
    return loader.Form(config.image_size, config.channels, config.fit, rule)


def order(config, num_examples):
    """(start, stop) -> (example numbers, epochs) of these positions of a run, versions included."""
    virtual = num_examples * config.distortion.versions
    return functools.partial(loader.example_order, num_examples=virtual, seed=seed(config))


def seed(config):
    """Of the order of the examples and of what is random in them: `data_seed`, or the run's."""
    return config.seed if config.data_seed == -1 else config.data_seed


def needs_statistics(config):
    """Whether anything of the config is measured on its images."""
    return config.normalize in MEASURED or config.colour.lighting == 'measured'


def statistics_of(config, workdir, source=None):
    """What the config needs of `input_pipeline.statistics`: {} , the file it names, or that of the run.

    Args:
      config: see `configs/base.py`.
      workdir: of the run.
      source: the training images, to measure where the run has no file yet; it is kept there.

    Raises:
      UserError: a file that is not there, or that is none.
    """
    if not needs_statistics(config):
        return {}
    path = Path(config.statistics or workdir / statistics.NAME)
    if not path.exists() and not config.statistics and source is not None:
        size, rule = statistics_view(config)
        found = statistics.measure(source, size, config.channels, rule, config.on_bad_image, config.fit)
        statistics.save(path, found)
    return statistics.load(path)


def blank_statistics(config):
    """Statistics of the right shapes that were never measured: to compile and to time with."""
    size, _ = statistics_view(config)
    return statistics.of_mean_image(np.zeros((size, size, config.channels)))


def statistics_view(config):
    """(size, rule) of the part of a training image that is measured: the square that crops are cut from, or the centre
    of a photograph, of the size that the network takes."""
    crop = config.crop
    size = crop.short_side[0] if crop.square or crop.warp else config.image_size
    values = {
        **(config.test_crop if config.test_crop.kind != 'none' else crop),
        'square': crop.square,
        'warp': crop.warp,
    }
    return size, None if crop.kind == 'none' else crops.rule(size, **values | {'kind': 'center'})


def _normalization(config, statistics):
    """What `colour.augment` subtracts and divides by."""
    if config.normalize == 'constant':
        return {'mean': colour.MEANS[config.mean], 'std': colour.STDS[config.std]}
    if config.normalize == 'mean_image':
        # A mean image of the network's own size is the same under every crop; one of a square has a part under each.
        of_square = any(crop.square or crop.warp for crop in (config.crop, config.test_crop))
        under = config.colour.mean_under_crop and of_square
        return {'mean_image': statistics['mean_image'], 'mean_under_crop': under}
    if config.normalize == 'channel_mean':
        return {'mean': statistics['mean']}
    if config.normalize == 'channel_mean_std':
        return {'mean': statistics['mean'], 'std': statistics['std']}
    return {}


def _chance(config, statistics):
    """What `colour.augment` does to training images alone."""
    values = {k: v for k, v in config.colour.items() if k != 'mean_under_crop'}
    values['jitter_strength'] = values['jitter_strength'] or None
    if values['lighting'] == 'measured':
        values['lighting'] = statistics['vectors'], statistics['deviations']
    return values


def preprocessing(config, num_examples, train, statistics=dict):
    """The device side of the input, batch -> float32 [B, H, W, C], as the config says.

    Args:
      config: see `configs/base.py`.
      num_examples: of the training set, without versions.
      train: or test: then nothing is random.
      statistics: () -> those of `input_pipeline.statistics`, asked for when the first batch comes.
    """
    low, high = config.pixel_range
    ranges = {k: v for k, v in config.distortion.items() if k != 'versions'}
    key = jax.random.key(seed(config))

    def preprocess(batch):
        images, keys, values = batch['image'], None, _normalization(config, statistics())
        if train and config.distortion.versions > 1:
            images = distort(images, batch['index'], key, num_examples, **ranges)
        if train:
            keys = colour.example_keys(seed(config), batch['epoch'], batch['index'])
            values |= _chance(config, statistics())
        images = colour.augment(images, keys, batch['offset'], **values)
        if config.normalize == 'range':
            images = colour.scale_range(images, low, high)
        return images[..., ::-1] if config.channel_order == 'bgr' else images

    return preprocess
