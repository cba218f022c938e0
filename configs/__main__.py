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
import sys
from pathlib import Path

from configs import listing


def _list():
    width = max(map(len, listing.names()))
    for name in listing.names():
        special = [key for key in listing.variants_of(name) if key not in ('cifar10', 'folder=', 'epochs=')]
        print(f'{name:{width}}  {listing.title(name)}' + (f' [{", ".join(special)}]' if special else ''))
    print('\nBrackets list variants, as in configs/alexnet.py:lecture,cifar10. Others: cifar10, folder=DIR, epochs=N,')
    print('option.NAME=VALUE.', flush=True)


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
