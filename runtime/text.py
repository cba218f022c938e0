"""Escape control characters in text from outside, such as names of files and classes, to print and draw it."""

import re

# Control characters, marks that turn the direction of text, line separators, and bytes that are not UTF-8.
_UNPRINTABLE = re.compile('[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]')


def escaped(text):
    r"""Return a text as escapes: \x1b."""
    return text.encode('unicode_escape').decode()


def printable(text):
    r"""Return a text of one line with escapes, such as \x1b, for characters that control a terminal or have no code."""
    return _UNPRINTABLE.sub(lambda match: escaped(match[0]), str(text))


def say(*lines, file=None):
    """Print texts, each as one `printable` line, on standard output by default."""
    print(*map(printable, lines), sep='\n', file=file)


def printable_lines(text):
    """Return a text of several lines, each of them `printable`."""
    return '\n'.join(map(printable, str(text).split('\n')))


def cut(text, most):
    """Return a text, or the start and the end of one that is longer than `most` characters."""
    half = most // 2
    return text if len(text) <= most else f'{text[:half]}...{text[-half:]}'
