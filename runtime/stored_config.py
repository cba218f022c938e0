"""The config stored with a checkpoint: `--config runtime/stored_config.py:DIR`, the default of scripts that read one.

DIR is a run's workdir, a converted checkpoint, or one checkpoint of either.
"""

import functools
from pathlib import Path
from typing import Annotated

import msgspec
from ml_collections import ConfigDict

from configs import base, listing
from runtime import foreign
from runtime.errors import UserError

NAME = 'config.json'
_Option = Annotated[str, msgspec.Meta(pattern=r'^\w+$')]
_Int = Annotated[int, msgspec.Meta(ge=-(2**32), le=2**32)]
_TYPES = {bool: bool, int: _Int, float: float, str: str}


def get_config(folder=''):
    """Return the resolved config of a checkpoint's folder.

    Raises:
      ValueError: the folder has no config.
      UserError: its config is not one that this version writes.
    """
    if not folder:
        raise ValueError('no checkpoint: pass --checkpoint DIR, or --config runtime/stored_config.py:DIR')
    if not Path(folder).exists():
        raise ValueError(
            f'{folder} does not exist: pass the folder of a run or of a converted checkpoint; {training_hint(folder)}'
        )
    paths = [parent / NAME for parent in (Path(folder), *Path(folder).absolute().parents[:2])]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise ValueError(f'{folder} has no config.json: pass --config configs/NAME.py, the recipe of the run')
    return _config(read(path, 'pass --config configs/NAME.py, the recipe of the run'))


def read(path, advice):
    """Return the values of the config.json of a run or of a converted checkpoint: JSON values, checked.

    Args:
      path: the file.
      advice: what to do if it is damaged, for the message.

    Raises:
      UserError: it is not JSON, or a key is unknown or has a value that is not allowed.
      OSError: it cannot be read.
    """
    kind = 'the config of one network'
    values = foreign.read_json(path, dict, kind, advice=advice)
    with foreign.parsing(path, kind, advice):
        msgspec.convert(values, _schema())
        problem = base.problem(_config(values))
    if problem:
        raise UserError(f'{path} is damaged: {problem}; {advice}')
    return values


def _config(values):
    config = base.get_config()
    config.update(_tuples(values))
    return config


@functools.cache
def _schema():
    """Return the type of a config.json: the keys of the base, each of the type of its default."""
    return _type(base.get_config())


def _type(value):
    if isinstance(value, ConfigDict):
        if not value:
            return dict[_Option, bool | _Int | float | str | list[bool | _Int | float | str] | None]
        fields = [(key, _type(default), msgspec.field(default=None)) for key, default in value.items()]
        required = [('architecture', str)] if 'architecture' in value else []
        fields = required + [field for field in fields if field[0] not in dict(required)]
        return msgspec.defstruct('Config', fields, forbid_unknown_fields=True, kw_only=True)
    if not isinstance(value, tuple):
        return _TYPES[type(value)]
    if not value:
        return list[str]
    if isinstance(value[0], tuple):
        return Annotated[list[_type(value[0])], msgspec.Meta(min_length=1)]
    number = _Int if all(isinstance(entry, int) for entry in value) else float
    return tuple[(number,) * len(value)]


def training_hint(folder, network=''):
    """Return how to train a run, for a message.

    Args:
      folder: workdir of the run.
      network: name of the network; by default that of the folder.
    """
    name = network or Path(folder).name
    recipe = name if name in listing.names() else 'NAME'
    return f'train one with python train.py --config configs/{recipe}.py --workdir {folder}'


def _tuples(value):
    """Convert the lists of JSON back to tuples."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
