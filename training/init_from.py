"""Initialization from another network's weights: VGG's stages, fine-tuning."""

from typing import NamedTuple

import jax
import numpy as np
from flax import traverse_util

from input_pipeline import classes
from runtime import mesh, stored_config
from runtime.errors import UserError, nearest
from training import checkpoints

_MAX_LISTED = 16  # layers that a note names


class InitialWeights(NamedTuple):
    """Weights to start from.

    Fields:
      arrays: by collection and path, such as ('params', 'conv1', 'kernel').
      copied: names of the layers that they replace.
      left: names of the layers that start at random.
      notes: lines to print.
    """

    arrays: dict
    copied: list
    left: list
    notes: tuple


def load(path, variables, layers=(), pixels=None, class_names=None, image_size=0):
    """Read the weights that a network starts from out of a checkpoint.

    Args:
      path: a run's workdir (its last checkpoint), or one checkpoint.
      variables: the network's {'params', 'batch_stats'}, or their shapes.
      layers: the layers to copy, by name ('conv1_1', 'conv2_x/block1'), or 'NAME=THEIRS' for a layer named differently
        in the checkpoint. If empty, all layers with the same name and shapes are copied.
      pixels: the config's values for the keys `checkpoints.INPUT`; a note reports differences from the checkpoint.
      class_names: class names of the training data, see `input_pipeline.classes.known_names`. A note reports if the
        checkpoint has as many but different classes: then its classifier fits, too.
      image_size: of the config; a note reports another one of the checkpoint. 0: it is not compared.

    Raises:
      UserError: no checkpoint; a named layer that either network lacks or whose shapes differ; no layer fits.
    """
    folder, step = checkpoints.locate(path)
    with checkpoints.Checkpoints(folder, read_only=True) as manager:
        step = manager.latest() if step is None else step
        info = manager.info(step)
        theirs = traverse_util.flatten_dict(manager.read_model(step))
    where = f'{folder / str(step)} ({info["architecture"]})'
    ours = traverse_util.flatten_dict(jax.tree.map(lambda x: tuple(x.shape), variables, is_leaf=_has_shape))
    wanted = _named(layers, ours, theirs, where) if layers else _all_that_fit(ours, theirs)
    if not wanted:
        raise UserError(
            f'init_from: {where} does not fit this network: no layer has the same name and shapes. '
            'Name pairs with --config.init_layers="(\'NAME=THEIRS\', ...)", or pass another checkpoint'
        )
    arrays = {target: np.asarray(theirs[source]) for target, source in wanted.items()}
    copied = _layers_of(arrays)
    left = [name for name in _layers_of(ours) if name not in copied]
    notes = (
        f'init_from {where}: {len(copied)} layers copied: {_listed(copied)}',
        f'init_from: start at random ({len(left)}): {_listed(left)}' if left else 'init_from: all layers were copied',
    )
    differences = [
        f'{key}={saved!r}, here {value!r}'
        for key, saved in info.get('input', {}).items()
        if saved != (value := _as_json((pixels or {}).get(key, saved)))
    ]
    if differences:
        notes += (f'init_from: the checkpoint was trained on other pixels: {"; ".join(differences)}',)
    size = _image_size(path)
    if image_size and size not in (None, image_size):
        here = f'{image_size}x{image_size}'
        notes += (f'init_from: the checkpoint was made for images of {size}x{size}, and here they are {here}',)
    names, theirs = class_names, info.get('class_names')
    if names and theirs and len(names) == len(theirs) and not classes.same_classes(names, theirs):
        difference = classes.first_difference(theirs, names)
        notes += (f'init_from: the checkpoint was trained on other classes: {difference}',)
    return InitialWeights(arrays, copied, left, notes)


def apply(weights, variables):
    """Return the variables with the `InitialWeights` in place of their own."""
    flat = traverse_util.flatten_dict(variables)
    for path, array in weights.arrays.items():
        flat[path] = mesh.put(array.astype(flat[path].dtype), flat[path].sharding)
    return traverse_util.unflatten_dict(flat) | {k: v for k, v in variables.items() if not v}


def _image_size(path):
    """Return the size of the images of a checkpoint, or None if no config is stored with it."""
    try:
        return stored_config.get_config(str(path)).image_size
    except ValueError:
        return None


def _as_json(value):
    return list(value) if isinstance(value, tuple) else value


def _has_shape(x):
    return hasattr(x, 'shape')


def _layer(path):
    """('params', 'conv2_x', 'block1', 'conv1', 'kernel') -> 'conv2_x/block1/conv1'; a lone array's own name."""
    return '/'.join(path[1:-1]) or path[-1]


def _layers_of(paths):
    return list(dict.fromkeys(_layer(path) for path in paths))


def _all_that_fit(ours, theirs):
    """Return {our path: the same path} of the layers all of whose arrays have the same shapes in both networks."""
    fits = {}
    for path, shape in ours.items():
        same = path in theirs and tuple(theirs[path].shape) == shape
        fits[_layer(path)] = fits.get(_layer(path), True) and same
    return {path: path for path in ours if fits[_layer(path)]}


def _named(layers, ours, theirs, where):
    """Return {our path: their path} of the layers that the config names."""
    wanted = {}
    for entry in layers:
        target, _, source = str(entry).partition('=')
        source = source or target
        paths = [path for path in ours if _layer(path) == target or _layer(path).startswith(f'{target}/')]
        if not paths:
            raise UserError(f'init_layers: this network has no layer {target!r}{nearest(target, _layers_of(ours))}')
        parts = tuple(target.split('/')), tuple(source.split('/'))
        for path in paths:
            their_path = (path[0], *parts[1], *path[1 + len(parts[0]) :])
            if their_path not in theirs:
                raise UserError(f'init_layers: {where} has no layer {source!r}{nearest(source, _layers_of(theirs))}')
            if tuple(theirs[their_path].shape) != ours[path]:
                raise UserError(
                    f'init_layers: {target} has {path[-1]} of shape {ours[path]} here, and {source} in {where} of '
                    f'shape {tuple(theirs[their_path].shape)}'
                )
            wanted[path] = their_path
    return wanted


def _listed(names):
    more = f' and {len(names) - _MAX_LISTED} more' if len(names) > _MAX_LISTED else ''
    return ', '.join(names[:_MAX_LISTED]) + more
