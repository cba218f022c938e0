"""Does the run learn? Its symptoms when it does not, and what the papers did about them."""

import math

from runtime.errors import UserError
from training import schedules

CLOSE = 0.01  # to ln(classes), or to the first loss, relatively


def first_look(rows, steps):
    """Whether the last line of training is the first at or after step `steps`."""
    seen = [row['step'] for row in rows if row['kind'] == 'train']
    return bool(seen) and seen[-1] >= steps and (len(seen) == 1 or seen[-2] < steps)


def symptom(rows, steps, num_classes):
    """What the loss of the last `steps` steps says, or None.

    Args:
      rows: of the log.
      steps: how long the loss must have stayed.
      num_classes: a network that knows nothing has a loss of ln(num_classes).
    """
    rows = [row for row in rows if row['kind'] == 'train']
    if not rows or rows[-1]['step'] < steps:
        return None
    last = rows[-1]['step']
    window = [row['loss'] for row in rows if row['step'] > last - steps]
    chance = math.log(num_classes)
    if all(abs(loss - chance) <= CLOSE * chance for loss in window):
        return f'the loss has stayed at ln({num_classes}) = {chance:.3f}, that of a guess, for {steps:,} steps'
    if len(window) > 1 and window[0] == rows[0]['loss'] and min(window) >= (1 - CLOSE) * window[0]:
        return f'the loss has not fallen from its first {window[0]:.3f} in {last:,} steps'
    return None


def dead_layers(active):
    """The names of the layers whose activations are all 0."""
    return [name for name, alive in active.items() if not alive]


# By the beginning of a network's name: what stops it, and what its authors did.
_KNOWN = {
    'alexnet': (
        'its weights start small (0.01) and its ReLUs need a positive input: Krizhevsky et al. 2012 start the biases '
        'of conv2, conv4, conv5 and the hidden fully connected layers at 1 (configs/NAME.py:option.hidden_bias=1)'
    ),
    'zfnet': (
        'a large filter of the first layer can dominate: Zeiler and Fergus 2013 scale every filter back to a root mean '
        'square of 0.1 (filter_rms)'
    ),
    'vgg': (
        'it is deep for weights that start at random: Simonyan and Zisserman 2014 train A first and start the others '
        'from it (--config.init_from=runs/vgg_a), or draw the weights as Glorot does '
        '(configs/NAME.py:option.initializer=xavier)'
    ),
    'googlenet': (
        'it is deep: Szegedy et al. 2014 add two auxiliary classifiers in training, Caffe starts the biases at 0.2 '
        '(auxiliary_heads, auxiliary_weight)'
    ),
    'resnet110': (
        'it is too deep for a rate of 0.1 from the start: He et al. 2015 begin with 0.01 until the training error is '
        'below 80% (warmup.learning_rate)'
    ),
    'resnet1202': 'as of ResNet-110: a warm-up with a rate of 0.01 (warmup.learning_rate)',
    'plain': 'plain networks of this depth learn slowly, which is the finding of He et al. 2015; batch norm must be on',
}
_ELSE = (
    'weights too small or too large for the depth (He et al. 2015 draw them with a variance of 2/n: '
    'configs/NAME.py:option.initializer=he_fan_out), a learning rate too high or too low'
)


def warning(symptom, dead, architecture):
    """One line: the symptom, the dead layers, the known cause and what the paper did about it."""
    names = sorted((name for name in _KNOWN if architecture.startswith(name)), key=len)
    parts = [symptom] if symptom else []
    if dead:
        parts.append(f'every activation of {", ".join(dead)} is 0, so no gradient passes')
    return f'{"; ".join(parts)}. Known cause: {_KNOWN[names[-1]] if names else _ELSE}'


def look(rows, config, dead):
    """The warning that a run needs after the last line of its log, or None; it is warned once.

    Args:
      rows: of the log.
      config: of the run.
      dead: () -> the names of its dead layers.
    """
    if not config.stall_steps or any(row['kind'] == 'warning' for row in rows):
        return None
    found = symptom(rows, config.stall_steps, config.num_classes)
    if not found and not first_look(rows, config.stall_steps):
        return None
    names = dead()
    return warning(found, names, config.architecture) if found or names else None


def diverged(run, at, controller, checkpoints):
    """The error of a run whose loss, or a parameter, is no longer a finite number from step `at` on."""
    rate, good = float(run.rate(at, controller)), checkpoints.latest()
    keeps = f'the last good checkpoint is step {good}' if good else 'there was no checkpoint yet'
    key = 'learning_rates' if run.config.schedule == 'steps' else 'learning_rate'
    if run.warmup.learning_rate and not schedules.warmup_is_over(controller):
        key = 'warmup.learning_rate'
    onwards = 'resume from there, or use another --workdir to start again' if good else 'start again'
    return UserError(
        f'the loss is no longer a finite number at step {at:,} (learning rate {rate:g}); stopped, {keeps} in '
        f'{checkpoints.folder}. Lower --config.{key} to {onwards}'
    )
