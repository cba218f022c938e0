"""The config that lies with a checkpoint: `--config configs/checkpoint.py:DIR`, which scripts take for themselves.

DIR is a run's workdir, a converted checkpoint, or one checkpoint of either.
"""

import json
from pathlib import Path

from configs import base, listing


def get_config(folder=''):
    """The resolved config of a checkpoint's folder.

    Raises:
      ValueError: there is none, in a line.
    """
    if not folder:
        raise ValueError('no checkpoint is named: pass --checkpoint DIR, or --config configs/checkpoint.py:DIR')
    if not Path(folder).exists():
        raise ValueError(
            f'{folder} does not exist: pass the folder of a run or of a converted checkpoint; {made_by(folder)}'
        )
    places = [place / 'config.json' for place in (Path(folder), *Path(folder).absolute().parents[:2])]
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        raise ValueError(f'{folder} has no config.json: pass --config configs/NAME.py, the recipe that made it')
    try:
        values = json.loads(path.read_text())
    except ValueError:
        raise ValueError(f'{path} is no JSON: pass --config configs/NAME.py, the recipe that made it') from None
    if not isinstance(values, dict) or 'architecture' not in values:
        raise ValueError(f'{path} is not the config of one network: pass --config configs/NAME.py')
    config = base.get_config()
    unknown = [key for key in values if key not in config]
    if unknown:
        raise ValueError(f'{path} has the key {unknown[0]!r}, which is none: it is of another version; pass --config')
    config.update(_tuples(values))
    return config


def made_by(folder, network=''):
    """The words that tell how a run is made, for a message.

    Args:
      folder: its workdir.
      network: its name, where it is known; a folder is often called so.
    """
    name = network or Path(folder).name
    recipe = name if name in listing.names() else 'NAME'
    return f'python train.py --config configs/{recipe}.py --workdir {folder} makes a run'


def _tuples(value):
    """JSON's lists as the tuples that they were."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
