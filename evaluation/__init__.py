"""Parameters to the paper's number. `evaluate(config, checkpoint)` is the room's door."""

import time
from pathlib import Path

import jax

from errors import UserError
from input_pipeline import recipe
from training import checkpoints, losses, mesh
from training.metrics import count_split
from training.run import build_model, check, counter, test_batches

PROTOCOLS = {'single': 'each test image once, whole, no flip'}  # protocols.md's cifar_single and mnist_single


def evaluate(config, checkpoint, which='best'):
    """Tests a checkpoint on the config's test split, every example counted exactly once.

    Args:
      config: an ml_collections config with the keys of `configs/base.py`.
      checkpoint: a run's workdir, or one checkpoint.
      which: of a workdir's checkpoints, 'best' (smallest test error seen in training), 'latest', or a step.

    Returns:
      {'top1_error', 'top5_error' (per cent), 'wrong_top1', 'wrong_top5', 'num_examples', 'loss', 'protocol', 'step',
      'checkpoint', 'chosen' (whether by `which`), 'seconds'}.

    Raises:
      UserError: no such checkpoint, or one that does not fit the config.
    """
    check(config)
    folder, given = checkpoints.locate(checkpoint)
    source = recipe.open_split(config, config.test_split)
    grid = mesh.create(jax.device_count())
    model, loss = build_model(config), losses.create(config.loss, config.rubbish_penalty)
    shape = (1, config.image_size, config.image_size, config.channels)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, 'float32'))
    with checkpoints.Checkpoints(folder, read_only=True) as kept:
        step = _choose(kept, given, which)
        info = kept.info(step)
        if info['architecture'] != config.architecture:
            raise UserError(
                f'{Path(folder) / str(step)} holds {info["architecture"]}, and the config names {config.architecture}; '
                'pass the config that made it'
            )
        wanted = {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=mesh.replicated(grid)), wanted)
        restored = kept.restore_model(wanted, step)
    began = time.perf_counter()
    batches = test_batches(config, source, grid.size)
    measured = recipe.statistics_of(config, Path(folder).parent)
    count = counter(config, model, loss, lambda: measured)
    result = count_split(count, restored, batches, mesh.batched(grid))
    return result | {
        'protocol': 'single',
        'step': step,
        'chosen': given is None,
        'checkpoint': str(Path(folder) / str(step)),
        'seconds': time.perf_counter() - began,
    }


def _choose(kept, step, which):
    steps = kept.steps()
    if step is None:
        if which in ('best', 'latest'):
            step = kept.best() if which == 'best' else kept.latest()
        elif which.isdigit():
            step = int(which)
        else:
            raise UserError(f"--step is 'best', 'latest' or a number, not {which!r}")
    if step not in steps:
        raise UserError(f'{kept.folder} has no step {step}; it has {", ".join(map(str, steps)) or "none"}')
    return step
