"""The exception for errors that a user can fix, and a command line parser that raises it."""

import argparse
import difflib
import shlex
import sys


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
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def moved(command):
    """Exit with a message that this command is now `command`, with the same arguments."""
    print(f'error: this command is now: {shlex.join([*command.split(), *sys.argv[1:]])}', file=sys.stderr)
    sys.exit(2)
