"""A run's folder: one process at a time, one config; on this machine or in a bucket."""

import contextlib
import fcntl
import importlib.util
import json
import os
from pathlib import Path

from etils import epath

from errors import UserError
from input_pipeline.statistics import NAME as STATISTICS  # may lie there before the run
from training import log

_MIRRORED = ('config.json', log.NAME, STATISTICS)

# What may differ when a run is resumed: where the data lies, how often a run speaks, saves and looks up, and how many
# examples a step takes: the next step goes on at the next example.
_FREE = (
    'accumulate', 'batch_size', 'data_dir', 'labels', 'statistics', 'log_every_steps', 'checkpoint_every_steps',
    'profile_steps', 'steps_per_dispatch', 'stall_steps', 'stop_at_step', 'workers', 'mesh.model',
)  # fmt: skip


def is_bucket(workdir):
    """Whether a workdir is no folder but a place in a bucket, gs://BUCKET/RUN."""
    return '://' in str(workdir)


def open_place(workdir):
    """Where the parts of a run lie: (folder of its log and config, place of its checkpoints).

    A workdir in a bucket holds the checkpoints; what a run writes line by line is kept in a folder of this machine, and
    copied into the bucket with every checkpoint (`send`). A machine that is new to the run fetches it here.

    Raises:
      UserError: a bucket that cannot be read.
    """
    if not is_bucket(workdir):
        return Path(workdir), Path(workdir)
    if str(workdir).startswith('gs://') and not importlib.util.find_spec('gcsfs'):
        raise UserError('a workdir in a bucket needs gcsfs: pip install gcsfs')
    try:
        place = epath.Path(workdir)
    except KeyError:
        raise UserError(f'{workdir} is no place in a bucket that is known: pass gs://BUCKET/RUN, or a folder') from None
    folder = Path('runs', *str(workdir).split('://', 1)[1].split('/'))
    try:
        for name in _MIRRORED:
            if (place / name).exists():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((place / name).read_bytes())
    except Exception as error:  # whatever the bucket's library raises
        raise UserError(f'{workdir} cannot be read ({type(error).__name__}: {error}); pass another --workdir') from None
    return folder, place


def send(folder, place):
    """Copies what a run writes line by line into its bucket."""
    for name in _MIRRORED if place != folder else ():
        if (folder / name).exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes((folder / name).read_bytes())


@contextlib.contextmanager
def claimed(workdir, config):
    """The workdir, made if need be, for this process alone; config.json in it is this config."""
    text = _text(config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        handle = os.open(workdir, os.O_RDONLY)
        if not os.access(workdir, os.W_OK):
            raise PermissionError(13, 'Permission denied', str(workdir))
    except OSError as error:
        raise UserError(f'the workdir {workdir} cannot be written ({error.strerror}); pass another --workdir') from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f'another process is training in {workdir}; wait for it, or pass another --workdir'
            ) from None
        path = workdir / 'config.json'
        if path.exists():
            _same_config(workdir, _read(path), json.loads(text))
        elif any(entry.name != STATISTICS for entry in workdir.iterdir()):
            raise UserError(f'{workdir} is no run of ours and not empty; pass another --workdir')
        temporary = path.with_suffix('.tmp')
        temporary.write_text(text)
        os.replace(temporary, path)
        yield
    finally:
        os.close(handle)


def holds(workdir, config):
    """Whether a workdir is of a run of this config."""
    path = workdir / 'config.json'
    return path.exists() and not _difference(_read(path), json.loads(_text(config)))


def _text(config):
    return json.dumps(json.loads(config.to_json_best_effort()), indent=2, sort_keys=True) + '\n'


def _read(path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise UserError(f'{path} is no JSON; restore it, or pass another --workdir') from None


def _same_config(workdir, there, here):
    key, there, here = _difference(there, here) or (None, None, None)
    if key:
        raise UserError(
            f'{workdir} holds another run: {key} is {there!r} there and {here!r} here; pass another --workdir, or the '
            'old value to resume'
        )


def _difference(there, here):
    """(key, its value there, here) of the first that must not differ, or None."""
    there, here = _flat(there), _flat(here)
    for key in sorted(there.keys() | here.keys()):
        if key not in _FREE and there.get(key) != here.get(key):
            return key, there.get(key), here.get(key)
    return None


def _flat(tree, prefix=''):
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {prefix + key: value}
    return flat
