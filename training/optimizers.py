"""The optimisers by name, all through optax, and what the papers' codes add to plain SGD."""

import jax
import jax.numpy as jnp
import optax

from errors import UserError, nearest
from training.sdlm import scale_by_sdlm

DECAYED = ('all', 'weights')


def create(
    name, momentum=0.0, weight_decay=0.0, mu=0.02, *, rate_inside=False, decayed='all', bias_rate=1.0, clip_norm=0.0,
    filter_rms=0.0,
):  # fmt: skip
    """The optimiser of that name; its `update` takes the learning rate as the keyword `rate`.

    With g the gradient, d the weight decay, m the momentum, e the rate, g <- g + d w first, decay is L2 in the gradient
    in all of them, and the forms of momentum are

        outside (Torch: fb.resnet.torch and its heirs)     v <- m v + g;    w <- w - e v
        inside (cuda-convnet2, Caffe)                      v <- m v + e g;  w <- w - v
        nesterov, outside (Torch)                          v <- m v + g;    w <- w - e (g + m v)
        nesterov, inside (Sutskever et al. 2013)           v <- m v + e g;  w <- w - (e g + m v)

    They agree while the rate stays; after a drop the inside form goes on with the old, larger velocity for about
    1/(1 - m) steps. Sutskever's form holds the parameters at which the gradient is taken, ahead of its own by m v.

    Args:
      name: 'sgd', 'momentum', 'nesterov', 'adagrad', 'rmsprop', 'adam', or 'sdlm' (LeCun et al. 1998).
      momentum: of 'momentum' and 'nesterov'.
      weight_decay: d.
      mu: of 'sdlm', added to the curvature.
      rate_inside: whether the rate goes into the velocity.
      decayed: 'all' parameters (fb.resnet.torch), or 'weights': kernels alone (Caffe, and the papers' words). Slopes of
        PReLUs never decay: it would push them towards ReLU (He et al. 2015a, section 2.1).
      bias_rate: times the rate, for biases; 2 in Caffe's models.
      clip_norm: the largest norm of the whole gradient, decay not counted; 0: any.
      filter_rms: the largest root mean square of a convolution's filter, which is scaled back to it after the update
        (Zeiler and Fergus 2013, section 3.1: 0.1); 0: any.

    Returns:
      An `optax.GradientTransformationExtraArgs`: update(gradients, state, params, rate=...).

    Raises:
      UserError: an unknown name, or a wrong `decayed`.
    """
    scale = {
        'sgd': lambda: optax.identity(),
        'momentum': lambda: optax.trace(momentum),
        'nesterov': lambda: optax.trace(momentum, nesterov=True),
        'adagrad': lambda: optax.scale_by_rss(),
        'rmsprop': lambda: optax.scale_by_rms(),
        'adam': lambda: optax.scale_by_adam(),
        'sdlm': lambda: scale_by_sdlm(mu),
    }
    if name not in scale:
        raise UserError(f'no optimizer {name!r}{nearest(name, scale)} There are: {", ".join(scale)}.')
    if decayed not in DECAYED:
        raise UserError(f'decayed must be one of {", ".join(DECAYED)}, not {decayed!r}')
    rate = _scale_by_rate()
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    decay = [optax.add_decayed_weights(weight_decay, mask=_mask(decayed))] if weight_decay else []
    biases = [_scale_biases(bias_rate)] if bias_rate != 1 else []
    rule = [rate, scale[name]()] if rate_inside else [scale[name](), rate]
    filters = [clip_filters(filter_rms)] if filter_rms else []
    return optax.chain(*clip, *decay, *biases, *rule, *filters)


def _scale_by_rate():
    """-rate times the update; the rate comes with each step, for it may hang on more than the step's number."""

    def scaled(updates, state, params=None, *, rate, **_):
        return jax.tree.map(lambda update: -rate * update, updates), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), scaled)


def _kind(path):
    """'kernel', 'bias', 'scale', 'slope', ...: the last name on the way to a parameter; '' for a bare array."""
    return getattr(path[-1], 'key', '') if path else ''


def _mask(decayed):
    def wanted(path, _):
        return _kind(path) == 'kernel' if decayed == 'weights' else _kind(path) != 'slope'

    return lambda params: jax.tree_util.tree_map_with_path(wanted, params)


def _scale_biases(factor):
    def scaled(path, update):
        return factor * update if _kind(path) == 'bias' else update

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scaled, updates))


def only(optimizer, layers):
    """The optimiser for some layers of a network: the others' parameters stay as they are, and cost no gradient.

    Args:
      optimizer: of `create`.
      layers: names as in 'classifier' or 'conv5_x/block1'; what lies below one is of it.

    Returns:
      An `optax.GradientTransformationExtraArgs`; its `init` raises UserError for a layer that is not there.
    """

    def learns(path):
        name = '/'.join(key.key for key in path) + '/'
        return any(name.startswith(f'{layer}/') for layer in layers)

    def kept(tree):
        return jax.tree_util.tree_map_with_path(lambda path, x: x if learns(path) else jnp.zeros_like(x), tree)

    def init(params):
        names = ['/'.join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for layer in layers:
            if not any(name.startswith(f'{layer}/') for name in names):
                there = list(dict.fromkeys(name.rpartition('/')[0] for name in names))
                raise UserError(f'trained_layers: this network has no layer {layer!r}{nearest(layer, there)}')
        return optimizer.init(params)

    def update(updates, state, params=None, **extra):
        updates, state = optimizer.update(kept(updates), state, params, **extra)
        return kept(updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def clip_filters(limit):
    """Scales each filter of a convolution that the update would make larger than `limit`, by root mean square, to it.

    A filter is what makes one output channel, [k, k', C]. Biases and fully connected layers are left alone.
    """

    def clipped(update, param):
        if param.ndim != 4:
            return update
        after = param + update
        rms = jnp.sqrt(jnp.mean(after**2, axis=(0, 1, 2), keepdims=True))
        return after * jnp.minimum(1, limit / jnp.maximum(rms, jnp.finfo(rms.dtype).tiny)) - param

    return optax.stateless(lambda updates, params: jax.tree.map(clipped, updates, params))
