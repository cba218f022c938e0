"""Kernels of the first convolution, as a mosaic (Krizhevsky et al. 2012, figure 3)."""

import math

import jax
import numpy as np

from figures import style
from figures.inputs import open_one
from runtime.errors import UserError


def make(out, config, checkpoint, step='best', columns=0):
    """Draw a checkpoint's first-layer kernels.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_one`.
      columns: kernels side by side; for 0 see `mosaic`.
    """
    network = open_one(config, checkpoint, step)
    name, kernels = first_kernels(network.member.variables['params'])
    if config.channel_order == 'bgr':
        kernels = kernels[:, :, ::-1]
    picture = mosaic(scaled(kernels), columns)
    with style.look():
        figure = style.figure(9, min(9 * len(picture) / picture.shape[1], 14) + 0.8)
        axes = figure.add_subplot()
        axes.imshow(picture, cmap='gray', vmin=0, vmax=1, interpolation='nearest')
        axes.axis('off')
        size = '×'.join(map(str, kernels.shape[:3]))
        figure.suptitle(f'{kernels.shape[3]} kernels of {size}, {name}\n{network.title}')
        style.save(figure, out)


def first_kernels(parameters):
    """Return (layer's name, kernels [h, w, C, N]) of the first convolution with one or three input channels.

    Raises:
      UserError: if there is no such convolution.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(parameters):
        names = [key.key for key in path]
        if names[-1] == 'kernel' and leaf.ndim == 4 and leaf.shape[2] in (1, 3):
            return '/'.join(names[:-1]), np.asarray(leaf)
    raise UserError('this network has no convolution whose kernels take one or three channels')


def scaled(kernels):
    """Return kernels [h, w, C, N] as pictures [N, h, w, C] from 0 to 1, each scaled to its own range; gray is 0."""
    pictures = np.moveaxis(kernels, -1, 0)
    largest = np.abs(pictures).max((1, 2, 3), keepdims=True)
    return 0.5 + pictures / (2 * np.maximum(largest, np.finfo(np.float32).tiny))


def mosaic(pictures, columns=0):
    """Arrange pictures [N, h, w, C] in rows with white gaps: [H, W] or [H, W, 3].

    Each pixel is repeated, so that a gap is about a tenth of a picture's height.

    Args:
      pictures: float from 0 to 1.
      columns: pictures side by side; 0 for about 1.5 times as many columns as rows, preferring full rows.
    """
    count, height, _, channels = pictures.shape
    factor = -(-30 // height)
    pictures = pictures.repeat(factor, 1).repeat(factor, 2)
    height, width, gap = *pictures.shape[1:3], 3
    columns = columns or _full(count, math.sqrt(1.5 * count))
    rows = math.ceil(count / columns)
    canvas = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), np.float32)
    for number, picture in enumerate(pictures):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = picture
    return canvas[..., 0] if channels == 1 else canvas


def _full(count, wanted):
    """Return the number of columns near `wanted` that fills all rows, or else `wanted` rounded up."""
    near = [columns for columns in range(1, count + 1) if count % columns == 0 and 0.7 < columns / wanted < 1.5]
    return min(near, key=lambda columns: abs(columns - wanted), default=min(count, math.ceil(wanted)))
