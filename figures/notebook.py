"""A figure as a picture for a notebook."""

import inspect
import io
import tempfile
from pathlib import Path

import PIL.Image

import figures
from runtime import stored_config
from runtime.errors import UserError, nearest


def draw(figure, checkpoints, width, options):
    """Return a figure as an `IPython.display.Image`; see `imagenet_decade.draw`.

    Args:
      figure: one of `figures.FIGURES`.
      checkpoints: folders of its networks.
      width: pixels of the picture, at most.
      options: {argument of the figure's `make`, or key of the config of the first checkpoint: value}.

    Raises:
      UserError: the figure does not exist, does not take these options, or cannot be drawn.
    """
    make, config = figures.maker(figure), {}
    known = inspect.signature(make).parameters
    arguments = {key: value for key, value in options.items() if key in known}
    if checkpoints:
        arguments['checkpoint'] = checkpoints
        if 'config' in known:
            try:
                config = arguments['config'] = stored_config.get_config(checkpoints[0])
            except ValueError as error:
                raise UserError(str(error)) from None
    for key in options:
        if key in known:
            continue
        if key not in config:
            raise UserError(f'{figure} has no option {key!r}{nearest(key, [*known, *config])}')
        config[key] = options[key]
    given = ('out', 'config', *arguments)
    if missing := [name for name, each in known.items() if each.default is each.empty and name not in given]:
        raise UserError(f'{figure} draws {figures.FIGURES[figure]}: pass its {missing[0]}')
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f'{figure}.png')
        make(file, **arguments)
        with PIL.Image.open(file) as picture:
            picture.thumbnail((width, picture.height), PIL.Image.Resampling.LANCZOS)
            picture = picture.convert('RGB')
    from IPython.display import Image  # which a notebook has

    files = {'jpeg': _file(picture, 'jpeg', quality=80), 'png': _file(picture.quantize(), 'png')}
    kind = min(files, key=lambda kind: len(files[kind]))  # a notebook keeps it: photographs or drawings
    return Image(files[kind], format=kind)


def _file(picture, kind, **options):
    """Return the bytes of an image file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
