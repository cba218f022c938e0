"""Effect of a gray square, slid over an image, on a network's prediction (Zeiler and Fergus 2013, section 4.2)."""

import collections

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.patches import Patch, Rectangle

from evaluation import apply, prediction
from figures import pictures, style
from figures.inputs import open_data, open_one
from figures.predictions import sample
from input_pipeline.progress import bar
from runtime.errors import UserError

GRAY = 128
_NAMED = 5  # classes with a color of their own
_LONGEST = 22  # letters of a name


def make(out, config, checkpoint, step='best', images=(), count=3, size=0, stride=0):
    """Draw one row per image: the network's input, and the probability of its class and the most probable class by the
    position of the square's center.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_one`; `config.seed` decides the images of the test split.
      images: files and folders to use in place of the test split. Their class is the predicted one.
      count: number of images of the test split, all of which the network gets right.
      size: side of the square in pixels; 0 for a quarter of the image's side.
      stride: pixels between positions; 0 for about 1/28 of the image's side.
    """
    size, stride = size or config.image_size // 4, stride or max(1, config.image_size // 28)
    if not 1 <= size <= config.image_size or not 1 <= stride <= config.image_size or count < 1:
        raise UserError(
            f'--size and --stride must be from 1 to {config.image_size}, the side of the image, and --count at least 1'
        )
    network = open_one(config, checkpoint, step)
    data = open_data(config, images, network.member)
    if images:
        rows = prediction.rows(network.member, data.source)
    else:
        rows, _ = sample(network.member, data.source, count, 0)
        if not rows:
            raise UserError(f'{network.title} gets none of the images of {data.title} right: pass --images')
    slide = slider(network.member, size, stride)
    with style.look(), bar(network.title, len(rows)) as progress:
        figure = style.figure(14.5, 4.1 * len(rows) + 0.8)
        panels = figure.subplots(len(rows), 3, squeeze=False)
        for axes, row in zip(panels, rows, strict=True):
            view, offset = apply.view(network.member.pixels, data.source[row.index].image)
            _draw(axes, view, slide(view, offset), row, data.names, size, stride)
            progress(1)
        square = f'gray square of {size}×{size} pixels, stride {stride}'
        figure.suptitle(f'{data.title}, {square}\n{network.title}')
        style.save(figure, out, dpi=100)


def middles(side, stride):
    """Return the centers of the square along one axis; each cell of a map is `stride` pixels."""
    return np.arange(0, side, stride) + stride // 2


def slider(member, size, stride):
    """Return a function that applies a network to an image with a gray square at every position.

    Args:
      member: see `scoring.Member`.
      size: side of the square in pixels; at the image's border a part of it is outside.
      stride: pixels between positions.

    Returns:
      (uint8 [H, W, C], its offset), from `evaluation.apply.view` -> float32 [rows, columns, K], the probability of each
      class by the position of the square's center; see `middles`.
    """

    def covered(batch):
        """Return the batch of the image with the square's (top, left) at each 'corner', [B, 2]."""
        image = batch['image']
        down, right = (jnp.arange(side) for side in image.shape[:2])

        def cover(corner):
            top, left = corner
            rows, columns = (down >= top) & (down < top + size), (right >= left) & (right < left + size)
            return jnp.where((rows[:, None] & columns[None])[..., None], jnp.uint8(GRAY), image)

        images = jax.vmap(cover)(batch['corner'])
        return {'image': images, 'offset': jnp.broadcast_to(batch['offset'], (len(images), 2))}

    def softmax(model, variables, images):
        return jax.nn.softmax(model.apply(variables, images).astype(jnp.float32))

    run = apply.program(member, softmax, covered)

    def slide(pixels, offset):
        axes = [middles(side, stride) - size // 2 for side in pixels.shape[:2]]
        corners = np.stack(np.meshgrid(*axes, indexing='ij'), -1).reshape(-1, 2)
        batch = apply.batch_size(member.config, len(corners))
        padded = np.pad(corners, [(0, -len(corners) % batch), (0, 0)])
        image = {'image': pixels, 'offset': np.array([offset], np.int32)}
        parts = [
            np.asarray(run(member.variables, image | {'corner': apply.on_devices(padded[start : start + batch])}))
            for start in range(0, len(padded), batch)
        ]
        return np.concatenate(parts)[: len(corners)].reshape(*map(len, axes), -1)

    return slide


def _draw(axes, pixels, probabilities, row, names, size, stride):
    """Draw the three panels of an image."""
    height, width = pixels.shape[:2]
    label = row.classes[0]
    extent = (0, probabilities.shape[1] * stride, probabilities.shape[0] * stride, 0)
    for panel in axes:
        panel.axis('off')
    axes[0].imshow(pixels, cmap='gray', vmin=0, vmax=255, extent=(0, width, height, 0))
    of_label = probabilities[..., label]
    lowest = np.unravel_index(of_label.argmin(), of_label.shape)
    top, left = (middles(side, stride)[place] - size // 2 for side, place in zip(pixels.shape, lowest, strict=False))
    axes[0].add_patch(Rectangle((left, top), size, size, fill=False, edgecolor=style.ORANGE, linewidth=3))
    axes[0].set_title(f'{pictures.short(names[label], _LONGEST)}  {100 * row.probabilities[0]:.0f}%')
    heat = axes[1].imshow(of_label, cmap=style.SURFACE, vmin=0, extent=extent, interpolation='nearest')
    axes[1].figure.colorbar(heat, ax=axes[1], shrink=0.8)
    axes[1].set_title(f'its probability; lowest (framed): {100 * of_label.min():.0f}%')
    predicted = probabilities.argmax(-1)
    by_count = [number for number, _ in collections.Counter(predicted.ravel().tolist()).most_common()]
    shown = [label, *(number for number in by_count if number != label)][:_NAMED]
    indices = np.full(predicted.shape, len(shown))
    for index, number in enumerate(shown):
        indices[predicted == number] = index
    colors = [*style.CYCLE[:_NAMED][: len(shown)], '#BBBBBB']
    axes[2].imshow(indices, cmap=matplotlib.colors.ListedColormap(colors), vmin=-0.5, vmax=len(shown) + 0.5,
                   extent=extent, interpolation='nearest')  # fmt: skip
    labels = [pictures.short(names[number], _LONGEST) for number in shown]
    labels += ['others'] if (indices == len(shown)).any() else []
    patches = [Patch(color=color, label=text) for color, text in zip(colors, labels, strict=False)]
    axes[2].legend(handles=patches, loc='center left', bbox_to_anchor=(1.02, 0.5), frameon=False)
    axes[2].set_title('most probable class')
    for panel in axes:
        panel.set(xlim=(0, width), ylim=(height, 0))
