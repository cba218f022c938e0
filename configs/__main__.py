"""List or print the recipes.

python -m configs                                # list all, with their variants
python -m configs NAME[:VARIANT]                 # print one, resolved, one key per line
python -m configs --write tests/golden/configs   # write the tests' golden files: the base, and differences
"""

import signal

if __name__ == '__main__':  # before the slow imports: Ctrl-C and `| head` end it without a message
    for name in ('SIGINT', 'SIGPIPE'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)

import argparse
import os
import shutil
import sys
import textwrap
from pathlib import Path

from configs import listing, variants


def _list():
    width = max(map(len, listing.names()))
    general = set(variants.GENERAL) - {'fixed'}
    for name in listing.names():
        special = [key for key in listing.variants_of(name) if key not in general]
        line = f'{name:{width}}  {listing.title(name)}' + (f' [{", ".join(special)}]' if special else '')
        print(_wrapped(line, ' ' * (width + 2)))
    others = 'cifar10, folder=DIR, small, finetune, epochs=N, option.NAME=VALUE'
    print()
    print(_wrapped(f'Brackets list variants, as in configs/alexnet.py:lecture,cifar10. Others: {others}.'))


def _wrapped(line, indent=''):
    if not sys.stdout.isatty():
        return line
    return textwrap.fill(line, max(40, shutil.get_terminal_size().columns), subsequent_indent=indent)


def _fail(message):
    raise ValueError(message)


def main():
    """List, print or write recipes."""
    parser = argparse.ArgumentParser(prog='python -m configs', description='The recipes.')
    parser.add_argument('recipe', nargs='?', metavar='NAME[:VARIANT]', help='print this recipe, resolved')
    parser.add_argument('--write', type=Path, metavar='FOLDER', help="write the tests' golden files to the folder")
    parser.error = _fail  # print one line, without the usage
    flags = parser.parse_args()
    if flags.write:
        for file, text in listing.golden_texts().items():
            (flags.write / file).write_text(text)
    elif flags.recipe:
        sys.stdout.write(listing.text(listing.load(flags.recipe)))
    else:
        _list()


if __name__ == '__main__':
    try:
        sys.stdout.reconfigure(errors='backslashreplace')
        main()
        sys.stdout.flush()
    except (ValueError, OSError) as error:
        print(f'python -m configs: error: {error}', file=sys.stderr, flush=True)
        os._exit(2)  # without writing to standard output again, if that failed
