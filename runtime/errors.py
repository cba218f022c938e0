"""The one exception for what a user can mend, and a parser of command lines that raises it."""

import argparse
import difflib
import shlex
import sys


class UserError(Exception):
    """Something the user can mend: its message is one line that says what is wrong and what to do.

    The scripts print the message and exit with code 2 (`command_line.run`).
    """


class Parser(argparse.ArgumentParser):
    """A parser whose errors are `UserError`: one line, without the usage."""

    def error(self, message):
        """Raises it."""
        raise UserError(message)


def nearest(name, names):
    """', did you mean NAME?' for the closest of some names, or '.' when none is close."""
    close = difflib.get_close_matches(str(name), [str(n) for n in names], n=1, cutoff=0.5)
    return f', did you mean {close[0]}?' if close else '.'


def first_line(error):
    """The first line of an exception's message, for quoting in one line of ours."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def moved(command):
    """Ends the process: its command has the new name `command`, which takes the same arguments."""
    print(f'error: this command is now: {shlex.join([*command.split(), *sys.argv[1:]])}', file=sys.stderr)
    sys.exit(2)
