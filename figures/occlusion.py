"""What a grey square, slid over an image, does to what a network says of it (Zeiler and Fergus 2013, section 4.2)."""

import collections

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.patches import Patch, Rectangle

from evaluation import prediction
from figures import pictures, seen, style
from figures.opened import open_data, open_one
from figures.predictions import chosen
from input_pipeline.progress import bar
from runtime.errors import UserError

GREY = 128
_NAMED = 5  # classes that have colours of their own
_LONGEST = 22  # letters of a name


def make(out, config, checkpoint, step='best', images=(), count=3, size=0, stride=0):
    """Draws images, each a row: as the network sees it; the probability of its class and the class that is most
    probable, by the place of the square's middle.

    Args:
      out: the file.
      config, checkpoint, step: see `figures.opened.open_one`; `config.seed` chooses the images of the test split.
      images: files and folders to take in place of the test split. Their class is the one that the network says.
      count: how many images of the test split, all of which the network gets right.
      size: pixels on a side of the square; 0: a quarter of the image's.
      stride: pixels from one place to the next; 0: about a 28th of the image's side.
    """
    size, stride = size or config.image_size // 4, stride or max(1, config.image_size // 28)
    if not 1 <= size <= config.image_size or not 1 <= stride <= config.image_size or count < 1:
        raise UserError(f'--size and --stride are from 1 to {config.image_size}, the side of the image, --count from 1')
    opened = open_one(config, checkpoint, step)
    data = open_data(config, images, opened.member)
    if images:
        rows = prediction.rows(opened.member, data.source)
    else:
        rows, _ = chosen(opened.member, data.source, count, 0)
        if not rows:
            raise UserError(f'{opened.title} gets none of the images of {data.title} right: pass --images')
    seek = slider(opened.member, size, stride)
    with style.look(), bar(opened.title, len(rows)) as progress:
        made = style.figure(14.5, 4.1 * len(rows) + 0.8)
        panels = made.subplots(len(rows), 3, squeeze=False)
        for axes, row in zip(panels, rows, strict=True):
            view, offset = seen.view(opened.member.pixels, data.source[row.index].image)
            _draw(axes, view, seek(view, offset), row, data.names, size, stride)
            progress(1)
        square = f'grey square of {size}×{size} pixels, stride {stride}'
        made.suptitle(f'{data.title}, {square}\n{opened.title}')
        style.save(made, out, dpi=100)


def middles(side, stride):
    """The middles of the square along one axis, as many as cover it; each cell of a map is `stride` pixels."""
    return np.arange(0, side, stride) + stride // 2


def slider(member, size, stride):
    """A function that says what the network says of an image with a grey square over it, at every place.

    Args:
      member: see `scoring.Member`.
      size: pixels on a side of the square; at the image's border a part of it is outside.
      stride: pixels from one place to the next.

    Returns:
      (uint8 [H, W, C], its offset), as of `figures.seen.view` -> float32 [rows, columns, K], the probability of each
      class by the square's middle, which stands at `middles` of H and W.
    """

    def covered(given):
        """The image with the square's (top, left) at each 'corner', [B, 2]."""
        image = given['image']
        down, right = (jnp.arange(side) for side in image.shape[:2])

        def cover(corner):
            top, left = corner
            rows, columns = (down >= top) & (down < top + size), (right >= left) & (right < left + size)
            return jnp.where((rows[:, None] & columns[None])[..., None], jnp.uint8(GREY), image)

        images = jax.vmap(cover)(given['corner'])
        return {'image': images, 'offset': jnp.broadcast_to(given['offset'], (len(images), 2))}

    def softmax(model, variables, images):
        return jax.nn.softmax(model.apply(variables, images).astype(jnp.float32))

    run = seen.program(member, softmax, covered)

    def slide(pixels, offset):
        axes = [middles(side, stride) - size // 2 for side in pixels.shape[:2]]
        corners = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 2)
        batch = seen.batch_size(member.config, len(corners))
        padded = np.pad(corners, [(0, -len(corners) % batch), (0, 0)])
        image = {'image': pixels, 'offset': np.array([offset], np.int32)}
        parts = [
            np.asarray(run(member.variables, image | {'corner': seen.on_devices(padded[start : start + batch])}))
            for start in range(0, len(padded), batch)
        ]
        return np.concatenate(parts)[: len(corners)].reshape(*map(len, axes), -1)

    return slide


def _draw(axes, pixels, found, row, names, size, stride):
    """The three panels of an image."""
    height, width = pixels.shape[:2]
    label = row.classes[0]
    extent = (0, found.shape[1] * stride, found.shape[0] * stride, 0)
    for panel in axes:
        panel.axis('off')
    axes[0].imshow(pixels, cmap='gray', vmin=0, vmax=255, extent=(0, width, height, 0))
    lowest = np.unravel_index(found[..., label].argmin(), found.shape[:2])
    top, left = (middles(side, stride)[place] - size // 2 for side, place in zip(pixels.shape, lowest, strict=False))
    axes[0].add_patch(Rectangle((left, top), size, size, fill=False, edgecolor=style.ORANGE, linewidth=3))
    axes[0].set_title(f'{pictures.short(names[label], _LONGEST)}  {100 * row.probabilities[0]:.0f}%')
    heat = axes[1].imshow(found[..., label], cmap=style.SURFACE, vmin=0, extent=extent, interpolation='nearest')
    axes[1].figure.colorbar(heat, ax=axes[1], shrink=0.8)
    axes[1].set_title(f'its probability; lowest, framed, {100 * found[..., label].min():.0f}%')
    said = found.argmax(-1)
    often = [number for number, _ in collections.Counter(said.ravel().tolist()).most_common()]
    kept = [label, *(number for number in often if number != label)][:_NAMED]
    place = np.full(said.shape, len(kept))
    for number, kind in enumerate(kept):
        place[said == kind] = number
    colours = [*style.CYCLE[:_NAMED][: len(kept)], '#BBBBBB']
    axes[2].imshow(place, cmap=matplotlib.colors.ListedColormap(colours), vmin=-0.5, vmax=len(kept) + 0.5,
                   extent=extent, interpolation='nearest')  # fmt: skip
    words = [pictures.short(names[kind], _LONGEST) for kind in kept] + (
        ['others'] if (place == len(kept)).any() else []
    )
    patches = [Patch(color=colour, label=word) for colour, word in zip(colours, words, strict=False)]
    axes[2].legend(handles=patches, loc='center left', bbox_to_anchor=(1.02, 0.5), frameon=False)
    axes[2].set_title('most probable class')
    for panel in axes:
        panel.set(xlim=(0, width), ylim=(height, 0))
