"""Stochastic diagonal Levenberg-Marquardt, the optimizer of LeNet-5 (LeCun et al. 1998, section III and appendix C).

Every parameter has a rate of its own, eta / (mu + h_kk). h_kk is a running estimate of the diagonal of the Hessian in
the Gauss-Newton approximation, taken on a few hundred samples before each pass and then held.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from architectures import graph


class _Path(NamedTuple):
    """A value of the backward pass that depends on the seed: the second derivative `h` times `factor` squared.

    The factor is kept apart through elementwise equations, for one unit's f' may be written as a sum: JAX's tanh has
    (g + g t)(1 - t) for g (1 - t^2), and (1 + t)^2 is not 1 + t^2. `unit` is the same for values of the same units.
    """

    h: jax.Array
    factor: jax.Array | float
    unit: object

    def squared(self):
        return self.h * self.factor**2


def diagonal_hessian(loss, x):
    """The exact diagonal of the Hessian of `loss` ([n] -> scalar) at x [n]."""
    basis = jnp.eye(len(x), dtype=x.dtype)
    return jax.vmap(lambda e: jax.jvp(jax.grad(loss), (x,), (e,))[1] @ e)(basis)


def squared_backward(function, params, seed):
    """The backward pass of `function` with every factor squared: second derivatives in place of first.

    The paper's recursions, for a unit a_i = sum_j u_ij x_j with x_i = f(a_i):

        d2E/du_ij^2 = d2E/da_i^2 * x_j^2
        d2E/da_i^2  = f'(a_i)^2 * sum_k u_ki^2 * d2E/da_k^2

    are the backward pass with x, u and f' squared; a shared weight sums over its positions, as its gradient does. So
    the pass is taken from JAX, as a list of equations linear in the incoming derivative, and run with the
    coefficients squared. It holds for networks in which each unit reaches the next layer by one path a connection;
    where paths meet again (a residual addition) their contributions are added, as the recursion does.

    Args:
      function: params -> outputs.
      params: a tree.
      seed: d2E/d(output)^2, shaped as the outputs.

    Returns:
      h, a tree like `params`.

    Raises:
      UserError: the backward pass has an operation that is not known to be linear.
    """
    _, backward = jax.vjp(function, params)
    jaxpr, shape = jax.make_jaxpr(backward, return_shape=True)(seed)
    leaves = [_settle(x) for x in graph.walk(_RULES, jaxpr, [_path(seed)])]
    (h,) = jax.tree.unflatten(jax.tree.structure(shape), leaves)
    return h


def _path(h):
    """A value of units of its own."""
    return _Path(h, 1.0, object())


def _settle(value):
    return value.squared() if isinstance(value, _Path) else value


def _elementwise(operation, *values):
    """Factors of the same units go through it as they are; the values of different units are added up."""
    paths = [value for value in values if isinstance(value, _Path)]
    if all(path.unit is paths[0].unit for path in paths):
        h = jnp.broadcast_to(paths[0].h, operation.outputs[0].shape)
        factors = [jnp.broadcast_to(v.factor, h.shape) if isinstance(v, _Path) else v for v in values]
        return _Path(h, operation.compute(*factors), paths[0].unit)
    if operation.name == 'sub':  # (-1)^2
        return _path(sum(map(_settle, values)))
    return _moved(operation, *values) if operation.name in ('add', 'add_any', 'select_n') else NotImplemented


def _moved(operation, *values):
    """Elements are moved, repeated or added up."""
    results = operation.compute(*map(_settle, values))
    return [_path(x) for x in results] if isinstance(results, list) else _path(results)


def _product(operation, x, y):
    """Sums of products with coefficients, which are squared."""
    squares = [v.squared() if isinstance(v, _Path) else v * v for v in (x, y)]
    return NotImplemented if isinstance(x, _Path) and isinstance(y, _Path) else _path(operation.compute(*squares))


_ELEMENTWISE = ('mul', 'div', 'neg', 'add', 'add_any', 'sub', 'select_n', 'convert_element_type', 'copy')
_MOVES = (
    'broadcast_in_dim', 'concatenate', 'dynamic_slice', 'dynamic_update_slice', 'expand_dims', 'gather', 'pad',
    'reduce_sum', 'reshape', 'rev', 'scatter-add', 'slice', 'split', 'squeeze', 'stack', 'transpose', 'unstack',
    'select_and_scatter_add',  # to where a max pool took its values
)  # fmt: skip
_RULES = graph.Rules(
    'curvature (training/sdlm.py)',
    follows=_Path,
    table={
        **dict.fromkeys(_ELEMENTWISE, _elementwise),
        **dict.fromkeys(_MOVES, _moved),
        **dict.fromkeys(('dot_general', 'conv_general_dilated'), _product),
    },
    computes=True,
)


class SdlmState(NamedTuple):
    """The curvature h_kk of each parameter, held during a pass, and how often it was estimated."""

    curvature: optax.Params
    estimates: jax.Array


def scale_by_sdlm(mu=0.02):
    """The optax transformation g_k -> g_k / (mu + h_kk); chain it with `optax.scale_by_learning_rate(eta)`.

    The curvature in its state starts at 1; `update_curvature` puts each new estimate there.
    """

    def init(params):
        return SdlmState(jax.tree.map(jnp.ones_like, params), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda g, h: g / (mu + h), updates, state.curvature), state

    return optax.GradientTransformation(init, update)


def update_curvature(opt_state, h, memory=0.0):
    """An optimizer state with SDLM in it, with the new estimate h weighed in.

    Args:
      opt_state: of a chain with `scale_by_sdlm`.
      h: of `curvature`.
      memory: the weight of what was held; 0 forgets it. The first estimate is taken as it is.
    """
    first = optax.tree.get(opt_state, 'estimates') == 0
    memory = jnp.where(first, 0.0, memory)
    held = optax.tree.get(opt_state, 'curvature')
    mixed = jax.tree.map(lambda old, new: memory * old + (1 - memory) * new, held, h)
    return optax.tree.set(opt_state, curvature=mixed, estimates=optax.tree.get(opt_state, 'estimates') + 1)


def curvature(features, loss, params, images, labels):
    """h_kk: the Gauss-Newton diagonal of the mean loss over some samples, section III and appendix C.

    Args:
      features: (params, images) -> [B, n], the network up to its last trainable layer.
      loss: (features [n], label) -> scalar, the rest; its Hessian's diagonal is taken exactly. For the RBF units of
        LeNet-5 and the plain criterion it is 2, the paper's value.
      params: a tree.
      images, labels: the samples, [B, ...] and [B].

    Returns:
      h, a tree like `params`, every entry at least 0.
    """
    outputs = features(params, images)
    seed = jax.vmap(lambda x, label: diagonal_hessian(lambda x: loss(x, label), x))(outputs, labels)
    return squared_backward(lambda params: features(params, images), params, seed / len(labels))
