"""What all figures share: a style that is legible on a slide, colors for color-blind readers, and writing of files.

The same figure gives the same bytes: files contain no dates, versions or random ids.
"""

import base64
import html
import io
import re
import sys
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from runtime import files
from runtime.errors import UserError
from runtime.text import escaped, printable_lines

SUFFIXES = ('.png', '.svg', '.html')

# Okabe and Ito, "Color Universal Design", 2008: distinguishable with any kind of color vision.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    '#000000', '#E69F00', '#56B4E9', '#009E73', '#F0E442', '#0072B2', '#D55E00', '#CC79A7',
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, RED, SKY, PURPLE, BLACK, YELLOW)
SURFACE = 'viridis'  # for a quantity over a plane: perceptually uniform, also in grayscale
_POWER = re.compile(r'\$\\mathdefault\{(\\times|[-\N{MINUS SIGN}\d.^{}])*\}\$')  # a tick label of a logarithmic axis
_noted = set()  # characters that a note has said the font lacks

_LOOK = {
    'font.family': 'DejaVu Sans',  # included in Matplotlib, so that every machine draws the same
    'font.size': 13,
    'axes.titlesize': 14,
    'figure.titlesize': 15,
    'axes.prop_cycle': matplotlib.cycler(color=CYCLE),
    'axes.spines.top': False,
    'axes.spines.right': False,
    'lines.linewidth': 2,
    'svg.hashsalt': 'imagenet-decade',
    'svg.fonttype': 'path',
}


def look():
    """Return the context in which to draw and save figures: `with style.look():`."""
    return matplotlib.rc_context(_LOOK)


def figure(width, height):
    """Return an empty figure, with its size in inches, that needs no display; call it inside `look`."""
    new = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(new)
    return new


def check(path):
    """Raise UserError if a figure cannot be written to a path; call it before the work."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise UserError(f'{path}: a figure is a .png, .svg or .html file')
    files.check(path)


def save(fig, path, dpi=150):
    """Write a figure atomically.

    Args:
      fig: from `figure`.
      path: .png, .svg, or .html, a self-contained page with the SVG.
      dpi: pixels per inch of a .png, and of the pictures inside the others.
    """
    kind = Path(path).suffix.lower().removeprefix('.')
    _make_plain(fig)
    file = io.BytesIO()
    if kind == 'html':
        file.write(page(fig.get_suptitle() or Path(path).stem, svg(fig, dpi)).encode())
    elif kind == 'png':
        fig.savefig(file, format='png', dpi=dpi, metadata={'Software': None})
    else:
        fig.savefig(file, format='svg', dpi=dpi, metadata={'Date': None, 'Creator': None})
    files.write_atomically(path, file.getvalue())


def svg(fig, dpi=150):
    """Return a figure as an <svg> element for a page."""
    _make_plain(fig)
    file = io.BytesIO()
    fig.savefig(file, format='svg', dpi=dpi, metadata={'Date': None, 'Creator': None})
    content = file.getvalue()
    return content[content.index(b'<svg') :].decode()


def _make_plain(fig):
    """Draw all text of a figure as it is: a $ in the name of a class or a file does not begin a formula.

    A character that the font lacks is drawn as its code, with a note on standard error.
    """
    lacking = set()
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):  # tick labels, which are set again when they are drawn
            labels = [label.get_text() for label in axis.get_ticklabels()]
            if isinstance(axis.get_major_locator(), FixedLocator) and any(_lacking(label) for label in labels):
                axis.set_ticklabels([_as_codes(label) for label in labels])
                lacking |= {letter for label in labels for letter in _lacking(label)}
    for text in fig.findobj(Text):
        shown = text.get_text()
        if not shown or _POWER.fullmatch(shown):
            continue
        shown = printable_lines(shown)
        lacking |= _lacking(shown)
        text.set(text=_as_codes(shown), parse_math=False)
    if new := sorted(lacking - _noted):
        _noted.update(new)
        some = ', '.join(map(escaped, new[:3])) + (f' and {len(new) - 3:,} more' if len(new) > 3 else '')
        print(f'note: the font of figures lacks some characters, drawn as their codes: {some}', file=sys.stderr)


def _lacking(text):
    """Return the characters of a text that the font of the figures lacks."""
    if text.isascii():
        return set()
    font = font_manager.get_font(font_manager.findfont(_LOOK['font.family']))
    return {letter for letter in text if letter != '\n' and not font.get_char_index(ord(letter))}


def _as_codes(text):
    missing = _lacking(text)
    return ''.join(escaped(letter) if letter in missing else letter for letter in text)


def page(title, body, head=''):
    """Return a self-contained page of HTML.

    Args:
      title: text.
      body, head: HTML.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(printable_lines(title))}</title>\n{head}</head>\n<body>\n{body}\n</body>\n</html>\n'
    )


def data_uri(content, kind='png'):
    """Return the data URI of a picture, from the bytes of its png or jpeg file."""
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'
