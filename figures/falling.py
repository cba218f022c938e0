"""The falling curve: the test error of network after network, in the order of their years."""

from figures import style


def draw(rows, path):
    """Draws the test and the training error of a series's members to a PNG file.

    Args:
      rows: of `training.series.train`.
      path: of the file.
    """
    with style.look():
        style.save(_drawn(rows), path)


def _drawn(rows):
    places = range(len(rows))
    figure = style.figure(max(6, 0.9 * len(rows) + 1.5), 4.5)
    axes = figure.add_subplot()
    axes.plot(places, [row['train_error'] for row in rows], 'o:', color='0.6', label='training, last epoch')
    axes.plot(places, [row['test_top1_error'] for row in rows], 'o-', color=style.BLUE, label='test, top-1')
    for place, row in zip(places, rows, strict=True):
        error = row['test_top1_error']
        options = {'xytext': (0, 7), 'textcoords': 'offset points', 'ha': 'center'}
        white = {'facecolor': 'white', 'edgecolor': 'none', 'alpha': 0.8, 'pad': 1}  # over the other curve
        axes.annotate(f'{error:.1f}', (place, error), bbox=white, **options)
    axes.set_xticks(places, [f'{row["name"]}\n{row["year"]}' for row in rows], rotation=30, ha='right')
    axes.set_ylabel('error, %')
    axes.set_ylim(0, 1.12 * max(max(row['train_error'], row['test_top1_error']) for row in rows))
    axes.grid(axis='y', alpha=0.3)
    axes.legend(loc='lower left')
    return figure
