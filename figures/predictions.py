"""Photographs with the five best guesses under each, as bars (Krizhevsky et al. 2012, figure 4)."""

import math

import numpy as np
from PIL import Image

from errors import UserError
from evaluation import prediction
from figures import pictures, seen, style
from figures.opened import open_data, open_one
from input_pipeline import geometry, loader, recipe

_LONGEST = 28  # letters of a name


def make(out, config, checkpoint, step='best', images=(), count=8, columns=4):
    """Draws photographs with a checkpoint's five best classes: of a test split half of them right, half wrong.

    Args:
      out: the file.
      config, checkpoint, step: see `figures.opened.open_one`; `config.seed` chooses the images of the test split.
      images: files and folders to take in place of the test split.
      count: how many images of the test split.
      columns: photographs side by side.
    """
    if count < 1:
        raise UserError(f'--count must be at least 1, not {count}')
    opened = open_one(config, checkpoint, step)
    data = open_data(config, images, opened.member)
    if images:
        rows, said = prediction.rows(opened.member, data.source), ''
    else:
        right, wrong = chosen(opened.member, data.source, -(-count // 2), count // 2)
        rows, said = right + wrong, f': {len(right)} right, {len(wrong)} wrong; orange: the right class'
    found = [
        {'picture': _decoded(data.source[row.index].image), 'best': prediction.best(row, data.names)}
        | ({'label': {'class': row.label, 'name': data.names[row.label]}} if row.label >= 0 else {})
        for row in rows
    ]
    draw(found, out, f'{data.title}{said}\n{opened.title}', columns)


def chosen(member, source, right, wrong):
    """(rows of images whose best class is right, rows of others), so many of each where there are as many.

    Images are tried in an order that the config's seed draws, until there are enough.
    """
    numbers, _ = loader.example_order(0, len(source), len(source), recipe.seed(member.config))
    size = seen.batch_size(member.config, len(source))
    found = [], []
    for start in range(0, len(source), size):
        part = numbers[start : start + size]
        rows = prediction.rows(member, source, part, size, member.config.on_bad_image)
        rows = {row.index: row for row in rows if row.rank >= 0}
        for number in part:
            if number in rows:
                found[rows[number].rank > 0].append(rows[number])
        if len(found[0]) >= right and len(found[1]) >= wrong:
            break
    return found[0][:right], found[1][:wrong]


def _decoded(image):
    return geometry.decode(image) if isinstance(image, bytes) else image


def draw(found, path, title, columns=4):
    """Draws predictions to a file.

    Args:
      found: of `evaluation.prediction.predict`; an entry may have 'label', {'class', 'name'} of the right class, whose
        bar is then of another colour, and 'picture', uint8 [H, W, C], in place of its file.
      path: of the file, .png, .svg or .html.
      title: of the figure.
      columns: photographs side by side.
    """
    columns = max(1, min(columns, len(found)))
    rows = math.ceil(len(found) / columns)
    with style.look():
        made = style.figure(max(3.2 * columns, 6), 4.4 * rows + 0.6)
        axes = made.subplots(2 * rows, columns, height_ratios=[3, 2] * rows, squeeze=False)
        for axis in axes.ravel():
            axis.axis('off')
        for number, entry in enumerate(found):
            row, column = divmod(number, columns)
            picture, bars = axes[2 * row][column], axes[2 * row + 1][column]
            shown = entry['picture'] if 'picture' in entry else _opened(entry['file'])
            picture.set_anchor('N')  # the words above stand on a line
            picture.imshow(shown, cmap='gray', vmin=0, vmax=255)
            label = entry.get('label', {'class': None, 'name': ''})
            picture.set_title(pictures.short(label['name'], _LONGEST), fontsize=13)
            _draw_bars(bars, entry['best'][::-1], label['class'])
        made.suptitle(title)
        style.save(made, path, dpi=100)


def _opened(file):
    with Image.open(file) as image:
        return np.asarray(image.convert('RGB'))


def _draw_bars(axes, best, label):
    """Bars of guesses, the first at the bottom; the right one in another colour."""
    colours = [style.ORANGE if guess['class'] == label else style.SKY for guess in best]
    axes.barh(range(len(best)), [guess['probability'] for guess in best], color=colours, height=0.8)
    for place, guess in enumerate(best):
        words = f'{pictures.short(guess["name"], _LONGEST)}  {100 * guess["probability"]:.0f}%'
        axes.text(0.02, place, words, va='center', fontsize=11, color=style.BLACK)  # black is read on both
    axes.set_xlim(0, 1)
