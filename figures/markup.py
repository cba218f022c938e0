"""HTML for the figures that are pages: escaped text, tables, embedded pictures, no external resources."""

import html
import io
import json
from pathlib import Path

from PIL import Image

from figures import style
from runtime.errors import UserError
from runtime.text import printable_lines

# The browser refuses to load anything from outside the page.
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
)


def check(path, figure):
    """Raise UserError if the path of a page does not end in .html."""
    if Path(path).suffix.lower() != '.html':
        raise UserError(f'{figure} is a page: pass --out FILE.html, not {path}')


def text(value):
    """Return a value as escaped HTML text."""
    return html.escape(printable_lines(value))


def json_text(value):
    """Return JSON that is safe inside a <script>: no tag can end it."""
    return json.dumps(value).replace('<', '\\u003c')


def table(head, rows, caption):
    """Return a table.

    Args:
      head: names of the columns.
      rows: rows of values; numbers are right-aligned.
      caption: caption of the table.
    """

    def cell(value):
        number = isinstance(value, int | float) or (isinstance(value, str) and value.endswith('%'))
        return f'<td class="number">{text(value)}</td>' if number else f'<td>{text(value)}</td>'

    names = ''.join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = '\n'.join(f'<tr>{"".join(map(cell, row))}</tr>' for row in rows)
    head = f'<caption>{text(caption)}</caption>\n<thead><tr>{names}</tr></thead>'
    return f'<table>\n{head}\n<tbody>\n{lines}\n</tbody>\n</table>'


def scrolled(content, name):
    """Return HTML in a box that scrolls, also by keyboard, if its content is long."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(name)}">{content}</div>'


def facts(pairs, caption):
    """Return a table of names and values."""
    lines = '\n'.join(f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in pairs)
    return f'<table class="facts">\n<caption>{text(caption)}</caption>\n<tbody>\n{lines}\n</tbody>\n</table>'


def picture(pixels, alt, longest=160):
    """Return pixels, uint8 [H, W] or [H, W, C], as an <img> with embedded bytes.

    A small image is a lossless PNG, enlarged by a whole factor; a photograph is a JPEG, shrunk to `longest`.
    """
    image = _image(pixels)
    if max(image.size) <= 64:
        return enlarged(pixels, alt, max(1, 96 // max(image.size)))
    image.thumbnail((longest, longest))
    return _img(image, alt, 1, 'jpeg', quality=85)


def enlarged(pixels, alt, zoom):
    """Return pixels as an embedded PNG that the browser enlarges by a whole factor."""
    return _img(_image(pixels), alt, zoom, 'png')


def _image(pixels):
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _img(image, alt, zoom, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    size = f'width="{zoom * image.width}" height="{zoom * image.height}"'
    return f'<img src="{style.data_uri(file.getvalue(), kind)}" alt="{text(alt)}" {size}>'


def grid(pictures):
    """Return pictures in rows as wide as the window, from [(HTML of a picture, HTML of its caption)]."""
    cells = '\n'.join(f'<figure>{image}<figcaption>{caption}</figcaption></figure>' for image, caption in pictures)
    return f'<div class="grid">\n{cells}\n</div>'
