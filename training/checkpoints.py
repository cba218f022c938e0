"""Checkpoints on disk: Orbax, written asynchronously, the latest two and the best kept. The one file that knows Orbax.

A checkpoint is three items: `model` (parameters and batch statistics, all that evaluation reads), `training` (the
rest of the state) and `info` (JSON: what the model is, and the clock). It appears under its step's name only
when it is whole; a killed save leaves nothing that counts.
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

from runtime.errors import UserError, first_line

FOLDER = 'checkpoints'
INPUT = (
    'channels',
    'channel_order',
    'normalize',
    'mean',
    'std',
    'pixel_range',
)  # keys of a config that change what the pixels mean
_METRIC = 'top1_error'


def describe(config, class_names=None):
    """What a checkpoint's `info` says of its network: JSON values.

    Args:
      config: of the network.
      class_names: see `input_pipeline.classes.known_names`; None where nobody tells.
    """
    return {
        'architecture': config.architecture,
        'architecture_options': json.loads(config.architecture_options.to_json()),
        'num_classes': config.num_classes,
        'input': {key: getattr(config, key) for key in INPUT},
        **({} if class_names is None else {'class_names': list(class_names)}),
    }


class Checkpoints:
    """The checkpoints of one run; use it in a `with`, which waits for the last one to be on the disk."""

    def __init__(self, folder, read_only=False, after_save=lambda: None):
        """`after_save` is called whenever a save has begun."""
        keep = ocp.checkpoint_managers
        best = keep.BestN(get_metric_fn=_error, reverse=True, n=1, keep_checkpoints_without_metrics=False)
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
                preservation_policy=None if read_only else keep.AnyPreservationPolicy([keep.LatestN(2), best]),
                best_fn=_error,
                best_mode='min',
                enable_async_checkpointing=not read_only,
                create=not read_only,
                read_only=read_only,
            ),
        )

    def __enter__(self):
        self._hook, sys.unraisablehook = sys.unraisablehook, self._quietly
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.wait()
        self._manager.close()
        if kind is None:  # after a failure late callbacks may still come
            sys.unraisablehook = self._hook

    def _quietly(self, unraisable):
        """When a write fails Orbax closes its event loop before TensorStore calls back, which then prints a traceback
        from C++; the failure itself is raised by the next `save` or `wait`."""
        if str(unraisable.exc_value) != 'Event loop is closed':
            self._hook(unraisable)

    def steps(self):
        """The steps of all whole checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def latest(self):
        """The last whole checkpoint's step, or None."""
        return self._manager.latest_step()

    def best(self):
        """The step of the smallest test error, the later of equals; the latest where no checkpoint has one."""
        return self._manager.best_step() or self.latest()

    def choose(self, which):
        """The step that a user means by 'best', 'latest' or a number; UserError where there is none."""
        if which in ('best', 'latest'):
            step = self.best() if which == 'best' else self.latest()
        elif which.isdigit():
            step = int(which)
        else:
            raise UserError(f"--step is 'best', 'latest' or a number, not {which!r}")
        if step not in self.steps():
            there = ', '.join(map(str, self.steps())) or 'none'
            raise UserError(f'{self.folder} has no step {step}; it has {there}')
        return step

    def save(self, state, info, top1_error=None):
        """Begins to write the state; raises UserError when an earlier write failed.

        Args:
          state: `TrainState`.
          info: JSON values.
          top1_error: of the test set, per cent, where it was just measured.
        """
        step = int(state.step)
        with self._failure_is_ours():
            if step in self._manager.all_steps():  # saved when interrupted, before the evaluation that is now done
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
        """Writes a trained network alone, as step 0: to be tested, or to start from.

        Args:
          model: {'params', 'batch_stats'}.
          info: JSON values.
        """
        with self._failure_is_ours():
            args = ocp.args.Composite(model=ocp.args.StandardSave(model), info=ocp.args.JsonSave(info))
            self._manager.save(0, args=args, force=True)

    def wait(self):
        """Returns when every checkpoint begun is on the disk; raises UserError when that failed."""
        with self._failure_is_ours():
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def restore(self, state, step):
        """The whole state at a step, shaped and placed like `state`."""
        model = self.restore_model(state.deployed, step)
        rest = self._restore('training', _rest(state), step)
        return state.replace(average=model, **rest) if state.average else state.replace(**model, **rest)

    def restore_model(self, model, step):
        """{'params', 'batch_stats'} at a step, shaped and placed like `model`."""
        return self._restore('model', model, step)

    def read_model(self, step):
        """{'params', 'batch_stats'} at a step as it is there, of whatever network."""
        with self._broken_is_ours(step):
            there = self._manager.item_metadata(step)['model']
            abstract = jax.tree.map(
                lambda leaf: np.empty(leaf.shape, leaf.dtype), getattr(there, 'tree', there), is_leaf=_is_leaf
            )
            args = ocp.args.Composite(model=ocp.args.StandardRestore(abstract))
            return self._manager.restore(step, args=args)['model']

    def deployed_model(self, model, step):
        """{'params', 'batch_stats'} at a step, shaped like `model`, which may lack what only training needs: heads."""
        there = self.read_model(step)
        picked = _only(there, model)
        _check_shapes(self.folder / str(step), picked, model)
        return picked

    def info(self, step):
        """The JSON that was saved with the state."""
        with self._broken_is_ours(step):
            info = self._manager.restore(step, args=ocp.args.Composite(info=ocp.args.JsonRestore()))['info']
        if not isinstance(info, dict) or 'architecture' not in info:
            raise UserError(f'{self.folder / str(step)} is no checkpoint of this project')
        return info

    def _restore(self, item, target, step):
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, target)
        with self._broken_is_ours(step):
            there = self._manager.item_metadata(step)[item]
        _check_shapes(self.folder / str(step), there, abstract)
        with self._broken_is_ours(step):
            return self._manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract)}))[
                item
            ]

    def _failure_is_ours(self):
        return _Rephrased(
            lambda error: (
                f'a checkpoint could not be written ({_cause(error)}); the last good one is step {self.latest()} in '
                f'{self.folder}. Make room, then run '
                'the same command again to go on from there'
            )
        )

    def _broken_is_ours(self, step):
        others = [s for s in self._manager.all_steps() if s != step]
        return _Rephrased(
            lambda error: (
                f'{self.folder / str(step)} cannot be read, it is truncated or no checkpoint of this project '
                f'({_cause(error)}). Remove that folder'
                + (f' to go on from step {max(others)}' if others else ' and start afresh')
            )
        )


def _error(metrics):
    return metrics[_METRIC]


def _rest(state):
    """The state but for what `model` holds."""
    fields = ('step', 'opt_state', 'order_digest', 'window', 'epoch', 'controller')
    if state.average:  # `model` holds the average
        fields += ('params', 'batch_stats')
    return {name: getattr(state, name) for name in fields}


class _Rephrased:
    """Turns whatever Orbax and TensorStore raise inside the `with` into one UserError."""

    def __init__(self, message):
        self._message = message

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, Exception) and not isinstance(error, UserError):
            raise UserError(self._message(error)) from error


def _cause(error):
    """The message at the root of an exception: 'No space left on device' says more than Orbax's wrapping."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES):
        if os.strerror(number) in str(error):  # TensorStore puts it at the end of a long line
            return os.strerror(number)
    return getattr(error, 'strerror', None) or first_line(error)


def _check_shapes(where, metadata, abstract):
    """Raises UserError where a checkpoint's tree is not the one wanted, naming the first difference."""
    there = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(getattr(metadata, 'tree', metadata))}
    wanted = {_name(path): tuple(leaf.shape) for path, leaf in _leaves(abstract)}
    for name in sorted(there.keys() | wanted.keys()):
        if there.get(name) != wanted.get(name):
            raise UserError(
                f'{where} does not fit this config: {name} is {there.get(name, "missing")} in the checkpoint and '
                f"{wanted.get(name, 'missing')} in the config's network; pass the config that made it"
            )


def _only(tree, wanted):
    """The branches of a tree that another has, too; all of it below a leaf that the other lacks is left out."""
    if not isinstance(tree, dict):
        return tree
    return {key: _only(value, wanted[key]) for key, value in tree.items() if key in wanted}


def _is_leaf(x):
    return hasattr(x, 'shape')


def _leaves(tree):
    return jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_leaf)[0]


def _name(path):
    return '/'.join(str(getattr(key, 'key', getattr(key, 'name', getattr(key, 'idx', key)))) for key in path)


def locate(path):
    """What a user calls a checkpoint: a run's workdir, its checkpoints folder, or one checkpoint.

    Returns:
      (checkpoints folder, step or None).

    Raises:
      UserError: there is none at `path`.
    """
    path = Path(path)
    if path.name.isdigit() and (path / 'info').is_dir():
        return path.parent, int(path.name)
    for folder in (path / FOLDER, path):
        if folder.is_dir() and any(entry.name.isdigit() for entry in folder.iterdir()):
            return folder, None
    what = 'holds no checkpoint' if path.exists() else 'does not exist'
    raise UserError(f"{path} {what}: pass a run's workdir (runs/NAME) or one checkpoint (runs/NAME/checkpoints/STEP)")


class Deployed(NamedTuple):
    """The weights of a checkpoint that its network is tested with.

    Fields:
      variables: {'params', 'batch_stats'}, the average's where training kept one.
      where: the checkpoint's folder.
      step: its number.
      chosen: how it was chosen from a workdir, 'best', 'latest' or its step; '' where it was named itself.
      info: what its training wrote beside it.
    """

    variables: dict
    where: Path
    step: int
    chosen: str
    info: dict


def read_deployed(model, image_shape, checkpoint, which='best', check=lambda where, info: None):
    """The `Deployed` of a checkpoint.

    Args:
      model: the network.
      image_shape: (H, W, C) of its images.
      checkpoint: a run's workdir, a converted checkpoint, or one checkpoint.
      which: of a workdir's, 'best' (the smallest test error in training), 'latest' or a step.
      check: called before the weights are read; raises where the checkpoint is not of that network.

    Raises:
      UserError: no such checkpoint, or one whose weights are not this network's.
    """
    folder, given = locate(checkpoint)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), 'float32'))
    with Checkpoints(folder, read_only=True) as manager:
        step = manager.choose(which) if given is None else given
        info, where = manager.info(step), Path(folder) / str(step)
        check(where, info)
        wanted = {'params': shapes['params'], 'batch_stats': shapes.get('batch_stats', {})}
        return Deployed(manager.deployed_model(wanted, step), where, step, which if given is None else '', info)
