"""Checkpoints on disk, written asynchronously; the latest two and the best are kept. The only file that uses Orbax.

A checkpoint has three items: `model` (parameters and batch statistics, which evaluation reads), `training` (the rest of
the state) and `info` (JSON that describes the model, and the clock). It appears under its step's name only when it is
complete, so a killed save leaves no broken checkpoint.
"""

import errno
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from runtime import distributed
from runtime.errors import UserError, first_line

FOLDER = 'checkpoints'
# The config keys that change the values of the network's input.
INPUT = ('channels', 'channel_order', 'normalize', 'mean', 'std', 'pixel_range')
_METRIC = 'top1_error'


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


class Checkpoints:
    """The checkpoints of one run; a context manager, which waits for the last one to be on the disk."""

    def __init__(self, folder, read_only=False, after_save=lambda: None):
        """Open a folder of checkpoints; `after_save` is called after each save has started."""
        policies = ocp.checkpoint_managers
        best = policies.BestN(get_metric_fn=_error, reverse=True, n=1, keep_checkpoints_without_metrics=False)
        self.folder = folder if '://' in str(folder) else Path(folder).absolute()
        self._after_save = after_save
        self._manager = ocp.CheckpointManager(
            self.folder,
            item_handlers={
                'model': ocp.StandardCheckpointHandler(),
                'training': ocp.StandardCheckpointHandler(),
                'info': ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=None if read_only else policies.AnyPreservationPolicy([policies.LatestN(2), best]),
                best_fn=_error,
                best_mode='min',
                enable_async_checkpointing=not read_only,
                create=not read_only,
                read_only=read_only,
            ),
        )

    def __enter__(self):
        self._hook, sys.unraisablehook = sys.unraisablehook, self._ignore_closed_loop
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.wait()
        self._manager.close()
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
        step = int(state.step)
        with self._write_errors():
            if step in self._manager.all_steps():  # saved at an interrupt, before the test
                self._manager.delete(step)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    model=ocp.args.StandardSave(state.deployed),
                    training=ocp.args.StandardSave(_rest(state)),
                    info=ocp.args.JsonSave(info),
                ),
                metrics=None if top1_error is None else {_METRIC: top1_error},
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
            args = ocp.args.Composite(model=ocp.args.StandardSave(model), info=ocp.args.JsonSave(info))
            self._manager.save(0, args=args, force=True)

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
        with self._read_errors(step):
            metadata = self._manager.item_metadata(step)['model']
            abstract = jax.tree.map(
                lambda leaf: np.empty(leaf.shape, leaf.dtype), getattr(metadata, 'tree', metadata), is_leaf=_is_leaf
            )
            args = ocp.args.Composite(model=ocp.args.StandardRestore(abstract))
            return self._manager.restore(step, args=args)['model']

    def deployed_model(self, model, step):
        """Return {'params', 'batch_stats'} at a step with the shapes of `model`, which may lack auxiliary heads."""
        restored = _select(self.read_model(step), model)
        _check_shapes(self.folder / str(step), restored, model)
        return restored

    def info(self, step):
        """Return the JSON that was saved with the state."""
        with self._read_errors(step):
            info = self._manager.restore(step, args=ocp.args.Composite(info=ocp.args.JsonRestore()))['info']
        if not isinstance(info, dict) or 'architecture' not in info:
            raise UserError(f'{self.folder / str(step)} is not a checkpoint of this project')
        return info

    def _restore(self, item, target, step):
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        with self._read_errors(step):
            metadata = self._manager.item_metadata(step)[item]
        _check_shapes(self.folder / str(step), metadata, abstract)
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract)})
        with self._read_errors(step):
            return self._manager.restore(step, args=args)[item]

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
        def rephrase(error):
            other_steps = [s for s in self._manager.all_steps() if s != step]
            return UserError(
                f'{self.folder / str(step)} cannot be read: it is truncated or not a checkpoint of this project '
                f'({_cause(error)}). Remove that folder '
                + (f'to resume from step {max(other_steps)}' if other_steps else 'and start again')
            )

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
    saved = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(getattr(metadata, 'tree', metadata))}
    wanted = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(abstract)}
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            raise UserError(
                f'{where} does not fit this config: {name} is {saved.get(name, "missing")} in the checkpoint and '
                f"{wanted.get(name, 'missing')} in the config's network; pass the config that it was trained with"
            )


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
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), 'float32'))
    with Checkpoints(folder, read_only=True) as manager:
        step = manager.choose(which) if named_step is None else named_step
        info, where = manager.info(step), Path(folder) / str(step)
        check(where, info)
        wanted = {'params': shapes['params'], 'batch_stats': shapes.get('batch_stats', {})}
        return Deployed(manager.deployed_model(wanted, step), where, step, which if named_step is None else '', info)
