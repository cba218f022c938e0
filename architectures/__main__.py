"""The networks, or the layers of one: `python -m architectures`, `python -m architectures vgg_d`."""

from runtime import interrupts  # first: Ctrl-C is heard from here on

if __name__ == '__main__':
    interrupts.listen()

import ast
import contextlib
import json
import os
import sys

import jax

from architectures import describe
from runtime.errors import Parser, UserError


def _option(text):
    """('key', value) of KEY=VALUE; a value that is no literal of Python is a string."""
    key, equals, value = text.partition('=')
    if not equals:
        raise UserError(f'--option {text}: an option is KEY=VALUE')
    with contextlib.suppress(ValueError, SyntaxError):
        value = ast.literal_eval(value)
    return key, value


def main():
    """Prints what the command line asks for; returns the exit code: 0, or 2 after an error that the user can mend."""
    parser = Parser(prog='architectures', description=__doc__.partition(':')[0] + '.')
    parser.add_argument('name', nargs='?', default='*', help="a network, or a pattern: 'resnet*'; without one: all")
    parser.add_argument(
        '--option', action='append', default=[], metavar='KEY=VALUE', help='an option of the network; may be repeated'
    )
    parser.add_argument('--image_size', type=int, metavar='N', help='side of the images, which it then reads dense')
    parser.add_argument('--json', action='store_true', help='as JSON')
    try:
        flags = parser.parse_args()
        jax.config.update('jax_platforms', 'cpu')  # nothing is computed: leave the accelerator to those who compute
        options = dict(map(_option, flags.option))
        if any(wildcard in flags.name for wildcard in '*?['):
            if options or flags.image_size is not None:
                raise UserError('--option and --image_size are for one network: name it')
            entries = describe.networks(flags.name)
            lines = [json.dumps(list(entries), indent=2, default=str)] if flags.json else describe.table(entries)
        else:
            entry = describe.network(flags.name, options, flags.image_size)
            lines = [json.dumps(entry, indent=2, default=str) if flags.json else describe.text(entry)]
        for line in lines:
            print(line, flush=True)
    except UserError as error:
        print(f'architectures: error: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python flushes once more at its end
    return 0


if __name__ == '__main__':
    sys.exit(main())
