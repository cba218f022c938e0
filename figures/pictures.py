"""Pictures side by side with words under them."""

from typing import NamedTuple

import numpy as np

from figures import style
from input_pipeline import classes

_LINE = 0.19  # inches of a line of words
_POINTS = 11
_LETTER = 0.088  # inches of a letter of that size


class Cell(NamedTuple):
    """A picture of a sheet.

    Fields:
      row, column: its place, the column not always whole.
      picture: uint8 [H, W, C], square.
      words: under it, at most the lines of the sheet.
      bold: whether the words are.
    """

    row: int
    column: float
    picture: np.ndarray
    words: str
    bold: bool = False


def letters(side):
    """How many letters fit under a picture of so many inches."""
    return int(side / _LETTER)


def short(name, length):
    """A class's name, of ImageNet's synonyms the first, cut to so many letters."""
    name = classes.short_name(name)
    return name if len(name) <= length else name[: length - 1].rstrip() + '…'


def sheet(cells, title, side, lines=1, gap=0.1):
    """A figure of pictures with words under them; make it inside `style.look`.

    Args:
      cells: see `Cell`.
      title: of the figure.
      side: of a picture, in inches.
      lines: of words under each.
      gap: between pictures, in inches.
    """
    height = side + lines * _LINE + gap + 0.05
    columns, rows = max(cell.column for cell in cells) + 1, max(cell.row for cell in cells) + 1
    longest = max(map(len, title.split('\n')))
    made = style.figure(
        max(columns * (side + gap) + 0.3, longest * 0.122), rows * height + 0.4 + 0.27 * len(title.split('\n'))
    )
    axes = made.add_subplot()
    for cell in cells:
        left, top = cell.column * (side + gap), cell.row * height
        options = {'cmap': 'gray', 'vmin': 0, 'vmax': 255}
        axes.imshow(cell.picture, extent=(left, left + side, top + side, top), **options)
        for number, line in enumerate(cell.words.split('\n'), start=1):  # each by its baseline: some texts have tails
            place = left + side / 2, top + side + number * _LINE
            weight = 'bold' if cell.bold else 'normal'
            axes.text(*place, line, ha='center', va='baseline', size=_POINTS, weight=weight)
    axes.set_xlim(-gap / 2, columns * (side + gap) - gap / 2)
    axes.set_ylim(rows * height, 0)
    axes.axis('off')
    made.suptitle(title)
    return made
