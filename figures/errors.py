"""Test images that a network gets wrong (LeCun et al. 1998, figure 8: the 82 digits of LeNet-5)."""

import math

import evaluation
from evaluation import apply
from figures import pictures, style
from figures.inputs import open_data, open_one
from input_pipeline.progress import bar
from runtime.errors import UserError


def make(out, config, checkpoint, step='best', count=100, columns=0):
    """Draw the test images that a checkpoint gets wrong, each with its class and the predicted class.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_one`; the images are the config's test split.
      count: maximum number of images; if there are more, those with the most confident predictions.
      columns: images side by side; 0 for about twice as many columns as rows.
    """
    if count < 1:
        raise UserError(f'--count must be at least 1, not {count}')
    network = open_one(config, checkpoint, step)
    data = open_data(config, member=network.member)
    with bar(network.title, len(data.source)) as progress:
        result, rows, names = evaluation.evaluate(config, network.checkpoint, labels=data.labels, progress=progress)
    wrong_rows = wrong(rows)
    if not wrong_rows:
        raise UserError(
            f'{network.title} gets none of {len(rows):,} images of {data.title} wrong: there is nothing to draw'
        )
    shown = most_confident(wrong_rows, count)
    with style.look():
        title = f'{_counted(result, len(wrong_rows), len(shown))}, {data.title}\n{network.title}'
        style.save(draw(shown, _views(network.member.pixels, data.source, shown), names, title, columns), out)


def wrong(rows):
    """Return the rows (`evaluation.results.Row`) of readable images whose class is not the best."""
    return [row for row in rows if row.counts and row.rank > 0]


def most_confident(rows, count):
    """Return the `count` rows with the most probable best class, sorted by class, predicted class and index."""
    first = sorted(rows, key=lambda row: (-row.probabilities[0], row.index))[:count]
    return sorted(first, key=lambda row: (row.label, row.classes[0], row.index))


def _counted(result, wrong, shown):
    """Return the text that says how many images are wrong, and which of them are shown."""
    unread = f', {result["bad_images"]} of them unreadable' if result['bad_images'] else ''
    some = f'; the {shown} most confident of them' if shown < wrong else ''
    labels = f', labels of {result["labels"]}' if result['labels'] else ''
    return f'{result["wrong_top1"]:,} of {result["num_examples"]:,} test images wrong{unread}{some}{labels}'


def _views(pixels, source, rows):
    return [apply.view(pixels, source[row.index].image)[0] for row in rows]


def draw(rows, views, names, title, columns=0):
    """Return a figure of wrong images; call it inside `style.look`.

    Args:
      rows: the images' `evaluation.results.Row`s.
      views: uint8 [H, W, C] of each image.
      names: names of the classes.
      title: title of the figure.
      columns: images side by side; 0 for about twice as many columns as rows.
    """
    brief = max(len(names[number]) for row in rows for number in (row.label, row.classes[0])) < 3
    side, lines = (0.75, 1) if brief else (1.5, 2)
    columns = columns or min(len(rows), math.ceil(math.sqrt(2 * len(rows))))
    length = pictures.letters(side)
    cells = []
    for place, (row, view) in enumerate(zip(rows, views, strict=True)):
        true, predicted = names[row.label], names[row.classes[0]]
        if brief:
            text = f'{true} → {predicted}'
        else:
            text = f'{pictures.short(true, length)}\n→ {pictures.short(predicted, length - 2)}'
        cells.append(pictures.Cell(place // columns, place % columns, view, text))
    return pictures.sheet(cells, title, side, lines)
