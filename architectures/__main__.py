"""List the networks, or the layers of one: `python -m architectures`, `python -m architectures vgg_d`."""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen('list')

import ast
import contextlib
import json
import sys

import jax

from architectures import describe
from runtime.errors import Parser, UserError, one_line
from runtime.text import terminal_width


def _option(text):
    """Parse KEY=VALUE into (key, value); a value that is not a Python literal is a string."""
    key, equals, value = text.partition('=')
    if not equals:
        raise UserError(f'--option {text}: pass KEY=VALUE')
    with contextlib.suppress(ValueError, SyntaxError):
        value = ast.literal_eval(value)
    return key, value


def main():
    """Run the command line and return the exit code: 0, or 2 after a user error."""
    parser = Parser(prog='architectures', description=__doc__.partition(':')[0] + '.')
    parser.add_argument('name', nargs='?', default='*', help="a network or a pattern: 'resnet*'; default: all")
    parser.add_argument(
        '--option', action='append', default=[], metavar='KEY=VALUE', help='an option of the network; may be repeated'
    )
    parser.add_argument('--image_size', type=int, metavar='N', help='apply the network densely to images of this side')
    parser.add_argument('--json', action='store_true', help='print JSON')
    try:
        flags = parser.parse_args()
        jax.config.update('jax_platforms', 'cpu')  # networks are only traced: leave the accelerator to others
        options, width = dict(map(_option, flags.option)), terminal_width()
        if any(wildcard in flags.name for wildcard in '*?['):
            if options or flags.image_size is not None:
                raise UserError('--option and --image_size need the name of one network')
            entries = describe.networks(flags.name)
            lines = [json.dumps(list(entries), indent=2, default=str)] if flags.json else describe.table(entries, width)
        else:
            entry = describe.network(flags.name, options, flags.image_size)
            lines = [json.dumps(entry, indent=2, default=str) if flags.json else describe.text(entry, width)]
        for line in lines:
            print(line, flush=True)
    except UserError as error:
        print(f'architectures: error: {one_line(error)}', file=sys.stderr)
        return 2
    return 2 if interrupts.output_failed() else 0


if __name__ == '__main__':
    sys.exit(main())
