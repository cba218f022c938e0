"""Escape control characters in text from outside, such as names of files and classes, to print and draw it."""

import math
import re
import shutil
import sys
import textwrap

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
    print(*map(printable, lines), sep='\n', file=file, flush=True)


def printable_lines(text):
    """Return a text of several lines, each of them `printable`."""
    return '\n'.join(map(printable, str(text).split('\n')))


def duration(seconds):
    """Format seconds as '1:02:03', or '2:03' below an hour."""
    seconds = round(seconds)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f'{hours}:{minutes:02}:{seconds % 60:02}' if hours else f'{minutes}:{seconds % 60:02}'


def cut(text, most):
    """Return a text, or the start and the end of one that is longer than `most` characters."""
    half = most // 2
    return text if len(text) <= most else f'{text[:half]}...{text[-half:]}'


def wrapped(text, indent=0):
    """Return a line broken between words to the width of the terminal; unchanged if the output is none.

    Args:
      text: the line.
      indent: spaces before the further lines.
    """
    width = terminal_width()
    if width == math.inf:
        return text
    return textwrap.fill(text, width, subsequent_indent=' ' * indent, break_long_words=False, break_on_hyphens=False)


def terminal_width():
    """Return the characters of a line of the terminal; infinity if the output is none."""
    return max(40, shutil.get_terminal_size().columns) if sys.stdout.isatty() else math.inf
