"""The test images that a network gets wrong (LeCun et al. 1998, figure 8: the 82 digits of LeNet-5)."""

import math

import evaluation
from figures import pictures, seen, style
from figures.opened import open_data, open_one
from input_pipeline.progress import bar
from runtime.errors import UserError


def make(out, config, checkpoint, step='best', count=100, columns=0):
    """Draws the wrong test images of a checkpoint, under each its class and the one that the network says.

    Args:
      out: the file.
      config, checkpoint, step: see `figures.opened.open_one`; the images are the config's test split.
      count: how many at most: of more, those of which the network is surest.
      columns: images side by side; 0: about twice as many as there are rows.
    """
    if count < 1:
        raise UserError(f'--count must be at least 1, not {count}')
    opened = open_one(config, checkpoint, step)
    data = open_data(config, member=opened.member)
    with bar(opened.title, len(data.source)) as progress:
        result, rows, names = evaluation.test(config, opened.entry, labels=data.labels, progress=progress)
    found = wrong(rows)
    if not found:
        raise UserError(
            f'{opened.title} gets none of {len(rows):,} images of {data.title} wrong: there is nothing to draw'
        )
    shown = surest(found, count)
    with style.look():
        title = f'{_counted(result, len(found), len(shown))}, {data.title}\n{opened.title}'
        style.save(draw(shown, _views(opened.member.pixels, data.source, shown), names, title, columns), out)


def wrong(rows):
    """The rows (`evaluation.results.Row`) of images that are read and whose class is not the best."""
    return [row for row in rows if row.counts and row.rank > 0]


def surest(rows, count):
    """At most so many rows, those whose best class is the most probable; by class, said class and number."""
    kept = sorted(rows, key=lambda row: (-row.probabilities[0], row.index))[:count]
    return sorted(kept, key=lambda row: (row.label, row.classes[0], row.index))


def _counted(result, found, shown):
    """How many images of how many are wrong, and which of them are shown."""
    unread = f', {result["bad_images"]} of them unreadable' if result['bad_images'] else ''
    some = f'; the {shown} of them of which it is surest' if shown < found else ''
    labels = f', labels of {result["labels"]}' if result['labels'] else ''
    return f'{result["wrong_top1"]:,} of {result["num_examples"]:,} test images wrong{unread}{some}{labels}'


def _views(pixels, source, rows):
    return [seen.view(pixels, source[row.index].image)[0] for row in rows]


def draw(rows, views, names, title, columns=0):
    """A figure of wrong images; make it inside `style.look`.

    Args:
      rows: of the images, see `evaluation.results.Row`.
      views: uint8 [H, W, C] of each.
      names: of the classes.
      title: of the figure.
      columns: images side by side; 0: about twice as many as there are rows.
    """
    brief = max(len(names[number]) for row in rows for number in (row.label, row.classes[0])) < 3
    side, lines = (0.75, 1) if brief else (1.5, 2)
    columns = columns or min(len(rows), math.ceil(math.sqrt(2 * len(rows))))
    length = pictures.letters(side)
    cells = []
    for place, (row, view) in enumerate(zip(rows, views, strict=True)):
        true, said = names[row.label], names[row.classes[0]]
        said = f'→ {said}' if brief else f'→ {pictures.short(said, length - 2)}'
        words = f'{true} {said}' if brief else f'{pictures.short(true, length)}\n{said}'
        cells.append(pictures.Cell(place // columns, place % columns, view, words))
    return pictures.sheet(cells, title, side, lines)
