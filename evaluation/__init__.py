"""Parameters to the paper's number. `evaluate(config, checkpoint)` is the room's door."""

import dataclasses
import time
from pathlib import Path

import jax

import architectures
from configs import checkpoint as checkpoint_config
from errors import UserError
from input_pipeline import recipe
from training import checkpoints, mesh
from training.metrics import count_split
from training.run import build_model, check, counter, test_batches, test_loss
from weights import passport

PROTOCOLS = {
    'single': 'each test image once, its centre where the config crops, no flip'
}  # protocols.md's cifar_single and mnist_single


def evaluate(config, checkpoint, which='best'):
    """Tests a checkpoint on the config's test split, every example counted exactly once.

    Args:
      config: an ml_collections config with the keys of `configs/base.py`.
      checkpoint: a run's workdir, or one checkpoint.
      which: of a workdir's checkpoints, 'best' (smallest test error seen in training), 'latest', or a step.

    Returns:
      {'top1_error', 'top5_error' (per cent), 'wrong_top1', 'wrong_top5', 'num_examples', 'loss', 'protocol', 'step',
      'checkpoint', 'chosen' (whether by `which`), 'seconds', 'passport' (of converted weights, or None)}.

    Raises:
      UserError: no such checkpoint, one that does not fit the config, or converted weights that do not answer their
        probe image as their passport says.
    """
    check(config)
    folder, given = checkpoints.locate(checkpoint)
    source = recipe.open_split(config, config.test_split)
    grid = mesh.create(jax.device_count())
    model, loss = build_model(config), test_loss(config)
    shape = (1, config.image_size, config.image_size, config.channels)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, 'float32'))
    with checkpoints.Checkpoints(folder, read_only=True) as kept:
        step = kept.choose(which) if given is None else given
        info = kept.info(step)
        if info['architecture'] != config.architecture:
            raise UserError(
                f'{Path(folder) / str(step)} holds {info["architecture"]}, and the config names {config.architecture}; '
                'pass the config that made it'
            )
        check_recipe(Path(folder) / str(step), info, config, model)
        wanted = {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}
        restored = jax.device_put(kept.deployed_model(wanted, step), mesh.replicated(grid))
    measured = recipe.statistics_of(config, Path(folder).parent)
    card = passport.read(Path(folder).parent)
    if card:
        own = checkpoint_config.get_config(str(Path(folder).parent))
        passport.check(card, passport.answers(model, restored, own, measured), Path(folder).parent)
    began = time.perf_counter()
    batches = test_batches(config, source, grid.size)
    count = counter(config, model, loss, lambda: measured)
    result = count_split(count, restored, batches, mesh.batched(grid))
    return result | {
        'protocol': 'single',
        'passport': card,
        'step': step,
        'chosen': given is None,
        'checkpoint': str(Path(folder) / str(step)),
        'seconds': time.perf_counter() - began,
    }


_TRAINING_ONLY = (  # options that change nothing of a trained network's answer
    'initializer', 'init_power', 'hidden_bias', 'dropout', 'dropout_first', 'auxiliary_dropout', 'auxiliary_heads',
    'auxiliary_window', 'group_size', 'frozen_norm', 'dtype', 'param_dtype', 'scan', 'remat', 'parent', 'name',
)  # fmt: skip


def check_recipe(where, info, config, model):
    """Raises UserError where a checkpoint is of another recipe, whose network has the same shapes."""
    theirs = architectures.create(info['architecture'], num_classes=info['num_classes'], **info['architecture_options'])
    for field in dataclasses.fields(model):
        there, here = getattr(theirs, field.name), getattr(model, field.name)
        if field.name not in _TRAINING_ONLY and there != here:
            raise UserError(
                f'{where} has {field.name}={there!r} and the config {here!r}: it is of another recipe; pass the config '
                'that made it'
            )
    for key, there in info.get('input', {}).items():
        here = getattr(config, key)
        if there != (list(here) if isinstance(here, tuple) else here):
            raise UserError(
                f'{where} was trained on images of {key}={there!r}, and the config has {here!r}: it is of another '
                'recipe; pass the config that made it'
            )
