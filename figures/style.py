"""What all figures share: a look that is legible at the size of a slide, colours that everybody tells apart, and files.

The same figure gives the same file, to the byte: no dates, no versions, no random ids are in it.
"""

import base64
import html
import io
import os
from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from runtime.errors import UserError
from runtime.files import write_atomically

SUFFIXES = ('.png', '.svg', '.html')

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision.
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    '#000000', '#E69F00', '#56B4E9', '#009E73', '#F0E442', '#0072B2', '#D55E00', '#CC79A7',
)  # fmt: skip
CYCLE = (BLUE, ORANGE, GREEN, RED, SKY, PURPLE, BLACK, YELLOW)
SURFACE = 'viridis'  # for a quantity over a plane: even in lightness, and in grey too

_LOOK = {
    'font.family': 'DejaVu Sans',  # comes with Matplotlib, so that every machine draws the same
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
    """A context in which figures are made and saved: `with style.look():`."""
    return matplotlib.rc_context(_LOOK)


def figure(width, height):
    """An empty figure of a size in inches, which needs no display; make it inside `look`."""
    made = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(made)
    return made


def check(path):
    """Raises UserError where a figure cannot be written to a path; ask before the work."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f'{path}: a figure is a .png, .svg or .html file')
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file')
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f'{path} cannot be written: its folder is not there or not writable')


def save(made, path, dpi=150):
    """Writes a figure, whole or not at all.

    Args:
      made: of `figure`.
      path: .png, .svg, or .html, a page with the SVG in it that needs no other file.
      dpi: pixels an inch of a .png, and of the pictures inside the others.
    """
    kind = Path(path).suffix.lower().removeprefix('.')
    file = io.BytesIO()
    if kind == 'html':
        file.write(page(made.get_suptitle() or Path(path).stem, svg(made, dpi)).encode())
    elif kind == 'png':
        made.savefig(file, format='png', dpi=dpi, metadata={'Software': None})
    else:
        made.savefig(file, format='svg', dpi=dpi, metadata={'Date': None, 'Creator': None})
    write_atomically(path, file.getvalue())


def svg(made, dpi=150):
    """A figure as an <svg> element, to stand in a page."""
    file = io.BytesIO()
    made.savefig(file, format='svg', dpi=dpi, metadata={'Date': None, 'Creator': None})
    content = file.getvalue()
    return content[content.index(b'<svg') :].decode()


def page(title, body, head=''):
    """A page of HTML that needs no other file.

    Args:
      title: text.
      body, head: HTML.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(title)}</title>\n{head}</head>\n<body>\n{body}\n</body>\n</html>\n'
    )


def data_uri(content, kind='png'):
    """A picture inside a page, of the bytes of its file: png or jpeg."""
    return f'data:image/{kind};base64,{base64.b64encode(content).decode()}'
