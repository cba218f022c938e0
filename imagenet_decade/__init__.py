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
    import weights
    from weights import fetch

    return evaluation.load(weights.converted(path) if fetch.is_name(path) else path, which)


def draw(figure, *checkpoints, width=900, **options):
    """Draw a figure of `python visualize.py`: `draw('filters', 'runs/alexnet')`.

    Args:
      figure: its name, such as 'timeline'.
      *checkpoints: the folders of its networks.
      width: pixels of the picture, at most.
      **options: the options of the figure, as in images=['cat.jpg'], and keys of the config of the first checkpoint, as
        in data_dir='DIR'.

    Returns:
      A Pillow image, which a notebook shows; of at most 256 colors, so that the notebook stays small.

    Raises:
      UserError: the figure does not exist, does not take these options, or cannot be drawn.
    """
    import inspect
    import tempfile

    from PIL import Image

    import figures
    from runtime import paths, stored_config
    from runtime.errors import UserError, nearest

    make = figures.maker(figure)
    known, config = inspect.signature(make).parameters, {}
    arguments = {key: options.pop(key) for key in list(options) if key in known}
    if checkpoints:
        arguments['checkpoint'] = [paths.expanded(os.fspath(path)) for path in checkpoints]
        if 'config' in known:
            try:
                config = arguments['config'] = stored_config.get_config(arguments['checkpoint'][0])
            except ValueError as error:
                raise UserError(str(error)) from None
    for key, value in options.items():
        if key not in config:
            raise UserError(f'{figure} has no option {key!r}{nearest(key, [*known, *config])}')
        config[key] = value
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f'{figure}.png')
        make(file, **arguments)
        with Image.open(file) as picture:
            picture.thumbnail((width, sys.maxsize), Image.Resampling.LANCZOS)
            return picture.convert('RGB').quantize()


def command():
    """Run what a console command is named after: `decade-train` is `python train.py`."""
    name = Path(sys.argv[0]).stem.removeprefix('decade-')
    script = _SCRIPTS / f'{name}.py'
    if script.is_file():
        runpy.run_path(str(script), run_name='__main__')
    else:
        runpy.run_module(name, run_name='__main__', alter_sys=True)
