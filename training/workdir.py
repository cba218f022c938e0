"""A run's folder, on this machine or in a bucket: who may use it, with which config, and where its run resumes."""

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path

from etils import epath
from ml_collections import ConfigDict

from configs import base
from input_pipeline import classes, fingerprint
from input_pipeline.statistics import NAME as STATISTICS  # may exist before the run
from runtime import distributed, stored_config, system
from runtime.errors import UserError
from runtime.files import write_atomically
from runtime.text import say
from training import checkpoints, log, trackers, unread
from training.run import normalized_together

_MIRRORED = (stored_config.NAME, log.NAME, STATISTICS)

# Keys that may change at any time: the location of the data, how often a run logs and saves, the batch size (a resumed
# run continues at the next example), and settings without influence on the result.
_FREE = (
    'accumulate', 'batch_size', 'data_dir', 'labels', 'statistics', 'log_every_steps', 'checkpoint_every_steps',
    'profile_steps', 'steps_per_dispatch', 'stall_steps', 'stop_at_step', 'workers', 'mesh.model', 'test_batch_size',
    'on_bad_image', 'architecture_options.remat', 'tracker',
)  # fmt: skip

# Keys that concern only future steps: they may change until the run is finished, and the log records each change as a
# decision.
_LATER = (
    'learning_rate', 'learning_rates', 'schedule', 'decay_every', 'decay_factor', 'decay_power', 'plateau.threshold',
    'plateau.factor', 'plateau.drops', 'warmup.learning_rate', 'warmup.until_error', 'warmup.steps', 'num_epochs',
    'steps', 'recompute_batch_stats',
)  # fmt: skip

_PROMINENT = ('architecture', 'dataset', 'optimizer', 'num_epochs')  # differences to report first


class OtherRun(UserError):
    """A workdir contains another run.

    Args:
      workdir: the folder.
      differences: {key: (the workdir's value, this config's value)}, not empty.
      finished: whether the run in the workdir is finished.
      typed: {key: the argument on the command line that sets it}.
    """

    def __init__(self, workdir, differences, finished, typed=None):
        self.workdir, self.differences, self.finished = workdir, differences, finished
        typed, only_later = typed or {}, differences.keys() <= set(_LATER)
        key = min(differences, key=lambda key: (key in _LATER, key not in typed, key not in _PROMINENT))
        if key in typed:  # the most prominent of the keys that the same argument sets
            same_argument = [other for other in differences if typed.get(other) == typed[key]]
            key = min(same_argument, key=lambda other: (other not in _PROMINENT, other != key))
        saved, current = differences[key]
        content = 'a finished run' if only_later and finished else 'another run'
        by = f' ({typed[key]})' if key in typed else ''
        start_from = f', with --config.init_from={workdir} to start from its weights'
        advice = start_from if only_later and finished else ', or the old value to resume'
        super().__init__(
            f'{workdir} contains {content}: {key} is {saved!r} there and {current!r} here{by}; pass another --workdir'
            f'{advice}'
        )

    def naming(self, typed):
        """Return the same error with the user's arguments; `typed` is {key: the argument that sets it}."""
        return OtherRun(self.workdir, self.differences, self.finished, typed)


def is_bucket(workdir):
    """Return whether a workdir is in a bucket, gs://BUCKET/RUN."""
    return '://' in str(workdir)


def open_place(workdir):
    """Return (folder of a run's log and config, location of its checkpoints).

    They are the same unless the workdir is in a bucket, which stores the checkpoints. Then log and config are in a
    folder on this machine, and `copy_to_bucket` copies them with every checkpoint. On a new machine, this function
    downloads them.

    Raises:
      UserError: the bucket cannot be read.
    """
    if not is_bucket(workdir):
        return Path(workdir), Path(workdir)
    if str(workdir).startswith('gs://') and not importlib.util.find_spec('gcsfs'):
        raise UserError('a workdir in a bucket needs gcsfs: pip install gcsfs')
    try:
        place = epath.Path(workdir)
    except KeyError:
        raise UserError(f'{workdir} is not a known kind of bucket: pass gs://BUCKET/RUN, or a folder') from None
    folder = Path('runs', *str(workdir).split('://', 1)[1].split('/'))
    try:
        for name in _MIRRORED:
            if (place / name).exists():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((place / name).read_bytes())
    except Exception as error:  # whatever the bucket's library raises
        raise UserError(f'{workdir} cannot be read ({type(error).__name__}: {error}); pass another --workdir') from None
    return folder, place


def copy_to_bucket(folder, place):
    """Copy a run's log and config into its bucket, if it has one."""
    for name in _MIRRORED if place != folder else ():
        if (folder / name).exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes((folder / name).read_bytes())


@contextlib.contextmanager
def claimed(workdir, config, has_checkpoint=True):
    """Claim the workdir for this process and write config.json; a context manager that yields the `changes`.

    It creates the folder if needed. If there are changes to the run's later steps it leaves config.json to the caller
    (`write_config`).

    Args:
      workdir: a folder on this machine.
      config: the run's config.
      has_checkpoint: whether the run has a checkpoint; before the first one, every key may change.

    Raises:
      UserError: the package of the tracker is missing, the folder cannot be written, another process trains in it, or
        its content is not this run.
    """
    trackers.check(config.tracker)
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
        path = workdir / stored_config.NAME
        others = {entry.name for entry in workdir.iterdir() if entry.suffix != '.partial'}  # left by a kill
        if not path.exists() and others - {STATISTICS, system.LOCK}:
            raise UserError(f'{workdir} is not empty and contains no run; pass another --workdir')
        changed = changes(workdir, config, has_checkpoint)
        if path.exists() and not has_checkpoint and _statistics_differ(path, config):
            (workdir / STATISTICS).unlink(missing_ok=True)
        if not changed:
            write_config(workdir, config)
        yield changed


def write_config(workdir, config):
    """Write a run's config.json atomically."""
    write_atomically(workdir / stored_config.NAME, _text(config))


def is_finished(workdir):
    """Return whether the run in a workdir is finished."""
    return any(row['kind'] == 'finished' for row in log.read(workdir))


def contains_run_of(workdir, config):
    """Return whether a workdir contains the run of this config, without changes."""
    try:
        return (workdir / stored_config.NAME).exists() and not changes(workdir, config)
    except OtherRun:
        return False


def changes(workdir, config, has_checkpoint=True):
    """Return a config's changes to the later steps of the run in a workdir: {key: (old value, new value)}.

    Args: see `claimed`.

    Raises:
      OtherRun: it changes other keys, too.
    """
    path = workdir / stored_config.NAME
    if not path.exists() or not has_checkpoint:
        return {}
    saved, current = _flat(_with_defaults(path)), _flat(json.loads(_text(config)))
    different = {
        key: (saved.get(key), current.get(key))
        for key in sorted(saved.keys() | current.keys())
        if key not in _FREE and saved.get(key) != current.get(key) and not _is_unread(key, path, config)
    }
    if saved['accumulate'] != current['accumulate'] and different.keys() <= set(_LATER):
        groups = normalized_together(ConfigDict(_with_defaults(path))), normalized_together(config)
        if groups[0] != groups[1]:
            different['accumulate'] = saved['accumulate'], current['accumulate']
    finished = is_finished(workdir)
    if different and (finished or any(key not in _LATER for key in different) or _state_differs(saved, current)):
        raise OtherRun(workdir, different, finished)
    return different


def resume_point(place, source, test_source=None, on_bad_image='stop'):
    """Return the `start` and `average_start` for `Run` of the last undamaged checkpoint, or {} if there is none.

    Args:
      place: the location of the checkpoints' folder.
      source: the training images. With a different number of images, the order of examples would be different.
      test_source: the test images; None does not compare them.
      on_bad_image: 'stop' or 'skip': whether images whose contents have changed are an error or a warning.

    Raises:
      UserError: the run has other images or labels, or classes of different names, or all checkpoints are damaged.
    """
    if not (place / checkpoints.FOLDER).is_dir():
        return {}
    with checkpoints.Checkpoints(place / checkpoints.FOLDER, read_only=True) as manager:
        latest = manager.newest_undamaged()
        if latest is None:
            return {}
        info, images = manager.info(latest), len(source)
        if 'examples_seen' not in info:
            raise UserError(
                f'{place} contains weights without the state of a run; pass another --workdir, with '
                f'--config.init_from={place} to start from them'
            )
        if info.get('training_images', images) != images:
            raise UserError(
                f'{place} contains a run with {info["training_images"]:,} training images, and here are {images:,}; '
                'pass its data to resume, or another --workdir'
            )
        names = classes.known_names(source)
        saved_names = info.get('class_names', names)
        if not classes.same_classes(names, saved_names):
            raise UserError(
                f'{place} contains a run with other classes: {classes.first_difference(saved_names, names)}; pass '
                'its data to resume, or another --workdir'
            )
        if distributed.is_first():  # the processes compare their data with each other
            _check_data(place, info.get('data', {}), {'training': source, 'test': test_source}, on_bad_image)
        return {'start': (latest, info['examples_seen']), 'average_start': info.get('average_start')}


def _check_data(place, saved, sources, on_bad_image):
    """Raise UserError, saying what differs, unless the fingerprints of some sources are those of the run."""
    for part, source in sources.items():
        if source is None or part not in saved:  # an older version did not save them
            continue
        current = fingerprint.of(source)
        different = fingerprint.differences(saved[part], current)
        if not different:
            continue
        problem = f'{place} contains a run on other {part} data: {different} ({source.name})'
        by_name = {key: current[key] for key in current.keys() & {'names', 'labels'}}
        may_differ = bool(by_name) and not fingerprint.differences(saved[part], by_name)
        if may_differ and on_bad_image == 'skip':
            say(f'warning: {problem}', file=sys.stderr)
            continue
        advice = ', pass --config.on_bad_image=skip to accept the changed images' if may_differ else ''
        raise UserError(f'{problem}; pass its data to resume{advice}, or another --workdir')


def restore(run, workdir, manager, clock):
    """Return a run's state and log, from its last undamaged checkpoint if there is one."""
    if run.start != (0, 0):
        lines = manager.set_aside_after(run.start[0])
        for line in lines if distributed.is_first() else ():
            say(f'warning: {line}', file=sys.stderr)
    latest, rows = manager.latest(), log.read(workdir)
    distributed.largest(0)  # wait until all processes have read the log
    if latest is None:
        with clock.time('compile'):
            state, info = run.first_state(), {}
    else:
        with clock.time('checkpoint'):
            state, info = manager.restore(run.abstract_state(), latest), manager.info(latest)
    if rows:
        clock.resume(info.get('clock', {}), max(row['time']['total'] for row in rows))
    resume_step, times = (latest or 0) if rows else None, {'total': clock.total()}
    run_log = log.RunLog(workdir, rows, resume_step, times, info.get('epoch_is_closed', False), distributed.is_first())
    if latest is None and run.initial_weights:
        notes = {'from': run.config.init_from, 'copied': run.initial_weights.copied, 'left': run.initial_weights.left}
        run_log.write('init_from', 0, {'total': clock.total()}, **notes)
    return state, run_log


def _with_defaults(path):
    """Return the values of a config.json, with defaults for keys that did not exist when it was written."""
    values, defaults = _read(path), json.loads(_text(base.get_config()))
    return defaults | {
        key: defaults[key] | value if isinstance(value, dict) and key in defaults else value
        for key, value in values.items()
    }


def _is_unread(key, path, config):
    """Return whether a key has no effect, either with the values of a config.json or with a config."""
    saved = ConfigDict(_with_defaults(path))
    return key in _flat(saved.to_dict()) and bool(unread.why(config, key) and unread.why(saved, key))


def _statistics_differ(path, config):
    """Return whether a config.json and a config may have different statistics of the data."""
    saved, current = _flat(_read(path)), _flat(json.loads(_text(config)))
    keys = {'dataset', 'data_dir', 'labels', 'train_split', 'val_fraction', 'image_size', 'channels', 'fit'}
    keys |= {'val_seed', 'on_bad_image'}
    keys |= {key for key in saved.keys() | current.keys() if key.startswith(('crop.', 'test_crop.'))}
    return any(saved.get(key) != current.get(key) for key in keys)


def _state_differs(saved, current):
    """Return whether two configs have a different training state, or an average that depends on a different length."""
    parts = [(run.get('schedule') == 'plateau', bool(run.get('warmup.learning_rate'))) for run in (saved, current)]
    lengths = [(run.get('num_epochs'), run.get('steps')) for run in (saved, current) if run.get('average') == 'uniform']
    return parts[0] != parts[1] or len(set(lengths)) > 1


def _text(config):
    return json.dumps(json.loads(config.to_json_best_effort()), indent=2, sort_keys=True) + '\n'


def _read(path):
    return stored_config.read(path, 'restore it, or pass another --workdir')


def _flat(values):
    """Return {'group.key': value} of a config's values, without empty groups."""
    return {key: value for key, value in base.flat(values).items() if value != {}}
