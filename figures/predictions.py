"""Photographs with the five best guesses under each, as bars (Krizhevsky et al. 2012, figure 4)."""

import itertools
import math
import sys
from pathlib import Path

from evaluation import apply, prediction
from figures import style
from figures.inputs import open_data, open_one
from figures.pictures import short
from input_pipeline import geometry, loader
from input_pipeline.progress import bar
from runtime.errors import UserError
from runtime.text import printable

_LONGEST = 28  # letters of a name
_LARGEST = 640  # pixels of a photograph's long side; a page shows it at about 300
_MOST_ROWS, _MOST_COLUMNS = 6, 10  # per page: 2,700 and 3,200 pixels


def make(out, config, checkpoint, step='best', images=(), count=8, columns=4):
    """Draw photographs with a checkpoint's five best classes; from a test split, half right and half wrong predictions.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_one`; `config.seed` decides the images of the test split.
      images: files and folders to use in place of the test split.
      count: number of images of the test split.
      columns: photographs side by side.

    Returns:
      The paths of the written files, see `pages`.
    """
    if count < 1:
        raise UserError(f'--count must be at least 1, not {count}')
    if not 1 <= columns <= _MOST_COLUMNS:
        raise UserError(f'--columns must be 1 to {_MOST_COLUMNS}, not {columns}')
    network = open_one(config, checkpoint, step)
    data = open_data(config, images, network.member)
    if images:
        paths = pages(out, len(data.source), columns)
        with bar('predicting', len(data.source)) as advance:
            bad = network.member.config.on_bad_image
            rows = prediction.rows(network.member, data.source, on_bad_image=bad, progress=advance)
        rows, note = [row for row in rows if row.rank >= 0], ''
        if not rows:
            raise UserError('none of the files is a readable image')
    else:
        right, wrong = sample(network.member, data.source, -(-count // 2), count // 2)
        paths, rows = pages(out, len(right) + len(wrong), columns), right + wrong
        note = f': {len(right)} right, {len(wrong)} wrong; orange: the right class'
    predicted = [
        {'best': prediction.best(row, data.names)}
        | ({'label': {'class': row.label, 'name': data.names[row.label]}} if row.label >= 0 else {})
        for row in rows
    ]
    pictures = (data.source[row.index].image for row in rows)
    draw(predicted, pictures, paths, f'{data.title}{note}\n{network.title}', columns)
    return paths


def sample(member, source, right, wrong):
    """Return rows of images whose best class is right, and rows of others, up to the given numbers.

    Images are tried in a random order, drawn with the config's seed, until there are enough.
    """
    numbers, _ = loader.example_order(0, len(source), len(source), member.pixels.seed)
    size = apply.batch_size(member.config, len(source))
    right_rows, wrong_rows = [], []
    for start in range(0, len(source), size):
        part = numbers[start : start + size]
        rows = prediction.rows(member, source, part, size, member.config.on_bad_image)
        rows = {row.index: row for row in rows if row.rank >= 0}
        for number in part:
            if number in rows:
                (wrong_rows if rows[number].rank > 0 else right_rows).append(rows[number])
        if len(right_rows) >= right and len(wrong_rows) >= wrong:
            break
    return right_rows[:right], wrong_rows[:wrong]


def pages(path, count, columns=4):
    """Return the paths for a number of predictions: the path, or NAME-1, NAME-2, ... if one page is not enough.

    In that case it prints a note on standard error.
    """
    path, number = Path(path), -(-count // (columns * _MOST_ROWS))
    if number <= 1:
        return [path]
    paths = [path.with_stem(f'{path.stem}-{page:0{len(str(number))}}') for page in range(1, number + 1)]
    names = printable(f'{paths[0]} to {paths[-1].name}')
    print(f'note: {count:,} photographs fill {number:,} pages, {names}', file=sys.stderr)
    return paths


def draw(predicted, pictures, paths, title, columns=4):
    """Draw predictions to files, page by page, with a progress bar.

    Args:
      predicted: from `evaluation.prediction.predict`; an entry may have 'label', {'class', 'name'} of the right class,
        whose bar then has another color.
      pictures: iterable of the images, encoded or uint8 [H, W, C]; it is read one page at a time.
      paths: from `pages`, .png, .svg or .html.
      title: title of every page.
      columns: photographs side by side.
    """
    entries, size = zip(predicted, map(_shown, pictures), strict=True), columns * _MOST_ROWS
    with bar('drawing', len(predicted)) as advance:
        paths = paths[: math.ceil(len(predicted) / size)]  # unreadable photographs may leave the last ones empty
        for number, path in enumerate(paths, 1):
            suffix = f' (page {number} of {len(paths)})' if len(paths) > 1 else ''
            _draw_page(list(itertools.islice(entries, size)), path, title + suffix, columns, advance)


def _draw_page(entries, path, title, columns, advance):
    columns = max(1, min(columns, len(entries)))
    rows = math.ceil(len(entries) / columns)
    with style.look():
        figure = style.figure(max(3.2 * columns, 6), 4.4 * rows + 0.6)
        axes = figure.subplots(2 * rows, columns, height_ratios=[3, 2] * rows, squeeze=False)
        for axis in axes.ravel():
            axis.axis('off')
        for number, (entry, shown) in enumerate(entries):
            row, column = divmod(number, columns)
            picture, bars = axes[2 * row][column], axes[2 * row + 1][column]
            picture.set_anchor('N')  # aligns the titles
            picture.imshow(shown, cmap='gray', vmin=0, vmax=255)
            label = entry.get('label', {'class': None, 'name': ''})
            picture.set_title(short(label['name'], _LONGEST), fontsize=13)
            _draw_bars(bars, entry['best'][::-1], label['class'])
        figure.suptitle(title)
        style.save(figure, path, dpi=100)
    advance(len(entries))


def _shown(image):
    """Return an image, encoded or uint8 [H, W, C], shrunk to the size that a page needs."""
    image = geometry.decode(image) if isinstance(image, bytes) else image
    scale = _LARGEST / max(image.shape[:2])
    return image if scale >= 1 else geometry.resize(image, *(max(1, round(scale * side)) for side in image.shape[:2]))


def _draw_bars(axes, best, label):
    """Draw the bars of guesses, the first at the bottom, the right one in another color."""
    colors = [style.ORANGE if guess['class'] == label else style.SKY for guess in best]
    axes.barh(range(len(best)), [guess['probability'] for guess in best], color=colors, height=0.8)
    for place, guess in enumerate(best):
        text = f'{short(guess["name"], _LONGEST)}  {100 * guess["probability"]:.0f}%'
        axes.text(0.02, place, text, va='center', fontsize=11, color=style.BLACK)
    axes.set_xlim(0, 1)
