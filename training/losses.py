"""Losses of one example from its logits; the step averages them over the batch."""

import functools

import jax
import jax.numpy as jnp

from errors import UserError, nearest


def cross_entropy(logits, label):
    """-log softmax(logits)[label]; logits [num_classes], label an int."""
    return jax.nn.logsumexp(logits) - logits[label]


def penalty(logits, label):
    """The penalty of the right class (LeCun et al. 1998, Eq. 8); logits are penalties with the sign changed."""
    return -logits[label]


def discriminative_penalty(logits, label, rubbish):
    """The penalty of the right class, and a push on the others (LeCun et al. 1998, Eq. 9).

    y_label + log(exp(-j) + sum_i exp(-y_i)), with y = -logits: the cross-entropy of a softmax over the classes and one
    more, the rubbish class, whose penalty is the constant j. It keeps the penalties of wrong classes from being pushed
    up for ever. The paper asks for a positive j, `rubbish`, and does not tell its own.
    """
    return jax.nn.logsumexp(jnp.append(logits, -rubbish)) - logits[label]


_LOSSES = {f.__name__: f for f in (cross_entropy, penalty, discriminative_penalty)}


def create(name, rubbish=1.0):
    """The loss of that name, as a function (logits [num_classes], label) -> scalar; `rubbish` is Eq. 9's j."""
    if name not in _LOSSES:
        raise UserError(f'no loss {name!r}{nearest(name, _LOSSES)} There are: {", ".join(_LOSSES)}.')
    if name == 'discriminative_penalty':
        return functools.partial(discriminative_penalty, rubbish=rubbish)
    return _LOSSES[name]
