"""Checkpoints on disk, written asynchronously; the latest two and the best are kept. The only file that uses Orbax.

A checkpoint has four items: `model` (parameters and batch statistics, which evaluation reads), `training` (the rest of
the state), `info` (JSON that describes the model, and the clock) and `digests`: a CRC-32 of `info` with the test error,
and of every part of every array, in one file from each process. It appears under its step's name only when it is
complete, so a killed save leaves no broken checkpoint. Whatever is read is compared with the digests; a checkpoint of
an older version has none.
"""

import asyncio
import contextlib
import dataclasses
import errno
import itertools
import json
import logging
import os
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from runtime import distributed, foreign, mesh, system
from runtime.errors import UserError, first_line
from training.clock import Clock

FOLDER = 'checkpoints'
# The config keys that change the values of the network's input.
INPUT = ('channels', 'channel_order', 'normalize', 'mean', 'std', 'pixel_range')
_METRIC = 'top1_error'
_TREES = 'model', 'training'  # the items that are trees of arrays
_DIGESTS = 'digests'  # an item, and the key of `info` that counts the processes that wrote it
_NOT_DAMAGE = (errno.EACCES, errno.EMFILE, errno.ENOMEM)  # reasons why a good checkpoint cannot be read


class Damaged(UserError):
    """A checkpoint is truncated, or its content is not what was saved; `what` is the message without the advice."""

    def __init__(self, what, advice):
        super().__init__(f'{what}. {advice}')
        self.what = what


class _Digest(msgspec.Struct):
    """The digest of an array: its shape, and [(start, stop) along each axis, CRC-32] of parts that cover it."""

    shape: list[int]
    parts: list[tuple[list[tuple[int, int]], int]]

    def fits(self, array):
        """Return whether the array, on the host, is the one that was saved."""
        parts = [(array[tuple(slice(*bounds) for bounds in index)], crc) for index, crc in self.parts]
        return sum(part.size for part, _ in parts) == array.size and all(_crc(part) == crc for part, crc in parts)


class _DigestFile(msgspec.Struct):
    """What one process writes.

    Fields:
      values: the CRC-32 of `info` and the metrics; None if another process wrote them.
      arrays: {item: {name: digest}}.
    """

    values: int | None
    arrays: dict[str, dict[str, _Digest]]


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
_Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Info(msgspec.Struct):
    """What an item `info` contains; converted weights and older versions do not have the fields with a default."""

    architecture: str
    architecture_options: dict[str, object]
    num_classes: Annotated[int, msgspec.Meta(ge=1)]
    input: dict[Literal[*INPUT], object] = {}
    class_names: list[str | None] = []
    digests: _Count = 0
    examples_seen: _Count = 0
    average_start: _Count | None = None
    training_images: _Count = 0
    data: dict[str, dict[str, object]] = {}
    clock: dict[Literal[*Clock.PURPOSES], _Seconds] = {}
    epoch_is_closed: bool = True


class _DigestHandler(ocp.AsyncCheckpointHandler):
    """Writes the digests of what this process saves, computed in Orbax's thread while the run goes on."""

    async def async_save(self, directory, args):
        """Return the future that writes them; the arrays are copied to the host before this returns."""
        leaves = {(item, _name(path)): leaf for item, tree in args.trees.items() for path, leaf in _leaves(tree)}
        shards = {key: _shards(leaf) for key, leaf in leaves.items()}
        for _, part in itertools.chain(*shards.values()):
            if isinstance(part, jax.Array):
                part.copy_to_host_async()
        parts = {key: [(index, np.asarray(part)) for index, part in parts] for key, parts in shards.items()}
        shapes = {key: list(np.shape(leaf)) for key, leaf in leaves.items()}
        values = _crc_of_json(args.values) if distributed.is_first() else None
        write = self._write(directory / f'process_{jax.process_index()}.json', values, shapes, parts)
        return [ocp.future.CommitFutureAwaitingContractedSignals(write, name='digests')]

    async def _write(self, path, values, shapes, parts):
        file = _DigestFile(values, {item: {} for item, _ in shapes})
        for (item, name), shape in shapes.items():
            file.arrays[item][name] = _Digest(shape, [(index, _crc(part)) for index, part in parts[item, name]])
        path.write_bytes(msgspec.json.encode(file))

    def save(self, directory, args):
        """Write the digests and wait for it."""
        for future in asyncio.run(self.async_save(directory, args)):
            future.result()

    def restore(self, directory, args=None):
        """Return the `_DigestFile` of each process that wrote the checkpoint; [] if an older version wrote it."""
        paths = sorted(directory.glob('*.json')) if directory.is_dir() else []
        return [foreign.parse_json(path.read_bytes(), _DigestFile, path, 'a file of digests') for path in paths]

    def metadata(self, directory):
        """Return None."""
        return None


@ocp.args.register_with_handler(_DigestHandler, for_save=True, for_restore=True)
@dataclasses.dataclass
class _DigestArgs(ocp.args.CheckpointArgs):
    trees: dict
    values: list


def describe(config, class_names=None):
    """Return the description of a network for a checkpoint's `info`: JSON values.

    Args:
      config: the network's config.
      class_names: see `input_pipeline.classes.known_names`; None if unknown.
    """
    return {
        'architecture': config.architecture,
        'architecture_options': json.loads(config.architecture_options.to_json()),
        'num_classes': config.num_classes,
        'input': {key: getattr(config, key) for key in INPUT},
        **({} if class_names is None else {'class_names': list(class_names)}),
    }


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, which also opens a folder in which a checkpoint's metrics are damaged: it then has none."""

    def _get_metrics(self, step):
        try:
            metrics = super()._get_metrics(step)
            return msgspec.convert(metrics, dict[str, _Percent])  # NaN is none, either
        except (OSError, ValueError, RecursionError):
            return None


@contextlib.contextmanager
def _without_warnings():
    """Leave out Orbax's warnings: that a folder opened for reading is read only, how long a save waited."""

    def is_other(record):
        return record.levelno > logging.WARNING or 'orbax' not in Path(record.pathname).parts

    logger = logging.getLogger('absl')
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


class Checkpoints:
    """The checkpoints of one run; a context manager, which waits for the last one to be on the disk."""

    def __init__(self, folder, read_only=False, after_save=lambda: None):
        """Open a folder of checkpoints; `after_save` is called after each save has started.

        Raises:
          UserError: the folder cannot be made, or its name is not UTF-8, which TensorStore needs.
        """
        policies = ocp.checkpoint_managers
        best = policies.BestN(get_metric_fn=_error, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        self.folder = folder if '://' in str(folder) else Path(folder).absolute()
        self._after_save = after_save
        try:
            str(self.folder).encode()
            if not read_only and isinstance(self.folder, Path):
                self.folder.mkdir(parents=True, exist_ok=True)
        except UnicodeEncodeError:
            raise UserError(f'{self.folder}: checkpoints need a folder whose name is UTF-8; pass another one') from None
        except OSError as error:
            raise UserError(f'{self.folder} cannot be made ({error.strerror}); pass another folder') from None
        if isinstance(self.folder, Path):
            foreign.check_folder(self.folder, of_json=('info', 'metrics', _DIGESTS))  # Orbax would wait for a FIFO
        with foreign.parsing(self.folder, 'a folder of checkpoints'), _without_warnings():
            self._manager = _Manager(
                self.folder,
                item_handlers={
                    'model': ocp.StandardCheckpointHandler(),
                    'training': ocp.StandardCheckpointHandler(),
                    'info': ocp.JsonCheckpointHandler(),
                    _DIGESTS: _DigestHandler(),
                },
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=None
                    if read_only
                    else policies.AnyPreservationPolicy([policies.LatestN(2), best]),
                    best_fn=_error,
                    best_mode='min',
                    enable_async_checkpointing=not read_only,
                    create=not read_only,
                    read_only=read_only,
                ),
            )

    def __enter__(self):
        self._hook, sys.unraisablehook = sys.unraisablehook, self._ignore_closed_loop
        self._quiet = _without_warnings()
        self._quiet.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.wait()
            with self._write_errors():
                self._manager.close()
        except UserError:
            if kind is None:  # else it is a consequence, such as a save that failed on the same full disk
                raise
        finally:
            self._quiet.__exit__(None, None, None)
        if kind is None:  # after a failure, callbacks may still arrive
            sys.unraisablehook = self._hook

    def _ignore_closed_loop(self, unraisable):
        """Suppress a traceback that TensorStore prints from C++ after a failed write.

        Orbax closes its event loop before TensorStore's callback. The next `save` or `wait` raises the failure itself.
        """
        if str(unraisable.exc_value) != 'Event loop is closed':
            self._hook(unraisable)

    def steps(self):
        """Return the steps of all complete checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def latest(self):
        """Return the latest checkpoint's step, or None."""
        return self._manager.latest_step()

    def best(self):
        """Return the step with the smallest test error, the latest one in a tie or without test errors."""
        return self._manager.best_step() or self.latest()

    def choose(self, which):
        """Return the step for 'best', 'latest' or a number; raise UserError if there is none."""
        if which in ('best', 'latest'):
            for saved in self.steps() if which == 'best' else ():
                self._digests(saved)  # of its test error
            step = self.best() if which == 'best' else self.latest()
        elif which.isdigit():
            step = int(which)
        else:
            raise UserError(f"--step must be 'best', 'latest' or a number, not {which!r}")
        if step not in self.steps():
            available = ', '.join(map(str, self.steps())) or 'none'
            raise UserError(f'{self.folder} has no step {step}; it has {available}')
        return step

    def save(self, state, info, top1_error=None):
        """Start writing the state; raise UserError if an earlier write failed.

        Args:
          state: `TrainState`.
          info: JSON values.
          top1_error: the test error in percent, if it was just measured.
        """
        step, metrics = int(state.step), None if top1_error is None else {_METRIC: float(top1_error)}
        with self._write_errors():
            if step in self._manager.all_steps():  # saved at an interrupt, before the test
                self._manager.delete(step)
            self._manager.save(
                step,
                args=_save_args(info, metrics, model=state.deployed, training=_rest(state)),
                metrics=metrics,
                force=True,
            )
        self._after_save()

    def save_model(self, model, info):
        """Write a trained network without training state, as step 0, to test it or to start from it.

        Args:
          model: {'params', 'batch_stats'}.
          info: JSON values.
        """
        with self._write_errors():
            self._manager.save(0, args=_save_args(info, None, model=model), force=True)

    def wait(self):
        """Wait until all checkpoints are on the disk; raise UserError if a write failed."""
        with self._write_errors():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def restore(self, state, step):
        """Return the complete state at a step, with the shapes and sharding of `state`."""
        model = self.restore_model(state.deployed, step)
        rest = self._restore('training', _rest(state), step)
        return state.replace(average=model, **rest) if state.average else state.replace(**model, **rest)

    def restore_model(self, model, step):
        """Return {'params', 'batch_stats'} at a step, with the shapes and sharding of `model`."""
        return self._restore('model', model, step)

    def read_model(self, step):
        """Return {'params', 'batch_stats'} at a step with the shapes that were saved."""
        return self._read('model', step)

    def verify(self, step):
        """Read a complete checkpoint into the memory of the host; raise `Damaged` if it is not what was saved."""
        self.info(step)
        with self._read_errors(step):
            metadata, digests = self._manager.item_metadata(step), self._digests(step)
        for item in _TREES:
            if item in metadata or item in (digests or ()):
                self._read(item, step)

    def newest_undamaged(self):
        """Return the latest step whose checkpoint is undamaged, or None if there is no checkpoint.

        Raises:
          Damaged: all of them are damaged; the message names the latest.
        """
        latest = None
        for step in reversed(self.steps()):
            try:
                self.verify(step)
                return step
            except Damaged as error:
                latest = latest or error
        if latest:
            raise latest
        return None

    def set_aside_after(self, step):
        """Rename the damaged checkpoints after a step, which `newest_undamaged` skips; return lines about them.

        Raises:
          UserError: one of them is not damaged: another process has trained here in the meantime.
        """
        damaged = {}
        for later in [later for later in self.steps() if later > step]:
            try:
                self.verify(later)
            except Damaged as error:
                damaged[later] = error
                continue
            raise UserError(f'another process has just trained in {self.folder}: start again to resume from its end')
        distributed.largest(0)  # wait until all processes have read them
        lines = []
        for later, error in damaged.items():
            names = (f'{later}.damaged{number or ""}' for number in itertools.count())
            path = next(path for name in names if not (path := epath.Path(self.folder) / name).exists())
            distributed.largest(0)  # until all processes have looked for it
            if distributed.is_first():
                (epath.Path(self.folder) / str(later)).rename(path)
            lines.append(f'{error.what}. It is now {path}; resuming from step {step}')
        distributed.largest(0)
        if damaged:
            self._manager.reload()
        return lines

    def deployed_model(self, model, step):
        """Return {'params', 'batch_stats'} at a step with the shapes of `model`, which may lack auxiliary heads."""
        restored = _select(self.read_model(step), model)
        _check_shapes(self.folder / str(step), restored, model)
        return restored

    def info(self, step):
        """Return the JSON that was saved with the state."""
        info = self._info(step)
        self._digests(step)
        return {key: value for key, value in info.items() if key != _DIGESTS}

    def _info(self, step):
        with self._read_errors(step):
            info = self._manager.restore(step, args=ocp.args.Composite(info=ocp.args.JsonRestore()))['info']
            msgspec.convert(info, _Info)
            return info

    def _restore(self, item, target, step):
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        with self._read_errors(step):
            metadata = self._manager.item_metadata(step)[item]
        try:
            _check_shapes(self.folder / str(step), metadata, abstract)
        except UserError:
            saved = (self._digests(step) or {}).get(item, {})
            if _shapes_of_digests(saved) == _shapes(abstract):  # the config is right, so the metadata are wrong
                raise self._damaged(step, f'the names or shapes of {item} are not what was saved') from None
            raise
        dtypes = {_name(path): leaf.dtype for path, leaf in _leaves(getattr(metadata, 'tree', metadata))}
        as_saved = jax.tree_util.tree_map_with_path(
            lambda path, leaf: jax.ShapeDtypeStruct(leaf.shape, dtypes[_name(path)]), abstract
        )
        tree = self._read_into(item, as_saved, step)
        return jax.tree.map(lambda x, leaf: mesh.put(np.asarray(x, leaf.dtype), leaf.sharding), tree, abstract)

    def _read(self, item, step):
        """Return an item's tree in the memory of the host, with the shapes that were saved."""
        with self._read_errors(step):
            metadata = self._manager.item_metadata(step)[item]
            abstract = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
                getattr(metadata, 'tree', metadata),
                is_leaf=_is_leaf,
            )
        return self._read_into(item, abstract, step)

    def _read_into(self, item, abstract, step):
        """Return an item's tree in the form of `abstract`, NumPy arrays, compared with its digests."""
        digests = self._digests(step)
        saved = {} if digests is None else digests.get(item, {})
        if digests is not None and _shapes_of_digests(saved) != _shapes(abstract):
            raise self._damaged(step, f'the names or shapes of {item} are not what was saved')
        with self._read_errors(step):
            on_host = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), abstract)
            args = ocp.args.Composite(**{item: ocp.args.StandardRestore(on_host)})
            tree = self._manager.restore(step, args=args)[item]
        if digests is None:
            return tree
        arrays = {_name(path): leaf for path, leaf in _leaves(tree)}
        with self._read_errors(step), ThreadPoolExecutor(system.cores()) as pool:
            is_same = pool.map(lambda name: saved[name].fits(arrays[name]), arrays)
            wrong = [name for name, same in zip(arrays, is_same, strict=True) if not same]
        if wrong:
            more = f' (and {len(wrong) - 1:,} more)' if len(wrong) > 1 else ''
            raise self._damaged(step, f'{wrong[0]}{more} is not what was saved')
        return tree

    def _digests(self, step):
        """Return {item: {name: `_Digest`}} of a checkpoint; None if an older version wrote it."""
        info = self._info(step)
        try:
            files = _DigestHandler().restore(epath.Path(self.folder) / str(step) / _DIGESTS)
        except UserError as error:
            raise self._damaged(step, str(error)) from None
        count = info.get(_DIGESTS, 0)
        if len(files) != count:
            raise self._damaged(step, f'the digests of {len(files)} processes are there, and {count} wrote it')
        if not files:
            return None
        if _crc_of_json([info, self._manager.metrics(step)]) not in [file.values for file in files]:
            raise self._damaged(step, 'its info or its test error is not what was saved')
        merged = {}
        for file in files:
            for item, digests in file.arrays.items():
                for name, digest in digests.items():
                    merged.setdefault(item, {}).setdefault(name, _Digest(digest.shape, [])).parts.extend(digest.parts)
        return merged

    def _damaged(self, step, what):
        return Damaged(f'{self.folder / str(step)} is damaged: {what}', self._advice(step))

    def _advice(self, step):
        others = [other for other in self.steps() if other != step]
        return (
            f'Pass --step={max(others)}, or train again to resume from step {max(others)}'
            if others
            else 'Remove it and start again'
        )

    def _write_errors(self):
        def rephrase(error):
            if jax.process_count() > 1 and not _disk_error(error):
                return distributed.Lost(f'while a checkpoint was written: {_cause(error)}')
            return UserError(
                f'a checkpoint could not be written ({_cause(error)}); the last good one is step {self.latest()} in '
                f'{self.folder}. Make room, then resume from it with the same command'
            )

        return _Rephrased(rephrase)

    def _read_errors(self, step):
        where = self.folder / str(step)

        def rephrase(error):
            cause = _cause(error)
            if isinstance(error, MemoryError) or cause in map(os.strerror, _NOT_DAMAGE):
                return UserError(f'{where} cannot be read ({cause})')
            what = f'{where} cannot be read: it is truncated or not a checkpoint of this project ({cause})'
            return Damaged(what, self._advice(step))

        return _Rephrased(rephrase)


def _error(metrics):
    return metrics[_METRIC]


def _rest(state):
    """Return the fields of the state that are not in `model`."""
    fields = ('step', 'opt_state', 'order_digest', 'window', 'epoch', 'controller')
    if state.average:  # `model` is the average
        fields += ('params', 'batch_stats')
    return {name: getattr(state, name) for name in fields}


class _Rephrased:
    """A context manager that turns any exception of Orbax and TensorStore into another one."""

    def __init__(self, rephrase):
        self._rephrase = rephrase

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise self._rephrase(error) from error


def _cause(error):
    """Return the message of an exception's root cause, such as 'No space left on device'."""
    error = _root(error)
    return _disk_error(error) or getattr(error, 'strerror', None) or first_line(error)


def _root(error):
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    return error


def _disk_error(error):
    """Return the message of the disk's error that caused an exception, or None."""
    messages = map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES))
    text = str(_root(error))  # TensorStore puts it at the end of a long line
    return next((message for message in messages if message in text), None)


def _check_shapes(where, metadata, abstract):
    """Raise UserError, naming the first difference, if a checkpoint's tree has other shapes than `abstract`."""
    saved, wanted = _shapes(getattr(metadata, 'tree', metadata)), _shapes(abstract)
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise UserError(
                f'{where} does not fit this config: {name} is {saved.get(name, "missing")} in the checkpoint and '
                f"{wanted.get(name, 'missing')} in the config's network; pass the config that it was trained with"
            )


def _shapes(tree):
    return {_name(path): tuple(leaf.shape) for path, leaf in _leaves(tree)}


def _shapes_of_digests(digests):
    return {name: tuple(digest.shape) for name, digest in digests.items()}


def _save_args(info, metrics, **trees):
    """Return Orbax's arguments to save some trees of arrays, JSON about them, and the digests of all of it."""
    info = info | {_DIGESTS: jax.process_count()}
    items = {item: ocp.args.StandardSave(tree) for item, tree in trees.items()}
    return ocp.args.Composite(**items, info=ocp.args.JsonSave(info), **{_DIGESTS: _DigestArgs(trees, [info, metrics])})


def _shards(array):
    """Return [((start, stop) along each axis, data)] of the parts of an array that this process saves."""
    if not isinstance(array, jax.Array):  # equal on all processes
        return [([(0, size) for size in np.shape(array)], array)] if distributed.is_first() else []
    return [
        ([part.indices(size)[:2] for part, size in zip(shard.index, array.shape, strict=True)], shard.data)
        for shard in array.addressable_shards
        if shard.replica_id == 0
    ]


def _crc(array):
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8))


def _crc_of_json(value):
    return zlib.crc32(json.dumps(json.loads(json.dumps(value)), sort_keys=True).encode())


def _select(tree, wanted):
    """Return the branches of a tree that are also in `wanted`."""
    if not isinstance(tree, dict):
        return tree
    return {key: _select(value, wanted[key]) for key, value in tree.items() if key in wanted}


def _is_leaf(x):
    return hasattr(x, 'shape')


def _leaves(tree):
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_leaf)[0]


def _name(path):
    return '/'.join(str(getattr(key, 'key', getattr(key, 'name', getattr(key, 'idx', key)))) for key in path)


def locate(path):
    """Find the checkpoints at a path: a run's workdir, its checkpoints folder, or one checkpoint.

    Returns:
      (checkpoints folder, step or None).

    Raises:
      UserError: there is no checkpoint at `path`.
    """
    path = Path(path)
    if path.name.isdigit() and (path / 'info').is_dir():
        return path.parent, int(path.name)
    for folder in (path / FOLDER, path):
        if folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir()):
            return folder, None
    problem = 'contains no checkpoint' if path.exists() else 'does not exist'
    raise UserError(
        f"{path} {problem}: pass a run's workdir (runs/NAME) or one checkpoint (runs/NAME/checkpoints/STEP)"
    )


class Deployed(NamedTuple):
    """The weights of a checkpoint that are tested.

    Fields:
      variables: {'params', 'batch_stats'}, the averages if the run kept any.
      where: the checkpoint's folder.
      step: its step.
      chosen: how it was chosen in a workdir, 'best', 'latest' or its step; '' if the user passed this checkpoint.
      info: its `info`.
    """

    variables: dict
    where: Path
    step: int
    chosen: str
    info: dict


def read_deployed(model, image_shape, checkpoint, which='best', check=lambda where, info: None):
    """Read the `Deployed` weights of a checkpoint.

    Args:
      model: the network.
      image_shape: (H, W, C) of its images.
      checkpoint: a run's workdir, a converted checkpoint, or one checkpoint.
      which: for a workdir, 'best' (the smallest test error in training), 'latest' or a step.
      check: called before the weights are read, to raise if the checkpoint is of another network.

    Raises:
      UserError: no such checkpoint, or its weights do not fit the network.
    """
    folder, named_step = locate(checkpoint)
    with Checkpoints(folder, read_only=True) as manager:
        step = manager.choose(which) if named_step is None else named_step
        info, where = manager.info(step), Path(folder) / str(step)
        check(where, info)
        try:
            shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), 'float32'))
        except (TypeError, ValueError, ZeroDivisionError) as error:  # raised by a network for a wrong shape
            size = image_shape[0]
            raise UserError(f'{where} cannot process images of {size}x{size} ({first_line(error)})') from None
        wanted = {'params': shapes['params'], 'batch_stats': shapes.get('batch_stats', {})}
        return Deployed(manager.deployed_model(wanted, step), where, step, which if named_step is None else '', info)
