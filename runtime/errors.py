"""The exception for errors that a user can fix, and a command line parser that raises it."""

import argparse
import difflib
import shlex
import sys

from runtime.text import cut, printable

_LONGEST_WORD, _LONGEST_LINE = 500, 2000  # characters of a message


class UserError(Exception):
    """An error that the user can fix; the message, one line, says what is wrong and what to do.

    The scripts print the message and exit with code 2 (`command_line.run`).
    """


class Parser(argparse.ArgumentParser):
    """A parser that raises `UserError`, one line without the usage text."""

    def error(self, message):
        """Raise the error."""
        raise UserError(message)


def nearest(name, names):
    """Return ', did you mean NAME?' with the closest of some names, or '.' if none is close."""
    close = difflib.get_close_matches(str(name), [str(n) for n in names], n=1, cutoff=0.5)
    return f', did you mean {close[0]}?' if close else '.'


def first_line(error):
    """Return the first line of an exception's message, to quote it in another message."""
    is_tuple = type(error).__str__ is BaseException.__str__ and len(error.args) > 1  # its text would be one of Python's
    lines = str(error.args[0] if is_tuple else error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def one_line(error):
    """Return the message of an error that ends a script: one printable line, in which a very long name is cut."""
    text = str(error)
    if isinstance(error, OSError):
        where = f' ({error.filename})' if error.filename else ''
        text = f'{error.strerror or first_line(error)}{where}'
    words = printable(' '.join(text.split())).split(' ')
    return cut(' '.join(cut(word, _LONGEST_WORD) for word in words), _LONGEST_LINE)


def moved(command):
    """Exit with a message that this command is now `command`, with the same arguments."""
    print(f'error: this command is now: {shlex.join([*command.split(), *sys.argv[1:]])}', file=sys.stderr)
    sys.exit(2)
