"""Photographs with the five best guesses under each, as bars (Krizhevsky et al. 2012, figure 4)."""

import math
import textwrap

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

BLUE, ORANGE = '#56B4E9', '#E69F00'  # told apart by everybody, and black is read on them
_LONGEST = 28  # characters of a name


def draw(found, path, title, columns=4):
    """Draws predictions to a file.

    Args:
      found: of `evaluation.prediction.predict`; an entry may have 'label', the name of the right class, whose bar is
        then of another colour.
      path: of the file, .png or .svg.
      title: of the figure.
      columns: photographs side by side.
    """
    columns = min(columns, len(found))
    rows = math.ceil(len(found) / columns)
    figure = Figure(figsize=(3.2 * columns, 4.2 * rows), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * rows, columns, height_ratios=[3, 2] * rows, squeeze=False)
    for axis in axes.ravel():
        axis.axis('off')
    for number, entry in enumerate(found):
        picture, bars = (
            axes[2 * (number // columns)][number % columns],
            axes[2 * (number // columns) + 1][number % columns],
        )
        with Image.open(entry['file']) as image:
            picture.imshow(image.convert('RGB'))
        picture.set_title(entry.get('label', ''), fontsize=11)
        best = entry['best'][::-1]
        colours = [ORANGE if guess['name'] == entry.get('label') else BLUE for guess in best]
        bars.barh(range(len(best)), [guess['probability'] for guess in best], color=colours, height=0.8)
        for place, guess in enumerate(best):
            name = textwrap.shorten(guess['name'], _LONGEST, placeholder='...')
            bars.text(0.02, place, f'{name}  {100 * guess["probability"]:.0f}%', va='center', fontsize=9, color='black')
        bars.set_xlim(0, 1)
    figure.suptitle(title)
    figure.savefig(path, dpi=100, metadata={'Software': None} if str(path).endswith('.png') else {'Date': None})
