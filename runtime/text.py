"""Text that somebody else chose, such as the names of files and classes, made safe to print and to draw."""

import re

# Control characters, marks that turn the direction of text, line separators, and bytes that are not UTF-8.
_UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')


def printable(text):
    r"""Return a text of one line with escapes, such as \x1b, for characters that control a terminal or have no code."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode('unicode_escape').decode(), str(text))
