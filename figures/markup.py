"""What the figures that are pages share: text that is escaped, and a policy: nothing comes from outside."""

import html
import json
from pathlib import Path

from errors import UserError

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
