"""The config stored with a checkpoint: `--config configs/checkpoint.py:DIR`, the default of scripts that read one.

DIR is a run's workdir, a converted checkpoint, or one checkpoint of either.
"""

import json
from pathlib import Path

from configs import base, listing


def get_config(folder=''):
    """Return the resolved config of a checkpoint's folder.

    Raises:
      ValueError: the folder has no config, or an invalid one.
    """
    if not folder:
        raise ValueError('no checkpoint: pass --checkpoint DIR, or --config configs/checkpoint.py:DIR')
    if not Path(folder).exists():
        raise ValueError(
            f'{folder} does not exist: pass the folder of a run or of a converted checkpoint; {training_hint(folder)}'
        )
    paths = [parent / 'config.json' for parent in (Path(folder), *Path(folder).absolute().parents[:2])]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise ValueError(f'{folder} has no config.json: pass --config configs/NAME.py, the recipe of the run')
    try:
        values = json.loads(path.read_text())
    except ValueError:
        raise ValueError(f'{path} is not valid JSON: pass --config configs/NAME.py, the recipe of the run') from None
    if not isinstance(values, dict) or 'architecture' not in values:
        raise ValueError(f'{path} is not the config of one network: pass --config configs/NAME.py')
    config = base.get_config()
    unknown = [key for key in values if key not in config]
    if unknown:
        raise ValueError(f'{path} has the unknown key {unknown[0]!r}: it is from another version; pass --config')
    config.update(_tuples(values))
    return config


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
