"""Draws one of the decade's pictures: `python visualize.py filters --checkpoint runs/alexnet --out filters.png`.

`python visualize.py` lists the figures, `python visualize.py FIGURE` what a figure takes. The file is .png, .svg or
.html. docs/gallery.md shows them all.
"""

from runtime import interrupts  # first: Ctrl-C is heard from here on

if __name__ == '__main__':
    interrupts.listen()

from runtime import command_line  # noqa: I001  (next: the clock starts with it)

import importlib
import inspect
import sys

from absl import flags

from runtime.errors import UserError, nearest

FIGURES = {  # name: what it shows
    'errors': 'the test images that a network gets wrong (LeCun et al. 1998, figure 8)',
    'predictions': 'photographs with the five best classes of each (AlexNet, figure 4, left)',
    'filters': 'the kernels of the first convolution (AlexNet, figure 3)',
    'deconvnet': 'what excites the units of a layer, projected to pixels (Zeiler and Fergus 2013, figure 2)',
    'occlusion': 'what a grey square, slid over an image, does to the probability of its class (ZFNet, figure 7)',
    'features': 'images that are nearest to each other in the last hidden layer (AlexNet, figure 4, right)',
    'landscape': 'the loss over two random directions, as contours and surfaces (Li et al. 2018)',
    'degradation': 'training and test error of runs: plain20, plain56, resnet20, resnet56 (He et al. 2015, figure 6)',
    'compare': "LeNet-5 beside scikit-learn's classifiers on the same digits: accuracy, parameters, memory",
    'timeline': "the top-5 errors of ImageNet's winners, 2010 to 2017, and the human level",
    'depth': 'published errors over parameters and multiply-adds',
    'architecture': 'a network as the chain of its blocks',
    'block': 'one block of a network as the graph of its layers',
    'report': 'a page (.html) on a run or on converted weights: passport, curves, errors, filters, wrong images',
    'draw': 'a page (.html) in which one draws a digit and a LeNet says which it is',
}

OUT = flags.DEFINE_string('out', None, 'The file to draw to: .png, .svg or .html.')
flags.DEFINE_multi_string('checkpoint', [], "A run's workdir, a converted checkpoint, or one checkpoint.")
flags.DEFINE_string('step', 'best', "Of a workdir: 'best' by its test error, 'latest', or a step.")
flags.DEFINE_multi_string('images', [], 'Image files and folders, in place of the test split.')
flags.DEFINE_string('split', '', 'Of the data: as the config names it.')
flags.DEFINE_integer('columns', 0, 'Pictures side by side.', lower_bound=0)
flags.DEFINE_integer('count', 0, 'How many images; of features, how many neighbours.', lower_bound=0)
flags.DEFINE_integer('queries', 0, 'How many images of the test split to seek neighbours of.', lower_bound=0)
flags.DEFINE_integer('size', 0, 'Pixels on a side of the grey square; a quarter of the image.', lower_bound=0)
flags.DEFINE_integer('stride', 0, 'Pixels from one place of the grey square to the next.', lower_bound=0)
flags.DEFINE_string('arch', '', 'A network, by its name in `python -m architectures`.')
flags.DEFINE_string('layer', '', 'A layer or block, such as conv2, inception_3a or conv3_x/block1.')
flags.DEFINE_string('units', '', 'Of the layer that deconvnet projects: numbers from 0 with commas between.')
flags.DEFINE_integer('points', 21, 'On a side of the grid of landscape; odd.')
flags.DEFINE_float('span', 1.0, 'How far landscape goes, in lengths of the filters.')
flags.DEFINE_integer('seed', 0, 'Of what is random.')
flags.DEFINE_integer('seeds', 3, "How many times compare trains scikit-learn's classifiers.")


def main(words):
    if len(words) != 1:
        raise UserError(f'name one figure: {", ".join(FIGURES)}')
    (name,) = words
    if name not in FIGURES:
        raise UserError(f'no figure {name!r}{nearest(name, FIGURES)} The figures: {", ".join(FIGURES)}')
    make = importlib.import_module(f'figures.{name}').make
    from figures import style

    own = inspect.signature(make).parameters
    takes = [key for key in own if key != 'config']
    usage = ', '.join(f'--{key}' for key in takes)
    given = {flag.name: flag.value for flag in flags.FLAGS.get_flags_for_module(sys.modules[__name__]) if flag.present}
    for flag in given:
        if flag not in own:
            raise UserError(f'--{flag} is not of {name}, which takes {usage}')
    for key in takes:
        if own[key].default is inspect.Parameter.empty and key not in given:
            raise UserError(f'{name} draws {FIGURES[name]}: pass --{key}; it takes {usage}')
    style.check(OUT.value)
    if 'config' in own and (own['config'].default is inspect.Parameter.empty or command_line.CONFIG.present):
        given['config'], _ = command_line.load_config()
        from training import unread

        unread.refuse(given['config'], *command_line.set_keys())
    for path in make(**given) or [OUT.value]:
        print(path)
    return 0


if __name__ == '__main__':
    command_line.run(main, positional=True)
