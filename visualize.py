"""Draws a figure: `python visualize.py filters --checkpoint runs/alexnet --out filters.png`.

`python visualize.py` lists the figures, `python visualize.py FIGURE` the flags of a figure. The file is .png, .svg or
.html. docs/gallery.md shows all figures.
"""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen()

from runtime import command_line  # noqa: I001  (second: it starts the clock)

import inspect
import sys

from absl import flags

from figures import FIGURES, maker
from runtime.errors import UserError
from runtime.text import say

OUT = flags.DEFINE_string('out', None, 'Path of the figure: .png, .svg or .html.')
flags.DEFINE_multi_string('checkpoint', [], "A run's workdir, a converted checkpoint, or a single checkpoint.")
flags.DEFINE_string('step', 'best', "Which checkpoint of a workdir: 'best' by test error, 'latest', or a step.")
flags.DEFINE_multi_string('images', [], 'Image files and folders to use in place of the test split.')
flags.DEFINE_string('split', '', 'Split of the data, as the config names it.')
flags.DEFINE_integer('columns', 0, 'Pictures side by side.', lower_bound=0)
flags.DEFINE_integer(
    'count', 0, 'Number of images; for features, of neighbors; for confusion, of classes.', lower_bound=0
)
flags.DEFINE_integer('queries', 0, 'Number of images of the test split whose neighbors to find.', lower_bound=0)
flags.DEFINE_integer('size', 0, 'Side of the gray square in pixels; default: a quarter of the image.', lower_bound=0)
flags.DEFINE_integer('stride', 0, 'Pixels between positions of the gray square.', lower_bound=0)
flags.DEFINE_string('arch', '', 'Name of a network in `python -m architectures`.')
flags.DEFINE_string('layer', '', 'A layer or block, such as conv2, inception_3a or conv3_x/block1.')
flags.DEFINE_string('units', '', 'Units of the layer that deconvnet projects: comma-separated numbers from 0.')
flags.DEFINE_integer('points', 21, 'Points on a side of the grid of landscape; odd.')
flags.DEFINE_float('span', 1.0, 'Extent of landscape, in units of the filter norms.')
flags.DEFINE_integer('seed', 0, 'Seed of random choices.')
flags.DEFINE_integer('seeds', 3, "Number of times that compare trains scikit-learn's classifiers.")


def main(names):
    if len(names) != 1:
        raise UserError(f'name one figure: {", ".join(FIGURES)}')
    (name,) = names
    make = maker(name)
    from figures import style

    parameters = inspect.signature(make).parameters
    keys = [key for key in parameters if key != 'config']
    usage = ', '.join(f'--{key}' for key in keys)
    arguments = {
        flag.name: flag.value for flag in flags.FLAGS.get_flags_for_module(sys.modules[__name__]) if flag.present
    }
    for flag in arguments:
        if flag not in parameters:
            raise UserError(f'{name} has no flag --{flag}; its flags: {usage}')
    for key in keys:
        if parameters[key].default is inspect.Parameter.empty and key not in arguments:
            raise UserError(f'{name} draws {FIGURES[name]}: pass --{key}; its flags: {usage}')
    style.check(OUT.value)
    if 'config' in parameters and (
        parameters['config'].default is inspect.Parameter.empty or command_line.CONFIG.present
    ):
        arguments['config'], _ = command_line.load_config()
        from training import unread

        unread.refuse(arguments['config'], *command_line.set_keys())
    for path in make(**arguments) or [OUT.value]:
        say(path)
    return 0


if __name__ == '__main__':
    command_line.run(main, positional=True)
