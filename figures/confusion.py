"""The confusion matrix of a network on its test split: which class it takes for which."""

import numpy as np

import evaluation
from evaluation import results
from figures import pictures, style
from figures.inputs import open_data, open_one
from input_pipeline.progress import bar
from runtime.errors import UserError

_WRITTEN = 20  # classes, up to which every cell has its number
_LONGEST = 24  # letters of a name


def make(out, config, checkpoint, step='best', count=30):
    """Draw the confusion matrix of a checkpoint, each row in percent of the images of its class.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_one`; the images are the config's test split.
      count: maximum number of classes; if there are more, those that take part in the most errors.
    """
    if count < 2:
        raise UserError(f'--count must be at least 2, not {count}')
    network = open_one(config, checkpoint, step)
    data = open_data(config, member=network.member)
    with bar(network.title, len(data.source)) as progress:
        result, rows, names = evaluation.evaluate(config, network.checkpoint, labels=data.labels, progress=progress)
    counts = results.confusion_matrix(rows, len(names))
    classes = most_confused(counts, count)
    every = f'{len(classes)} classes' if len(classes) == len(names) else (
        f'the {len(classes)} of {len(names):,} classes with the most errors'
    )  # fmt: skip
    title = f'{every}; {result["wrong_top1"]:,} of {result["num_examples"]:,} images wrong, {data.title}'
    with style.look():
        style.save(draw(counts, classes, names, f'{title}\n{network.title}'), out)


def most_confused(counts, most):
    """Return the classes to draw, in their order: all, or the `most` with the largest numbers of errors."""
    if len(counts) <= most:
        return np.arange(len(counts))
    wrong = counts - np.diag(np.diag(counts))
    return np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind='stable')[:most])


def draw(counts, classes, names, title):
    """Return the figure of a confusion matrix; call it inside `style.look`.

    Args:
      counts: from `evaluation.results.confusion_matrix`.
      classes: the classes to draw.
      names: names of all classes.
      title: title of the figure.
    """
    totals = counts.sum(1)[classes]
    shares = 100 * counts[np.ix_(classes, classes)] / np.maximum(totals, 1)[:, None]
    texts = [pictures.short(names[number], _LONGEST) for number in classes]
    longest = max(map(len, texts))
    side = max(0.32 * len(classes), 3.2)
    figure = style.figure(max(side + 0.1 * longest + 2.6, 8), side + 0.1 * longest + 1.6)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap='Blues', vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, shrink=0.8, label='% of the class')
    places = range(len(classes))
    axes.set_xticks(places, texts, rotation=0 if longest < 3 else 90, fontsize=11)
    axes.set_yticks(places, [f'{text} ({total:,})' for text, total in zip(texts, totals, strict=True)], fontsize=11)
    axes.set(xlabel='predicted', ylabel='true (number of images)')
    axes.spines[:].set_visible(True)
    if len(classes) <= _WRITTEN:
        for (row, column), share in np.ndenumerate(shares):
            if number := counts[classes[row], classes[column]]:
                color = 'white' if share > 50 else style.BLACK
                axes.text(column, row, f'{number:,}', ha='center', va='center', fontsize=9, color=color)
    figure.suptitle(title)
    return figure
