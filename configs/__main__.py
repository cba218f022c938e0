"""The recipes.

python -m configs                                # all, with their variants
python -m configs NAME[:VARIANT]                 # one, resolved: a line a key
python -m configs --write tests/golden/configs   # what the tests hold: the base, and how each differs from it
"""

import argparse
import os
import sys
from pathlib import Path

from configs import listing


def _list():
    width = max(map(len, listing.names()))
    for name in listing.names():
        own = [key for key in listing.variants_of(name) if key not in ('cifar10', 'folder=', 'epochs=')]
        print(f'{name:{width}}  {listing.title(name)}' + (f' [{", ".join(own)}]' if own else ''))
    print('\nIn brackets: variants, as in configs/alexnet.py:lecture,cifar10. Others: cifar10, folder=DIR, epochs=N,')
    print('option.NAME=VALUE.', flush=True)


def _fail(message):
    raise ValueError(message)


def main():
    """Lists, prints or writes."""
    parser = argparse.ArgumentParser(prog='python -m configs', description='The recipes.')
    parser.add_argument('recipe', nargs='?', metavar='NAME[:VARIANT]', help='print this one, resolved')
    parser.add_argument('--write', type=Path, metavar='FOLDER', help='write those that the tests hold to the folder')
    parser.error = _fail  # one line, without the usage
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
        main()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python flushes once more at its end
    except (ValueError, OSError) as error:
        print(f'python -m configs: error: {error}', file=sys.stderr)
        sys.exit(2)
