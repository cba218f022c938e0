"""What the figures that are pages share: text that is escaped, tables, pictures, nothing from outside."""

import html
import io
import json
from pathlib import Path

from PIL import Image

from figures import style
from runtime.errors import UserError

# The browser itself refuses whatever is not in the page.
POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
)


def check(path, figure):
    """Raises UserError where a figure that is a page is to be another kind of file."""
    if Path(path).suffix.lower() != '.html':
        raise UserError(f'{figure} is a page: pass --out FILE.html, not {path}')


def text(value):
    """Any value as HTML that shows it."""
    return html.escape(str(value))


def json_text(value):
    """JSON that may stand in a <script>: no tag can end it."""
    return json.dumps(value).replace('<', '\\u003c')


def table(head, rows, caption):
    """A table.

    Args:
      head: the columns' names.
      rows: of values; a number stands at the right.
      caption: what it shows.
    """

    def cell(value):
        number = isinstance(value, int | float) or (isinstance(value, str) and value.endswith('%'))
        return f'<td class="number">{text(value)}</td>' if number else f'<td>{text(value)}</td>'

    names = ''.join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = '\n'.join(f'<tr>{"".join(map(cell, row))}</tr>' for row in rows)
    head = f'<caption>{text(caption)}</caption>\n<thead><tr>{names}</tr></thead>'
    return f'<table>\n{head}\n<tbody>\n{lines}\n</tbody>\n</table>'


def scrolled(content, name):
    """HTML in a box that is scrolled where it is long, by the keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{text(name)}">{content}</div>'


def facts(pairs, caption):
    """A table of names and what they are."""
    lines = '\n'.join(f'<tr><th scope="row">{text(name)}</th><td>{text(value)}</td></tr>' for name, value in pairs)
    return f'<table class="facts">\n<caption>{text(caption)}</caption>\n<tbody>\n{lines}\n</tbody>\n</table>'


def picture(pixels, words, longest=160):
    """Pixels uint8 [H, W] or [H, W, C] as an <img> with its bytes in it; a larger one is shrunk.

    What is small is kept exactly, as a PNG, and enlarged by whole pixels; a photograph is a JPEG.
    """
    image = _image(pixels)
    if max(image.size) <= 64:
        return enlarged(pixels, words, max(1, 96 // max(image.size)))
    image.thumbnail((longest, longest))
    return _img(image, words, 1, 'jpeg', quality=85)


def enlarged(pixels, words, zoom):
    """Pixels as a PNG, exact, that the browser enlarges by a whole number."""
    return _img(_image(pixels), words, zoom, 'png')


def _image(pixels):
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _img(image, words, zoom, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    size = f'width="{zoom * image.width}" height="{zoom * image.height}"'
    return f'<img src="{style.data_uri(file.getvalue(), kind)}" alt="{text(words)}" {size}>'


def grid(pictures):
    """Pictures side by side, as many as the window is wide: [(HTML of a picture, HTML under it)]."""
    cells = '\n'.join(f'<figure>{shown}<figcaption>{under}</figcaption></figure>' for shown, under in pictures)
    return f'<div class="grid">\n{cells}\n</div>'
