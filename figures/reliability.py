"""Reliability diagrams: how often a network is right when it says that it is (Guo et al. 2017, figure 1)."""

import evaluation
from evaluation import label_sets, results
from figures import style
from figures.inputs import open_data, open_several
from input_pipeline.progress import bar

_WIDTH, _HEIGHT = 4.6, 6.6  # of the panels of one network, in inches


def make(out, config, checkpoint, step='best'):
    """Draw the reliability diagrams of checkpoints side by side.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_several`; the images are the test split of the first.
    """
    networks = open_several(config, checkpoint, step)
    data, evaluations = open_data(config), []
    for network in networks:
        labels = label_sets.fitting(data.source, network.member.class_names)
        with bar(network.title, len(data.source)) as progress:
            evaluations.append(evaluation.evaluate(config, network.checkpoint, labels=labels, progress=progress)[0])
    titles = [network.title.replace(', ', '\n') for network in networks]
    with style.look():
        style.save(draw(evaluations, titles, f'{evaluations[0]["num_examples"]:,} images, {data.title}'), out)


def draw(evaluations, titles, title):
    """Return the figure; call it inside `style.look`.

    Args:
      evaluations: a result of `evaluation.evaluate` for each network.
      titles: texts above them.
      title: title of the figure.
    """
    count = len(evaluations)
    figure = style.figure(_WIDTH * count + 1, _HEIGHT)
    figure.get_layout_engine().set(wspace=0.06)  # 100 and 0 of two panels stand apart
    panels = figure.subplots(2, count, sharex=True, sharey='row', squeeze=False, height_ratios=(1, 2))
    for result, text, shares, accuracies in zip(evaluations, titles, *panels, strict=True):
        _draw_shares(shares, result)
        _draw_accuracies(accuracies, result)
        shares.set_title(text)
    panels[0, 0].set_ylabel('% of the images')
    panels[1, 0].set_ylabel('accuracy, %')
    panels[1, 0].legend(loc='upper left', fontsize=11, frameon=False)
    figure.supxlabel('confidence: probability of the predicted class, %', fontsize=13)
    figure.suptitle(title)
    return figure


def _bars(axes, result, heights, bottom=0.0, **look):
    bins = result['reliability']
    left = [each['low'] for each in bins]
    axes.bar(left, heights, 100 / results.BINS, bottom, align='edge', edgecolor=style.BLACK, linewidth=0.8, **look)


def _draw_shares(axes, result):
    """Draw the histogram of the confidences, with their mean and the accuracy."""
    shares = [100 * each['num_examples'] / result['num_examples'] for each in result['reliability']]
    _bars(axes, result, shares, color=style.SKY)
    axes.set_ylim(0, 100)
    accuracy = 100 - result['top1_error']
    for value, name, dashes in ((accuracy, 'accuracy', 'solid'), (result['confidence'], 'mean confidence', 'dashed')):
        if value is not None:
            axes.axvline(value, color=style.BLACK, linestyle=dashes, label=f'{name} {value:.1f}%')
    axes.legend(loc='upper left', fontsize=10, frameon=False)


def _draw_accuracies(axes, result):
    """Draw the accuracy of each bin, and how far it is from the mean confidence there."""
    bins = result['reliability']
    accuracies = [each['accuracy'] for each in bins]
    gaps = [each['confidence'] - each['accuracy'] for each in bins]
    axes.plot([0, 100], [0, 100], color=style.BLACK, linestyle='dashed', linewidth=1)
    _bars(axes, result, accuracies, color=style.BLUE, label='accuracy')
    _bars(axes, result, gaps, accuracies, color=style.ORANGE, alpha=0.5, hatch='//', label='to the mean confidence')
    axes.set(xlim=(0, 100), ylim=(0, 100))
    error = 'unknown' if result['ece'] is None else f'{result["ece"]:.2f}%'
    axes.text(98, 3, f'ECE {error}', ha='right', fontsize=12, bbox={'facecolor': 'white', 'edgecolor': style.BLACK})
