"""The falling curve: the test errors of the networks of a series, in the order of their years."""

from figures import style


def draw(rows, path):
    """Draw the test and training errors of a series' members to a PNG file.

    Args:
      rows: from `training.series.train`.
      path: path of the file.
    """
    with style.look():
        style.save(_figure(rows), path)


def _figure(rows):
    places = range(len(rows))
    figure = style.figure(max(6, 0.9 * len(rows) + 1.5), 4.5)
    axes = figure.add_subplot()
    axes.plot(places, [row['train_error'] for row in rows], 'o:', color='0.6', label='training, last epoch')
    axes.plot(places, [row['test_top1_error'] for row in rows], 'o-', color=style.BLUE, label='test, top-1')
    for place, row in zip(places, rows, strict=True):
        error = row['test_top1_error']
        options = {'xytext': (0, 7), 'textcoords': 'offset points', 'ha': 'center'}
        white = {'facecolor': 'white', 'edgecolor': 'none', 'alpha': 0.8, 'pad': 1}  # may cover the other curve
        axes.annotate(f'{error:.1f}', (place, error), bbox=white, **options)
    axes.set_xticks(places, [f'{row["name"]}\n{row["year"]}' for row in rows], rotation=30, ha='right')
    axes.set_ylabel('error, %')
    axes.set_ylim(0, 1.12 * max(max(row['train_error'], row['test_top1_error']) for row in rows))
    axes.grid(axis='y', alpha=0.3)
    axes.legend(loc='lower left')
    return figure
