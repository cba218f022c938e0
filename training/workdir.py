"""A run's folder: one process at a time, one config; on this machine or in a bucket."""

import contextlib
import importlib.util
import json
import os
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from configs import base
from input_pipeline.statistics import NAME as STATISTICS  # may lie there before the run
from runtime import system
from runtime.errors import UserError
from runtime.files import write_whole
from training import log, unread
from training.run import normalized_together

_MIRRORED = ('config.json', log.NAME, STATISTICS)

# What may differ when a run is resumed: where the data lies, how often a run speaks, saves and looks up, how many
# examples a step takes (the next step goes on at the next example), and what changes nothing that is learned.
_FREE = (
    'accumulate', 'batch_size', 'data_dir', 'labels', 'statistics', 'log_every_steps', 'checkpoint_every_steps',
    'profile_steps', 'steps_per_dispatch', 'stall_steps', 'stop_at_step', 'workers', 'mesh.model', 'test_batch_size',
    'on_bad_image', 'architecture_options.remat',
)  # fmt: skip

# What concerns only the steps that are still to come: it may be changed in the middle of a run, which logs it as a
# decision. Once the run is finished nothing is to come.
_LATER = (
    'learning_rate', 'learning_rates', 'schedule', 'decay_every', 'decay_factor', 'decay_power', 'plateau.threshold',
    'plateau.factor', 'plateau.drops', 'warmup.learning_rate', 'warmup.until_error', 'warmup.steps', 'num_epochs',
    'steps', 'recompute_batch_stats',
)  # fmt: skip

_TELLING = ('architecture', 'dataset', 'optimizer', 'num_epochs')  # of several differences, those that say the most


class OtherRun(UserError):
    """A workdir is of another run.

    Args:
      workdir: the folder.
      differences: {key: (its value there, here)}, not empty.
      finished: whether that run came to its end.
      typed: {key: the words of the command line that set it}.
    """

    def __init__(self, workdir, differences, finished, typed=None):
        self.workdir, self.differences, self.finished = workdir, differences, finished
        typed, only_later = typed or {}, differences.keys() <= set(_LATER)
        key = min(differences, key=lambda key: (key in _LATER, key not in typed, key not in _TELLING))
        if key in typed:  # of what the same words set, the most telling
            alike = [other for other in differences if typed.get(other) == typed[key]]
            key = min(alike, key=lambda other: (other not in _TELLING, other != key))
        there, here = differences[key]
        what = 'a finished run' if only_later and finished else 'another run'
        by = f' ({typed[key]})' if key in typed else ''
        onwards = f', with --config.init_from={workdir} to train its weights on'
        way = onwards if only_later and finished else ', or the old value to resume'
        super().__init__(
            f'{workdir} holds {what}: {key} is {there!r} there and {here!r} here{by}; pass another --workdir{way}'
        )

    def told(self, typed):
        """The same error, which names what the user typed; `typed` is {key: the words that set it}."""
        return OtherRun(self.workdir, self.differences, self.finished, typed)


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
def claimed(workdir, config, begun=True):
    """The workdir, made if need be, for this process alone, with config.json in it; gives `changes`.

    Where there are changes to a run's later steps config.json stays as it is: see `write_config`.

    Args:
      workdir: a folder of this machine.
      config: of the run.
      begun: whether there is a checkpoint to go on from; before the first, no key makes another run.

    Raises:
      UserError: it cannot be written, another process trains in it, or it holds something else.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if not os.access(workdir, os.W_OK):
            raise PermissionError(13, 'Permission denied', str(workdir))
    except OSError as error:
        raise UserError(f'the workdir {workdir} cannot be written ({error.strerror}); pass another --workdir') from None
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(system.locked(workdir))
        except BlockingIOError:
            raise UserError(
                f'another process is training in {workdir}; wait for it, or pass another --workdir'
            ) from None
        path = workdir / 'config.json'
        if not path.exists() and any(entry.name not in (STATISTICS, system.LOCK) for entry in workdir.iterdir()):
            raise UserError(f'{workdir} is no run of ours and not empty; pass another --workdir')
        later = changes(workdir, config, begun)
        if path.exists() and not begun and _is_measured_anew(_flat(_read(path)), _flat(json.loads(_text(config)))):
            (workdir / STATISTICS).unlink(missing_ok=True)
        if not later:
            write_config(workdir, config)
        yield later


def write_config(workdir, config):
    """Writes a run's config.json; at any moment it is whole."""
    write_whole(workdir / 'config.json', _text(config))


def is_finished(workdir):
    """Whether the run in a workdir came to its end."""
    return any(row['kind'] == 'finished' for row in log.read(workdir))


def holds(workdir, config):
    """Whether a workdir is of a run of this config."""
    try:
        return (workdir / 'config.json').exists() and not changes(workdir, config)
    except OtherRun:
        return False


def changes(workdir, config, begun=True):
    """What a config changes of the later steps of the run in a workdir: {key: (its value there, here)}.

    Args: see `claimed`.

    Raises:
      OtherRun: it changes more.
    """
    path = workdir / 'config.json'
    if not path.exists() or not begun:
        return {}
    there, here = _flat(_held(path)), _flat(json.loads(_text(config)))
    different = {
        key: (there.get(key), here.get(key))
        for key in sorted(there.keys() | here.keys())
        if key not in _FREE and there.get(key) != here.get(key) and not _is_unread(key, path, config)
    }
    groups = normalized_together(ConfigDict(_held(path))), normalized_together(config)
    if there['accumulate'] != here['accumulate'] and groups[0] != groups[1]:
        different['accumulate'] = there['accumulate'], here['accumulate']
    finished = is_finished(workdir)
    if different and (finished or any(key not in _LATER for key in different) or _reshapes(there, here)):
        raise OtherRun(workdir, different, finished)
    return different


def _held(path):
    """The values of a config.json; a key that an older version did not write has the base's."""
    values, usual = _read(path), json.loads(_text(base.get_config()))
    return usual | {
        key: usual[key] | value if isinstance(value, dict) and key in usual else value for key, value in values.items()
    }


def _is_unread(key, path, config):
    """Whether a key has no effect, neither in the run of a config.json nor under a config."""
    there = ConfigDict(_held(path))
    return key in _flat(there.to_dict()) and bool(unread.why(config, key) and unread.why(there, key))


def _is_measured_anew(there, here):
    """Whether the statistics of the data that were measured for one config are not those of another."""
    keys = {'dataset', 'data_dir', 'labels', 'train_split', 'image_size', 'channels', 'fit', 'on_bad_image'}
    keys |= {key for key in there.keys() | here.keys() if key.startswith(('crop.', 'test_crop.'))}
    return any(there.get(key) != here.get(key) for key in keys)


def _reshapes(there, here):
    """Whether the state of training has other parts under another config, or counted on its length."""
    parts = [(run.get('schedule') == 'plateau', bool(run.get('warmup.learning_rate'))) for run in (there, here)]
    lengths = [(run.get('num_epochs'), run.get('steps')) for run in (there, here) if run.get('average') == 'uniform']
    return parts[0] != parts[1] or len(set(lengths)) > 1


def _text(config):
    return json.dumps(json.loads(config.to_json_best_effort()), indent=2, sort_keys=True) + '\n'


def _read(path):
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise UserError(f'{path} is no JSON; restore it, or pass another --workdir') from None


def _flat(tree, prefix=''):
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {prefix + key: value}
    return flat
