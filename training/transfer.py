"""Weights of one network as the start of another: VGG's stages, a fine-tuning."""

from typing import NamedTuple

import jax
import numpy as np
from flax import traverse_util

from input_pipeline import classes
from runtime import mesh
from runtime.errors import UserError, nearest
from training import checkpoints

_MOST_NAMED = 16


class Inherited(NamedTuple):
    """What `load` found: arrays by collection and path, as ('params', 'conv1', 'kernel'), and what to say of them."""

    arrays: dict
    copied: list
    left: list
    notes: tuple


def load(path, variables, layers=(), pixels=None, class_names=None):
    """Reads from a checkpoint the weights that a network takes over.

    Args:
      path: a run's workdir (its last checkpoint), or one checkpoint.
      variables: the network's own, or their shapes: {'params', 'batch_stats'}.
      layers: the layers to take, by name ('conv1_1', 'conv2_x/block1'), or 'NAME=THEIRS' where theirs has another; an
        empty list takes every layer that is there with the same name and shapes.
      pixels: the keys `checkpoints.INPUT` of the config; where theirs were others, a note says so.
      class_names: of the new run, see `classes.known_names`. If the checkpoint has as many other classes, a note says
        so, because its classifier then fits, too.

    Raises:
      UserError: no checkpoint; a named layer that either network lacks or whose shapes differ; nothing that fits.
    """
    folder, step = checkpoints.locate(path)
    with checkpoints.Checkpoints(folder, read_only=True) as kept:
        step = kept.latest() if step is None else step
        info = kept.info(step)
        theirs_is = info['architecture']
        theirs = traverse_util.flatten_dict(kept.read_model(step))
    where = f'{folder / str(step)} ({theirs_is})'
    ours = traverse_util.flatten_dict(jax.tree.map(lambda x: tuple(x.shape), variables, is_leaf=_has_shape))
    wanted = _named(layers, ours, theirs, where) if layers else _all_that_fit(ours, theirs)
    if not wanted:
        raise UserError(
            f'init_from: nothing of {where} fits this network: no layer has the same name and shapes. '
            'Name pairs with --config.init_layers="(\'NAME=THEIRS\', ...)", or pass another checkpoint'
        )
    arrays = {target: np.asarray(theirs[source]) for target, source in wanted.items()}
    copied = _layers_of(arrays)
    left = [name for name in _layers_of(ours) if name not in copied]
    notes = (
        f'init_from {where}: {len(copied)} layers copied: {_listed(copied)}',
        f'init_from: {len(left)} layers start at random: {_listed(left)}' if left else 'init_from: no layer is left',
    )
    other = [
        f'{key}={there!r}, here {here!r}'
        for key, there in info.get('input', {}).items()
        if there != (here := _as_json((pixels or {}).get(key, there)))
    ]
    if other:
        notes += (f'init_from: it was trained on other pixels: {"; ".join(other)}',)
    names, there = class_names, info.get('class_names')
    if names and there and len(names) == len(there) and not classes.same_classes(names, there):
        notes += (f'init_from: it was trained on other classes: {classes.first_difference(there, names)}',)
    return Inherited(arrays, copied, left, notes)


def apply(inherited, variables):
    """The variables with what was inherited in its place."""
    flat = traverse_util.flatten_dict(variables)
    for path, array in inherited.arrays.items():
        flat[path] = mesh.put(array.astype(flat[path].dtype), flat[path].sharding)
    return traverse_util.unflatten_dict(flat) | {k: v for k, v in variables.items() if not v}


def _as_json(value):
    return list(value) if isinstance(value, tuple) else value


def _has_shape(x):
    return hasattr(x, 'shape')


def _layer(path):
    """('params', 'conv2_x', 'block1', 'conv1', 'kernel') -> 'conv2_x/block1/conv1'; its own name for a lone array."""
    return '/'.join(path[1:-1]) or path[-1]


def _layers_of(paths):
    return list(dict.fromkeys(_layer(path) for path in paths))


def _all_that_fit(ours, theirs):
    """Layer by layer: a layer of which any array differs is left alone."""
    fits = {}
    for path, shape in ours.items():
        here = path in theirs and tuple(theirs[path].shape) == shape
        fits[_layer(path)] = fits.get(_layer(path), True) and here
    return {path: path for path in ours if fits[_layer(path)]}


def _named(layers, ours, theirs, where):
    """{our path: their path} of the layers that are asked for."""
    wanted = {}
    for entry in layers:
        target, _, source = str(entry).partition('=')
        source = source or target
        below = [path for path in ours if _layer(path) == target or _layer(path).startswith(f'{target}/')]
        if not below:
            raise UserError(f'init_layers: this network has no layer {target!r}{nearest(target, _layers_of(ours))}')
        parts = tuple(target.split('/')), tuple(source.split('/'))
        for path in below:
            their_path = (path[0], *parts[1], *path[1 + len(parts[0]) :])
            if their_path not in theirs:
                raise UserError(f'init_layers: {where} has no layer {source!r}{nearest(source, _layers_of(theirs))}')
            if tuple(theirs[their_path].shape) != ours[path]:
                raise UserError(
                    f'init_layers: {target} has {path[-1]} of {ours[path]} here, and {source} in {where} of '
                    f'{tuple(theirs[their_path].shape)}'
                )
            wanted[path] = their_path
    return wanted


def _listed(names):
    more = f' and {len(names) - _MOST_NAMED} more' if len(names) > _MOST_NAMED else ''
    return ', '.join(names[:_MOST_NAMED]) + more
