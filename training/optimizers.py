"""The optimizers by name, built from optax, and what the papers' programs add to plain SGD."""

import functools

import jax
import jax.numpy as jnp
import optax

from runtime.errors import UserError, nearest
from training.sdlm import scale_by_sdlm

DECAYED = ('all', 'weights')


def create(
    name, momentum=0.0, weight_decay=0.0, mu=0.02, *, rate_inside=False, decayed='all', bias_rate=1.0, clip_norm=0.0,
    filter_rms=0.0, convolutions=(), rule=None,
):  # fmt: skip
    """Return the optimizer of that name; its `update` takes the learning rate as the keyword `rate`.

    Let g be the gradient, d the weight decay, m the momentum and e the rate. All optimizers first add L2 decay to the
    gradient, g <- g + d w. The forms of momentum are

        outside (Torch: fb.resnet.torch and its heirs)     v <- m v + g;    w <- w - e v
        inside (cuda-convnet2, Caffe)                      v <- m v + e g;  w <- w - v
        nesterov, outside (Torch)                          v <- m v + g;    w <- w - e (g + m v)
        nesterov, inside (Sutskever et al. 2013)           v <- m v + e g;  w <- w - (e g + m v)

    They agree while the rate is constant; after a drop, the inside form keeps the old, larger velocity for about
    1/(1 - m) steps. In Sutskever's form the parameters are those at which the gradient is computed, m v ahead of his.

    The others divide g by a running size of the gradient, which does not contain the rate, and have options (`rule`):

        adagrad (Duchi et al. 2011)   s <- s + g^2;                    w <- w - e g / sqrt(s + epsilon)
        rmsprop (Hinton 2012)         s <- decay s + (1 - decay) g^2;  u = g / sqrt(s + epsilon), and momentum on u
        adam (Kingma and Ba 2014)     m <- b1 m + (1 - b1) g;  s <- b2 s + (1 - b2) g^2, both divided by 1 - b^t;
                                      w <- w - e m / (sqrt(s) + epsilon)

    s starts at `initial`: 0.1 for adagrad (as in TensorFlow; in the paper 0), 0 for rmsprop (in TensorFlow 1). The
    RMSProp of Inception (Szegedy et al. 2015) has decay 0.9, momentum 0.9, epsilon 1.0, and in TensorFlow initial 1 and
    the rate inside.

    Args:
      name: 'sgd', 'momentum', 'nesterov', 'adagrad', 'rmsprop', 'adam', or 'sdlm' (LeCun et al. 1998).
      momentum: m, for 'momentum' and 'nesterov'.
      weight_decay: d.
      mu: for 'sdlm', added to the curvature.
      rate_inside: whether the velocity includes the rate; for 'rmsprop' the velocity of its momentum.
      decayed: 'all' parameters (fb.resnet.torch), or 'weights', kernels only (Caffe, and the papers' wording). PReLU's
        slopes never decay, which would bias them towards ReLU (He et al. 2015a, section 2.1).
      bias_rate: factor of the rate for biases; 2 in Caffe's models.
      clip_norm: the maximum norm of the whole gradient, before decay; 0 for no limit.
      filter_rms: the maximum root mean square of a convolution's filter; larger filters are scaled back after the
        update (Zeiler and Fergus 2013, section 3.1: 0.1). 0 for no limit.
      convolutions: paths of the layers that `filter_rms` applies to, from `architectures.convolutions`.
      rule: options by name: {'initial', 'epsilon'} for 'adagrad', {'decay', 'momentum', 'epsilon', 'initial'} for
        'rmsprop', {'beta1', 'beta2', 'epsilon'} for 'adam'; the others have none.

    Returns:
      An `optax.GradientTransformationExtraArgs`: update(gradients, state, params, rate=...).

    Raises:
      UserError: an unknown name, or an invalid `decayed`.
    """
    if name not in _RULES:
        raise UserError(f'no optimizer {name!r}{nearest(name, _RULES)} There are: {", ".join(_RULES)}.')
    if decayed not in DECAYED:
        raise UserError(f'decayed must be one of {", ".join(DECAYED)}, not {decayed!r}')
    options = {'momentum': {'momentum': momentum}, 'nesterov': {'momentum': momentum}, 'sdlm': {'mu': mu}}
    normalize, velocity = _RULES[name](**options.get(name, rule or {}))
    rate = _scale_by_rate()
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    decay = [optax.add_decayed_weights(weight_decay, mask=_mask(decayed))] if weight_decay else []
    biases = [_scale_biases(bias_rate)] if bias_rate != 1 else []
    steps = [*normalize, rate, *velocity] if rate_inside else [*normalize, *velocity, rate]
    filters = [clip_filters(filter_rms, convolutions)] if filter_rms else []
    return optax.chain(*clip, *decay, *biases, *steps, *filters)


# The rules by name return (normalization of the gradient, momentum), each a list of at most one transformation.


def _momentum(momentum, nesterov=False):
    return [], [optax.trace(momentum, nesterov)]


def _adagrad(initial=0.1, epsilon=1e-7):
    return [optax.scale_by_rss(initial, epsilon)], []


def _rmsprop(decay=0.9, momentum=0.0, epsilon=1e-8, initial=0.0):
    return [optax.scale_by_rms(decay, epsilon, initial)], [optax.trace(momentum)] if momentum else []


def _adam(beta1=0.9, beta2=0.999, epsilon=1e-8):
    return [optax.scale_by_adam(beta1, beta2, epsilon)], []


_RULES = {
    'sgd': lambda: ([], [optax.identity()]),
    'momentum': _momentum,
    'nesterov': functools.partial(_momentum, nesterov=True),
    'adagrad': _adagrad,
    'rmsprop': _rmsprop,
    'adam': _adam,
    'sdlm': lambda mu: ([], [scale_by_sdlm(mu)]),
}
OPTIONS = ('adagrad', 'rmsprop', 'adam')  # whose options are a group of the config


def _scale_by_rate():
    """Multiply updates by -rate; the rate is an argument, since it may depend on more than the step's number."""

    def scaled(updates, state, params=None, *, rate, **_):
        return jax.tree.map(lambda update: -rate * update, updates), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), scaled)


def _kind(path):
    """Return the last name of a parameter's path: 'kernel', 'bias', 'scale', 'slope', ...; '' for a bare array."""
    return getattr(path[-1], 'key', '') if path else ''


def _mask(decayed):
    def decays(path, _):
        return _kind(path) == 'kernel' if decayed == 'weights' else _kind(path) != 'slope'

    return lambda params: jax.tree_util.tree_map_with_path(decays, params)


def _scale_biases(factor):
    def scaled(path, update):
        return factor * update if _kind(path) == 'bias' else update

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scaled, updates))


def only(optimizer, layers):
    """Restrict an optimizer to some layers of a network: the other parameters stay fixed, and cost no gradient.

    Args:
      optimizer: from `create`.
      layers: names such as 'classifier' or 'conv5_x/block1', each with all layers below it.

    Returns:
      An `optax.GradientTransformationExtraArgs`; its `init` raises UserError for an unknown layer.
    """

    def is_trained(path):
        name = '/'.join(key.key for key in path) + '/'
        return any(name.startswith(f'{layer}/') for layer in layers)

    def only_trained(tree):
        return jax.tree_util.tree_map_with_path(lambda path, x: x if is_trained(path) else jnp.zeros_like(x), tree)

    def init(params):
        names = ['/'.join(key.key for key in path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
        for layer in layers:
            if not any(name.startswith(f'{layer}/') for name in names):
                of_network = list(dict.fromkeys(name.rpartition('/')[0] for name in names))
                raise UserError(f'trained_layers: this network has no layer {layer!r}{nearest(layer, of_network)}')
        return optimizer.init(params)

    def update(updates, state, params=None, **extra):
        updates, state = optimizer.update(only_trained(updates), state, params, **extra)
        return only_trained(updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def clip_filters(limit, convolutions):
    """Scale each convolution filter whose root mean square would exceed `limit` after the update back to it.

    Args:
      limit: the maximum root mean square.
      convolutions: paths of layers, {('layer1_conv',), ...}. A filter computes one output channel: it is [k, k', C] of
        a kernel [..., k, k', C, F]. Other layers have no limit; fully connected ones may have kernels of
        as many axes.
    """

    def clipped(path, update, param):
        if _kind(path) != 'kernel' or tuple(key.key for key in path[:-1]) not in convolutions:
            return update
        after = param + update
        rms = jnp.sqrt(jnp.mean(after**2, axis=(-4, -3, -2), keepdims=True))
        return after * jnp.minimum(1, limit / jnp.maximum(rms, jnp.finfo(rms.dtype).tiny)) - param

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(clipped, updates, params))
