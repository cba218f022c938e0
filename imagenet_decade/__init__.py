"""The project as a library: `imagenet_decade.load('runs/resnet50').top5('cat.jpg')`.

After this import the packages of the project can be imported from any folder: `architectures`, `evaluation`, ... They
are found beside this package in a clone, and in this package if it was installed.
"""

import importlib.util
import os
import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE if (_HERE / 'architectures').is_dir() else _HERE.parent
_SCRIPTS = _HERE / 'scripts' if _ROOT == _HERE else _ROOT


def _make_importable():
    """Put the packages of the project on the path, after everything that is there.

    Raises:
      ImportError: another module has the name of one of them.
    """
    if str(_ROOT) not in sys.path:
        sys.path.append(str(_ROOT))
    for init in _ROOT.glob('*/__init__.py'):
        name = init.parent.name
        if name == __name__:
            continue
        spec = importlib.util.find_spec(name)
        if not spec or not spec.origin or not init.samefile(spec.origin):
            other = spec and spec.origin
            raise ImportError(f'{__name__} needs its own package {name!r}, and {other} has that name: rename it')


_make_importable()


def _folder(path):
    """Return the folder of a network: a release that is given by its name is fetched and converted the first time."""
    import weights
    from runtime import paths
    from weights import fetch

    return weights.converted(path) if fetch.is_name(path) else paths.expanded(os.fspath(path))


def load(path, which='best'):
    """Open a trained network: a run's workdir, a converted checkpoint, a single checkpoint, or a release by its name.

    Args:
      path: its folder; or 'hf://timm/resnet50.tv_in1k', 'torchvision:resnet50', ... (`weights.fetch`): the release is
        fetched and converted the first time, and lines tell from where.
      which: which checkpoint of a workdir: 'best' by its test error, 'latest', or a step.

    Returns:
      An `evaluation.Classifier`.
    """
    import evaluation  # with JAX, which takes seconds; a command handles Ctrl-C before

    return evaluation.load(_folder(path), which)


def draw(figure, *checkpoints, width=900, **options):
    """Draw a figure of `python visualize.py` in a notebook: `draw('filters', 'runs/alexnet')`.

    Args:
      figure: its name, such as 'timeline'.
      *checkpoints: its networks, as in `load`.
      width: pixels of the picture, at most.
      **options: the options of the figure, as in images=['cat.jpg'], and keys of the config of the first checkpoint, as
        in data_dir='DIR'.

    Returns:
      An `IPython.display.Image`, small enough for the notebook to keep.

    Raises:
      UserError: the figure does not exist, does not take these options, or cannot be drawn.
    """
    from figures import notebook

    return notebook.draw(figure, [str(_folder(path)) for path in checkpoints], width, options)


def command():
    """Run what a console command is named after: `decade-train` is `python train.py`."""
    name = Path(sys.argv[0]).stem.removeprefix('decade-')
    script = _SCRIPTS / f'{name}.py'
    if script.is_file():
        runpy.run_path(str(script), run_name='__main__')
    else:
        runpy.run_module(name, run_name='__main__', alter_sys=True)
