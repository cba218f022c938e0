"""Photographs with the five best guesses under each, as bars (Krizhevsky et al. 2012, figure 4)."""

import itertools
import math
import sys
from pathlib import Path

from evaluation import prediction
from figures import seen, style
from figures.opened import open_data, open_one
from figures.pictures import short
from input_pipeline import geometry, loader
from input_pipeline.progress import bar
from runtime.errors import UserError

_LONGEST = 28  # letters of a name
_LARGEST = 640  # pixels of a photograph's long side; a page gives it some 300
_MOST_ROWS, _MOST_COLUMNS = 6, 10  # of a page: 2,700 and 3,200 pixels


def make(out, config, checkpoint, step='best', images=(), count=8, columns=4):
    """Draws photographs with a checkpoint's five best classes: of a test split half of them right, half wrong.

    Args:
      out: the file.
      config, checkpoint, step: see `figures.opened.open_one`; `config.seed` chooses the images of the test split.
      images: files and folders to take in place of the test split.
      count: how many images of the test split.
      columns: photographs side by side.

    Returns:
      The files that were written, see `pages`.
    """
    if count < 1:
        raise UserError(f'--count must be at least 1, not {count}')
    if not 1 <= columns <= _MOST_COLUMNS:
        raise UserError(f'--columns must be 1 to {_MOST_COLUMNS}, not {columns}')
    opened = open_one(config, checkpoint, step)
    data = open_data(config, images, opened.member)
    if images:
        paths = pages(out, len(data.source), columns)
        with bar('predicting', len(data.source)) as advance:
            rows, said = prediction.rows(opened.member, data.source, progress=advance), ''
    else:
        right, wrong = chosen(opened.member, data.source, -(-count // 2), count // 2)
        paths, rows = pages(out, len(right) + len(wrong), columns), right + wrong
        said = f': {len(right)} right, {len(wrong)} wrong; orange: the right class'
    found = [
        {'best': prediction.best(row, data.names)}
        | ({'label': {'class': row.label, 'name': data.names[row.label]}} if row.label >= 0 else {})
        for row in rows
    ]
    pictures = (data.source[row.index].image for row in rows)
    draw(found, pictures, paths, f'{data.title}{said}\n{opened.title}', columns)
    return paths


def chosen(member, source, right, wrong):
    """(rows of images whose best class is right, rows of others), so many of each where there are as many.

    Images are tried in an order that the config's seed draws, until there are enough.
    """
    numbers, _ = loader.example_order(0, len(source), len(source), member.pixels.seed)
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


def pages(path, count, columns=4):
    """The files for so many predictions: the path, or where one page is not enough NAME-1, NAME-2, ... beside it.

    A note on standard error says so, before the work.
    """
    path, number = Path(path), -(-count // (columns * _MOST_ROWS))
    if number <= 1:
        return [path]
    found = [path.with_stem(f'{path.stem}-{page:0{len(str(number))}}') for page in range(1, number + 1)]
    print(f'note: {count:,} photographs fill {number:,} pages, {found[0]} to {found[-1].name}', file=sys.stderr)
    return found


def draw(found, pictures, paths, title, columns=4):
    """Draws predictions to files, page by page, with a bar of progress.

    Args:
      found: of `evaluation.prediction.predict`; an entry may have 'label', {'class', 'name'} of the right class, whose
        bar is then of another color.
      pictures: an iterable of their images, encoded or uint8 [H, W, C]; it is read a page at a time.
      paths: of `pages`, .png, .svg or .html.
      title: of every page.
      columns: photographs side by side.
    """
    entries, size = zip(found, map(_shown, pictures), strict=True), columns * _MOST_ROWS
    with bar('drawing', len(found)) as advance:
        for number, path in enumerate(paths, 1):
            of = f' (page {number} of {len(paths)})' if len(paths) > 1 else ''
            _draw_page(list(itertools.islice(entries, size)), path, title + of, columns, advance)


def _draw_page(entries, path, title, columns, advance):
    columns = max(1, min(columns, len(entries)))
    rows = math.ceil(len(entries) / columns)
    with style.look():
        made = style.figure(max(3.2 * columns, 6), 4.4 * rows + 0.6)
        axes = made.subplots(2 * rows, columns, height_ratios=[3, 2] * rows, squeeze=False)
        for axis in axes.ravel():
            axis.axis('off')
        for number, (entry, shown) in enumerate(entries):
            row, column = divmod(number, columns)
            picture, bars = axes[2 * row][column], axes[2 * row + 1][column]
            picture.set_anchor('N')  # the words above stand on a line
            picture.imshow(shown, cmap='gray', vmin=0, vmax=255)
            label = entry.get('label', {'class': None, 'name': ''})
            picture.set_title(short(label['name'], _LONGEST), fontsize=13)
            _draw_bars(bars, entry['best'][::-1], label['class'])
        made.suptitle(title)
        style.save(made, path, dpi=100)
    advance(len(entries))


def _shown(image):
    """An image, encoded or uint8 [H, W, C], no larger than a page needs."""
    image = geometry.decode(image) if isinstance(image, bytes) else image
    scale = _LARGEST / max(image.shape[:2])
    return image if scale >= 1 else geometry.resize(image, *(max(1, round(scale * side)) for side in image.shape[:2]))


def _draw_bars(axes, best, label):
    """Bars of guesses, the first at the bottom; the right one in another colour."""
    colours = [style.ORANGE if guess['class'] == label else style.SKY for guess in best]
    axes.barh(range(len(best)), [guess['probability'] for guess in best], color=colours, height=0.8)
    for place, guess in enumerate(best):
        words = f'{short(guess["name"], _LONGEST)}  {100 * guess["probability"]:.0f}%'
        axes.text(0.02, place, words, va='center', fontsize=11, color=style.BLACK)  # black is read on both
    axes.set_xlim(0, 1)
