"""Detection of runs that do not learn, with known causes and the papers' remedies."""

import math

from runtime.errors import UserError
from training import schedules

CLOSE = 0.01  # relative distance from ln(classes), or from the first loss


def first_look(rows, steps):
    """Return whether the last 'train' row is the first one at or after step `steps`."""
    logged = [row['step'] for row in rows if row['kind'] == 'train']
    return bool(logged) and logged[-1] >= steps and (len(logged) == 1 or logged[-2] < steps)


def symptom(rows, steps, num_classes):
    """Describe what is wrong with the loss of the last `steps` steps; return None if nothing is.

    Args:
      rows: the rows of the log.
      steps: how long the loss must have been constant.
      num_classes: an untrained network has a loss of ln(num_classes).
    """
    rows = [row for row in rows if row['kind'] == 'train']
    if not rows or rows[-1]['step'] < steps:
        return None
    last = rows[-1]['step']
    window = [row['loss'] for row in rows if row['step'] > last - steps]
    chance = math.log(num_classes)
    if all(abs(loss - chance) <= CLOSE * chance for loss in window):
        return f'the loss has stayed at ln({num_classes}) = {chance:.3f}, the loss of a guess, for {steps:,} steps'
    if len(window) > 1 and window[0] == rows[0]['loss'] and min(window) >= (1 - CLOSE) * window[0]:
        return f'the loss has not fallen from its first {window[0]:.3f} in {last:,} steps'
    return None


def dead_layers(active):
    """Return the names of the layers whose activations are all 0, given {name: whether any is not}."""
    return [name for name, is_active in active.items() if not is_active]


# By prefix of the network's name: the cause, and the authors' remedy.
_KNOWN = {
    'alexnet': (
        'its initial weights are small (0.01) and its ReLUs need a positive input: Krizhevsky et al. 2012 set the '
        'biases of conv2, conv4, conv5 and the hidden fully connected layers to 1 '
        '(configs/NAME.py:option.hidden_bias=1)'
    ),
    'zfnet': (
        'a large filter of the first layer can dominate: Zeiler and Fergus 2013 limit the root mean square of every '
        'filter to 0.1 (filter_rms)'
    ),
    'vgg': (
        'it is deep for random initial weights: Simonyan and Zisserman 2014 train A first and start the others from it '
        "(--config.init_from=runs/vgg_a), or use Glorot's initialization "
        '(configs/NAME.py:option.initializer=xavier)'
    ),
    'googlenet': (
        'it is deep: Szegedy et al. 2014 add two auxiliary classifiers in training, Caffe sets the biases to 0.2 '
        '(auxiliary_heads, auxiliary_weight)'
    ),
    'resnet110': (
        'it is too deep for an initial rate of 0.1: He et al. 2015 start with 0.01 until the training error is below '
        '80% (warmup.learning_rate)'
    ),
    'resnet1202': 'as in ResNet-110: use a warm-up with a rate of 0.01 (warmup.learning_rate)',
    'plain': 'plain networks of this depth learn slowly, as He et al. 2015 found; batch norm must be on',
}
_OTHER = (
    'weights too small or too large for the depth (He et al. 2015 initialize them with a variance of 2/n: '
    'configs/NAME.py:option.initializer=he_fan_out), a learning rate too high or too low'
)


def warning(symptom, dead, architecture):
    """Format the warning: the symptom, the dead layers, the known cause and the paper's remedy."""
    names = sorted((name for name in _KNOWN if architecture.startswith(name)), key=len)
    parts = [symptom] if symptom else []
    if dead:
        parts.append(f'every activation of {", ".join(dead)} is 0, so no gradient passes')
    return f'{"; ".join(parts)}. Known cause: {_KNOWN[names[-1]] if names else _OTHER}'


def check(rows, config, dead):
    """Return the warning for a run after the last row of its log, or None. A run gets only one warning.

    Args:
      rows: the rows of the log.
      config: the run's config.
      dead: () -> the names of its dead layers.
    """
    if not config.stall_steps or any(row['kind'] == 'warning' for row in rows):
        return None
    of_loss = symptom(rows, config.stall_steps, config.num_classes)
    if not of_loss and not first_look(rows, config.stall_steps):
        return None
    names = dead()
    return warning(of_loss, names, config.architecture) if of_loss or names else None


def diverged(run, at, controller, checkpoints):
    """Return the UserError for a run whose loss, or a parameter, is not finite at step `at`."""
    rate, good = float(run.rate(at, controller)), checkpoints.latest()
    last_good = f'the last good checkpoint is step {good}' if good else 'there is no checkpoint yet'
    key = 'learning_rates' if run.config.schedule == 'steps' else 'learning_rate'
    if run.warmup.learning_rate and not schedules.warmup_is_over(controller):
        key = 'warmup.learning_rate'
    next_step = 'resume from there, or use another --workdir to start again' if good else 'start again'
    return UserError(
        f'the loss is no longer a finite number at step {at:,} (learning rate {rate:g}); stopped, {last_good} in '
        f'{checkpoints.folder}. Lower --config.{key} to {next_step}'
    )
