"""Learning rates that follow the run: the plateau rule of the papers, and ResNet-110's warm-up.

A controller is a tree of a few numbers in the training state, so it is in every checkpoint. Its functions are pure.
"""

import jax.numpy as jnp
import numpy as np

from runtime.errors import UserError


def create(plateau=None, warmup=None):
    """The controller before the first step; {} is none.

    Args:
      plateau: the config's `plateau`, or None.
      warmup: the config's `warmup`, or None.
    """
    controller = {}
    if plateau:
        if plateau.patience < 1 or plateau.drops < 0 or not 0 < plateau.factor < 1:
            raise UserError(
                'plateau needs patience of at least 1 epoch, drops of at least 0 and a factor between 0 and 1, not '
                f'{plateau.patience}, {plateau.drops}, {plateau.factor}'
            )
        controller['plateau'] = {
            'before': np.float32(np.inf),  # the best of all epochs older than `patience`
            'recent': np.full(plateau.patience, np.inf, np.float32),  # those that are not, oldest first
            'wait': np.int32(0),  # epochs to let pass after a drop
            'drops': np.int32(0),
        }
    if warmup:
        if warmup.steps < 1 or not 0 < warmup.until_error <= 100:
            raise UserError(
                f'warmup needs steps of at least 1 and until_error between 0 and 100, not {warmup.steps}, '
                f'{warmup.until_error}'
            )
        controller['warmup'] = {'wrong': np.int32(0), 'count': np.int32(0), 'over': np.bool_(False)}
    return controller


def is_warm(controller):
    """Whether there was a warm-up, and it is over."""
    return 'warmup' in controller and bool(controller['warmup']['over'])


def rate(controller, scheduled, plateau, warmup):
    """The learning rate of a step, traceable.

    Args:
      controller: see `create`.
      scheduled: what the schedule says.
      plateau, warmup: the config's.
    """
    if 'plateau' in controller:
        scheduled = scheduled * plateau.factor ** controller['plateau']['drops']
    if 'warmup' in controller:
        scheduled = jnp.where(controller['warmup']['over'], scheduled, warmup.learning_rate)
    return scheduled


def after_step(controller, step, wrong, count, warmup):
    """The controller after a step, traceable; it looks at the training error of `warmup.steps` steps at a time.

    ResNet-110 starts with 0.01 and goes over to 0.1 when its training error is below 80% (He et al. 2015, section 4.2);
    the schedule's count of steps runs on.

    Args:
      controller: see `create`.
      step: the number of the step that was made.
      wrong, count: wrong answers and examples of it.
      warmup: the config's.
    """
    if 'warmup' not in controller:
        return controller
    was = controller['warmup']
    wrong, count = was['wrong'] + wrong, was['count'] + count
    ends = (step + 1) % warmup.steps == 0
    below = 100 * wrong < warmup.until_error * count
    now = {
        'wrong': jnp.where(ends, 0, wrong),
        'count': jnp.where(ends, 0, count),
        'over': was['over'] | (ends & below),
    }
    return {**controller, 'warmup': now}


def after_epoch(controller, value, plateau):
    """The controller after an epoch, and whether the rate dropped.

    The rate is divided when the error has stopped improving (Krizhevsky et al. 2012, section 5; VGG, ResNet and others
    after it): when the best value of all epochs is less than `threshold` better than the best of those older than
    `patience` epochs. Then it waits as many epochs before it looks again.

    Args:
      controller: see `create`, as NumPy.
      value: of the metric.
      plateau: the config's.
    """
    if 'plateau' not in controller:
        return controller, False
    was = controller['plateau']
    before = np.minimum(was['before'], was['recent'][0])
    recent = np.append(was['recent'][1:], np.float32(value))
    stopped = np.isfinite(before) and before - min(before, recent.min()) < plateau.threshold
    drop = bool(stopped and was['wait'] == 0)
    now = {
        'before': before,
        'recent': recent,
        'wait': np.int32(plateau.patience if drop else max(0, was['wait'] - 1)),
        'drops': np.int32(was['drops'] + drop),
    }
    return {**controller, 'plateau': now}, drop


def reason(controller, plateau):
    """Why the rate has just dropped, or the run ends, in words."""
    number = int(controller['plateau']['drops'])
    what = f'drop {number} of {plateau.drops}' if number <= plateau.drops else 'the run ends'
    return f'{plateau.metric} has gained less than {plateau.threshold:g} in {plateau.patience} epochs: {what}'


def finished(controller, plateau):
    """Whether the plateau after the last drop is over, too: then the run ends."""
    return 'plateau' in controller and int(controller['plateau']['drops']) > plateau.drops
