"""List or print the recipes.

python -m configs                                # list all, with their variants
python -m configs NAME[:VARIANT]                 # print one, resolved, one key per line
python -m configs --write tests/golden/configs   # write the tests' golden files: the base, and differences
"""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen('list')

import argparse
import sys
from pathlib import Path

from configs import listing, variants
from runtime.errors import one_line
from runtime.files import write_atomically
from runtime.text import wrapped


def _list():
    width = max(map(len, listing.names()))
    general = set(variants.GENERAL) - {'fixed'}
    for name in listing.names():
        special = [key for key in listing.variants_of(name) if key not in general]
        line = f'{name:{width}}  {listing.title(name)}' + (f' [{", ".join(special)}]' if special else '')
        print(wrapped(line, width + 2))
    others = 'cifar10, folder=DIR, small, finetune, epochs=N, option.NAME=VALUE'
    print()
    print(wrapped(f'Brackets list variants, as in configs/alexnet.py:lecture,cifar10. Others: {others}.'), flush=True)


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
            write_atomically(flags.write / file, text)
    elif flags.recipe:
        sys.stdout.write(listing.text(listing.load(flags.recipe)))
    else:
        _list()


if __name__ == '__main__':
    try:
        main()
        sys.exit(2 if interrupts.output_failed() else 0)
    except (ValueError, OSError) as error:
        print(f'python -m configs: error: {one_line(error)}', file=sys.stderr)
        sys.exit(2)
