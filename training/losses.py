"""Losses of one example, computed from its logits; the training step averages them over the batch."""

import functools

import jax
import jax.numpy as jnp

from runtime.errors import UserError, nearest


def cross_entropy(logits, label):
    """-log softmax(logits)[label]; logits [num_classes], label an int."""
    return jax.nn.logsumexp(logits) - logits[label]


def penalty(logits, label):
    """The penalty of the correct class (LeCun et al. 1998, Eq. 8); logits are negated penalties."""
    return -logits[label]


def discriminative_penalty(logits, label, rubbish):
    """The penalty of the correct class plus a term that raises those of the others (LeCun et al. 1998, Eq. 9).

    y_label + log(exp(-j) + sum_i exp(-y_i)), with y = -logits: the cross-entropy of a softmax over the classes and one
    more, the rubbish class, whose constant penalty j keeps the penalties of wrong classes from growing without bound.
    The paper requires a positive j, `rubbish`, and does not give its value.
    """
    return jax.nn.logsumexp(jnp.append(logits, -rubbish)) - logits[label]


_LOSSES = {f.__name__: f for f in (cross_entropy, penalty, discriminative_penalty)}


def smoothed_cross_entropy(logits, label, smoothing):
    """The cross-entropy with a fraction `smoothing` of the target spread over all classes.

    Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision", section 7.
    """
    target = (1 - smoothing) * logits[label] + smoothing * jnp.mean(logits)
    return jax.nn.logsumexp(logits) - target


def create(name, rubbish=1.0, smoothing=0.0):
    """Return the loss of that name, a function (logits [num_classes], label) -> scalar.

    Args:
      name: 'cross_entropy', 'penalty' or 'discriminative_penalty'.
      rubbish: Eq. 9's j.
      smoothing: label smoothing, for 'cross_entropy'.
    """
    if name not in _LOSSES:
        raise UserError(f'no loss {name!r}{nearest(name, _LOSSES)} There are: {", ".join(_LOSSES)}.')
    if name == 'discriminative_penalty':
        return functools.partial(discriminative_penalty, rubbish=rubbish)
    if smoothing:
        if name != 'cross_entropy' or not 0 <= smoothing < 1:
            raise UserError(
                f'label_smoothing requires cross_entropy and 0 <= label_smoothing < 1, not {name} and {smoothing}'
            )
        return functools.partial(smoothed_cross_entropy, smoothing=smoothing)
    return _LOSSES[name]
