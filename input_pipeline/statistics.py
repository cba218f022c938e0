"""Statistics of a data set: its mean image, the channels' mean and deviation, the principal components of RGB.

    python data.py statistics --config configs/alexnet.py [--config.KEY=VALUE] [--out FILE]

They are of what the config's crops are cut from: the central squares of the photographs for AlexNet, else the center of
each. A run measures its own where its config asks for them and it has no file yet.
"""

import functools
from pathlib import Path

import numpy as np

from input_pipeline import crops, loader
from input_pipeline.progress import bar
from runtime.errors import UserError, first_line, moved
from runtime.files import whole_file

NAME = 'statistics.npz'
MEASURED = ('mean_image', 'channel_mean', 'channel_mean_std')  # of `normalize`: what needs statistics
KEYS = ('mean_image', 'mean', 'std', 'vectors', 'deviations', 'num_examples')
_BATCH = 32


def measure(source, size, channels, crop=None, on_bad_image='stop', fit='resize'):
    """Statistics over all images of a source, each once, without chance.

    Args:
      source: see `sources`.
      size: of the square that is measured.
      channels: 1 or 3.
      crop: (height, width, draws) -> `crops.View` of it; None for small images, whole.
      on_bad_image: 'stop', or 'skip': left out.
      fit: see `loader.Form`.

    Returns:
      {'mean_image': float32 [size, size, C], 'mean': [C], 'std': [C] (over all pixels), 'vectors': [C, C], columns the
      eigenvectors of the channels' covariance, 'deviations': [C], the roots of its eigenvalues, largest first,
      'num_examples'}; gray levels, 0..255.
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
                pixels = image.reshape(-1, channels).astype(np.float32) - 127.5  # about the middle: exact enough
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
    """The statistics that a mean image alone tells [H, W, C]; deviations of 1, and no component of the colors."""
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
    """Writes statistics to a file; it is there whole or not at all."""
    with whole_file(path, 'wb') as file:
        np.savez_compressed(file, **statistics)


def load(path):
    """The statistics of a file.

    Raises:
      UserError: it is not there, or no such file.
    """
    try:
        with open(path, 'rb') as file, np.load(file, allow_pickle=False) as held:
            return {key: held[key] for key in KEYS}
    except FileNotFoundError:
        raise UserError(
            f'no statistics in {path}: make them with python data.py statistics --config ... --out {path}'
        ) from None
    except Exception as error:  # NumPy, zipfile and zlib have a dozen for broken files
        raise UserError(f'{path} is no file of statistics ({first_line(error)})') from None


def needed(config):
    """Whether anything of the config is measured on its images."""
    return config.normalize in MEASURED or config.colour.lighting == 'measured'


def view(config):
    """(size, rule) of the part of a training image that is measured: the square that crops are cut from, or the center
    of a photograph, of the size that the network takes."""
    crop = config.crop
    size = crop.short_side[0] if crop.square or crop.warp else config.image_size
    values = {
        **(config.test_crop if config.test_crop.kind != 'none' else crop),
        'square': crop.square,
        'warp': crop.warp,
    }
    return size, None if crop.kind == 'none' else crops.rule(size, **values | {'kind': 'center'})


def measured(config, source):
    """What `measure` makes of the training images of a config."""
    size, rule = view(config)
    return measure(source, size, config.channels, rule, config.on_bad_image, config.fit)


def blank(config):
    """Statistics of the right shapes that were never measured: to compile and to time with."""
    size, _ = view(config)
    return of_mean_image(np.zeros((size, size, config.channels)))


def of_run(config, workdir, source=None):
    """The statistics that a config needs: {} where it needs none, else those of the file it names, or of the run.

    Args:
      config: see `configs/base.py`.
      workdir: of the run.
      source: the training images, to measure where the run has no file yet; it is kept there.

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
