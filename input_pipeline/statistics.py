"""Statistics of a data set: mean image, mean and standard deviation of each channel, principal components of RGB.

    python data.py statistics --config configs/alexnet.py [--config.KEY=VALUE] [--out FILE]

They are measured on the region that the config's crops come from: for AlexNet the central square of each photograph,
else its center. A run measures its own if its config needs them and does not name a file.
"""

import functools
from pathlib import Path

import numpy as np

from input_pipeline import crops, loader
from input_pipeline.progress import bar
from runtime import foreign
from runtime.errors import UserError, moved
from runtime.files import atomic_file

NAME = 'statistics.npz'
MEASURED = ('mean_image', 'channel_mean', 'channel_mean_std')  # values of `config.normalize` that need statistics
KEYS = ('mean_image', 'mean', 'std', 'vectors', 'deviations', 'num_examples')
_BATCH = 32
_MAX_BYTES = 1 << 30  # of a file


def measure(source, size, channels, crop=None, on_bad_image='stop', fit='resize'):
    """Measure the statistics of all images of a source.

    Args:
      source: see `sources`.
      size: side of the square to measure.
      channels: 1 or 3.
      crop: (height, width, draws) -> `crops.View` of the square; None for small images, which are not cropped.
      on_bad_image: 'stop', or 'skip' invalid images.
      fit: see `loader.Form`.

    Returns:
      {'mean_image': float32 [size, size, C], 'mean': [C], 'std': [C] (over all pixels), 'vectors': [C, C] (columns are
      eigenvectors of the channels' covariance), 'deviations': [C] (square roots of its eigenvalues, largest first),
      'num_examples'}; in gray levels, 0..255.
    """
    total, image_sum, products = 0, np.zeros((size, size, channels)), np.zeros((channels, channels))
    order = functools.partial(loader.in_order, num_examples=len(source))
    batches = loader.stream(
        source, loader.Form(size, channels, fit, crop), order, -(-len(source) // _BATCH), _BATCH,
        on_bad_image=on_bad_image, replace=False,
    )  # fmt: skip
    with bar(f'statistics of {source.name}', len(source)) as advance:
        for batch in batches:
            images = batch['image'][batch['mask']]
            total += len(images)
            image_sum += images.sum(0, dtype=np.uint64)
            for image in images:
                pixels = image.reshape(-1, channels).astype(np.float32) - 127.5  # centered for precision
                products += pixels.T @ pixels
            advance(int(np.sum(batch['index'] >= 0)))
    if not total:
        raise UserError(f'{source.name}: no image can be read')
    mean_image = image_sum / total
    mean = mean_image.mean((0, 1))
    covariance = products / (total * size * size) - np.outer(mean - 127.5, mean - 127.5)
    values, vectors = np.linalg.eigh(covariance)
    return {
        'mean_image': mean_image.astype(np.float32),
        'mean': mean.astype(np.float32),
        'std': np.sqrt(np.maximum(np.diag(covariance), 0)).astype(np.float32),
        'vectors': vectors[:, ::-1].astype(np.float32),
        'deviations': np.sqrt(np.maximum(values[::-1], 0)).astype(np.float32),
        'num_examples': np.int64(total),
    }


def of_mean_image(mean_image):
    """Return statistics with a given mean image [H, W, C], standard deviations of 1 and no principal components."""
    channels = mean_image.shape[-1]
    return {
        'mean_image': np.asarray(mean_image, np.float32),
        'mean': mean_image.mean((0, 1)).astype(np.float32),
        'std': np.ones(channels, np.float32),
        'vectors': np.eye(channels, dtype=np.float32),
        'deviations': np.zeros(channels, np.float32),
        'num_examples': np.int64(0),
    }


def save(path, statistics):
    """Write statistics to a file, atomically."""
    with atomic_file(path, 'wb') as file:
        np.savez_compressed(file, **statistics)


def load(path):
    """Read statistics from a file.

    Raises:
      UserError: the file is missing or invalid.
    """
    try:
        statistics = foreign.read_npz(path, 'a statistics file', _MAX_BYTES, names=KEYS)
        with foreign.parsing(path, 'a statistics file'):
            _check(statistics)
        return statistics
    except FileNotFoundError:
        raise UserError(
            f'no statistics in {path}: make them with python data.py statistics --config ... --out {path}'
        ) from None


def _check(statistics):
    """Raise ValueError or KeyError unless statistics have the arrays that `measure` returns."""
    size, *_, channels = statistics['mean_image'].shape
    shapes = {'mean_image': (size, size, channels), 'vectors': (channels, channels), 'num_examples': ()}
    for key in KEYS:
        array, shape = statistics[key], shapes.get(key, (channels,))
        if array.shape != shape or array.dtype.kind not in 'fiu' or not np.isfinite(array).all():
            raise ValueError(f'{key} is not {list(shape)} finite numbers')


def needed(config):
    """Return whether the config needs statistics."""
    return config.normalize in MEASURED or config.colour.lighting == 'measured'


def view(config):
    """Return (size, rule) of the region of a training image that is measured.

    It is the square that crops come from, or the center of the photograph, of the network's input size.
    """
    crop = config.crop
    size = crop.short_side[0] if crop.square or crop.warp else config.image_size
    values = {
        **(config.test_crop if config.test_crop.kind != 'none' else crop),
        'square': crop.square,
        'warp': crop.warp,
    }
    return size, None if crop.kind == 'none' else crops.rule(size, **values | {'kind': 'center'})


def measured(config, source):
    """Call `measure` for the training images of a config."""
    size, rule = view(config)
    return measure(source, size, config.channels, rule, config.on_bad_image, config.fit)


def blank(config):
    """Return dummy statistics with the right shapes, for compiling and timing."""
    size, _ = view(config)
    return of_mean_image(np.zeros((size, size, config.channels)))


def of_run(config, workdir, source=None):
    """Return the statistics that a config needs, from the file it names or from the run's; {} if it needs none.

    Args:
      config: see `configs/base.py`.
      workdir: of the run.
      source: the training images, which are measured and the result saved if the run has no file yet.

    Raises:
      UserError: a missing or invalid file.
    """
    if not needed(config):
        return {}
    path = Path(config.statistics or workdir / NAME)
    if not path.exists() and not config.statistics and source is not None:
        save(path, measured(config, source))
    return load(path)


if __name__ == '__main__':
    moved('python data.py statistics')
