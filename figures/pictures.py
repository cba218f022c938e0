"""A sheet of pictures with captions."""

from typing import NamedTuple

import numpy as np

from figures import style
from input_pipeline import classes

_LINE = 0.19  # height of a line of text in inches
_POINTS = 11
_LETTER = 0.088  # width of a letter of that size in inches


class Cell(NamedTuple):
    """A picture of a sheet.

    Fields:
      row, column: its position; the column may be a fraction.
      picture: uint8 [H, W, C], square.
      text: its caption, with at most the lines of the sheet.
      bold: whether the caption is bold.
    """

    row: int
    column: float
    picture: np.ndarray
    text: str
    bold: bool = False


def letters(side):
    """Return how many letters fit under a picture of a side in inches."""
    return int(side / _LETTER)


def short(name, length):
    """Return a class's name, the first of ImageNet's synonyms, cut to a length."""
    name = classes.short_name(name)
    return name if len(name) <= length else name[: length - 1].rstrip() + '…'


def sheet(cells, title, side, lines=1, gap=0.1):
    """Return a figure of pictures with captions; call it inside `style.look`.

    Args:
      cells: list of `Cell`.
      title: title of the figure.
      side: side of a picture, in inches.
      lines: lines of a caption.
      gap: space between pictures, in inches.
    """
    height = side + lines * _LINE + gap + 0.05
    columns, rows = max(cell.column for cell in cells) + 1, max(cell.row for cell in cells) + 1
    longest = max(map(len, title.split('\n')))
    figure = style.figure(
        max(columns * (side + gap) + 0.3, longest * 0.122), rows * height + 0.4 + 0.27 * len(title.split('\n'))
    )
    axes = figure.add_subplot()
    for cell in cells:
        left, top = cell.column * (side + gap), cell.row * height
        options = {'cmap': 'gray', 'vmin': 0, 'vmax': 255}
        axes.imshow(cell.picture, extent=(left, left + side, top + side, top), **options)
        for number, line in enumerate(cell.text.split('\n'), start=1):  # one by one, to align the baselines
            place = left + side / 2, top + side + number * _LINE
            weight = 'bold' if cell.bold else 'normal'
            axes.text(*place, line, ha='center', va='baseline', size=_POINTS, weight=weight)
    axes.set_xlim(-gap / 2, columns * (side + gap) - gap / 2)
    axes.set_ylim(rows * height, 0)
    axes.axis('off')
    figure.suptitle(title)
    return figure
