"""The optimisers by name, all through optax."""

import optax

from errors import UserError, nearest
from training.sdlm import scale_by_sdlm


def create(name, schedule, momentum=0.0, weight_decay=0.0, mu=0.02):
    """The optimiser of that name.

    Args:
      name: 'sgd', 'momentum', 'nesterov', 'adagrad', 'rmsprop', 'adam', or 'sdlm' (LeCun et al. 1998).
      schedule: step -> learning rate.
      momentum: of 'momentum' and 'nesterov'. The rate stays outside the velocity, as in Torch:
        v <- momentum v + g, w <- w - rate v.
      weight_decay: L2 in the gradient, g + weight_decay w, on every parameter.
      mu: of 'sdlm', added to the curvature.

    Returns:
      An `optax.GradientTransformation`.

    Raises:
      UserError: an unknown name.
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
    decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    return optax.chain(*decay, scale[name](), optax.scale_by_learning_rate(schedule))
