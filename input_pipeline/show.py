"""Draws the batches that a config trains on, to look at.

    python data.py show --config configs/alexnet.py --out grid.png [--step 0] [--images 32]

These are exactly the images of that step, cropped and augmented as the network gets them, but not normalized, so that
they can be viewed. The caption of each is its number and its class.
"""

from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from input_pipeline import loader, statistics
from input_pipeline.pixels import Pixels
from runtime.errors import moved
from runtime.text import printable

_MARGIN, _CAPTION, _COLUMNS = 4, 16, 8  # pixels, pixels, images


def batch_to_show(config, step, source):
    """Return the batch of a step as (images uint8 [B, H, W, C], labels [B], example numbers [B])."""
    with config.copy_and_resolve_references().unlocked() as unnormalized:
        unnormalized.normalize, unnormalized.mean, unnormalized.std = 'constant', 'none', 'none'
        unnormalized.colour.scale = 1.0
    pixels = Pixels(unnormalized, statistics.of_run(unnormalized, Path('.')), len(source))
    form, first = pixels.train_form, step * config.batch_size
    if form.crop or not loader.fits_in_memory(source):
        (batch,) = loader.stream(
            source, form, pixels.order, 1, config.batch_size, start=first, seed=pixels.seed,
            on_bad_image=config.on_bad_image,
        )  # fmt: skip
    else:
        images, labels = loader.in_memory(source, form)
        batch = loader.gather(images, labels, *pixels.order(first, first + config.batch_size))
    images = jax.jit(pixels.train)(batch)
    return np.asarray(np.clip(np.rint(images), 0, 255), np.uint8), batch['label'], batch['index']


def grid(images, captions):
    """Draw uint8 [N, H, W, C] in rows of eight, with a caption under each; return a Pillow image."""
    count, height, width, _ = images.shape
    cell, columns = max(width, 96) + _MARGIN, min(count, _COLUMNS)
    rows = -(-count // columns)
    sheet = Image.new('RGB', (columns * cell + _MARGIN, rows * (height + _CAPTION + _MARGIN) + _MARGIN), 'white')
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        caption = printable(caption).encode('latin-1', 'backslashreplace').decode('latin-1')  # what the font has
        left = _MARGIN + number % columns * cell
        top = _MARGIN + number // columns * (height + _CAPTION + _MARGIN)
        sheet.paste(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), (left, top))
        while draw.textlength(caption, font) > cell - _MARGIN:
            caption = caption[:-1]
        draw.text((left, top + height + 1), caption, 'black', font)
    return sheet


if __name__ == '__main__':
    moved('python data.py show')
