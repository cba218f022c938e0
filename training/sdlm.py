"""Stochastic diagonal Levenberg-Marquardt, the optimizer of LeNet-5 (LeCun et al. 1998, section III and appendix C).

Every parameter has its own learning rate, eta / (mu + h_kk). h_kk is a running estimate of the diagonal of the Hessian
in the Gauss-Newton approximation, computed on a few hundred samples before each pass and constant during the pass.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from architectures import graph
from input_pipeline import loader


class _Path(NamedTuple):
    """A value of the backward pass that depends on the seed: the second derivative `h` times `factor` squared.

    Elementwise equations keep the factor separate, because one unit's f' may be computed as a sum: JAX's tanh has
    (g + g t)(1 - t) for g (1 - t^2), and (1 + t)^2 is not 1 + t^2. Values of the same units share one `unit`.
    """

    h: jax.Array
    factor: jax.Array | float
    unit: object

    def squared(self):
        return self.h * self.factor**2


def diagonal_hessian(loss, x):
    """Return the exact diagonal of the Hessian of `loss` ([n] -> scalar) at x [n]."""
    basis = jnp.eye(len(x), dtype=x.dtype)
    return jax.vmap(lambda e: jax.jvp(jax.grad(loss), (x,), (e,))[1] @ e)(basis)


def squared_backward(function, params, seed):
    """Run the backward pass of `function` with every factor squared: second derivatives in place of first.

    The paper's recursions, for a unit a_i = sum_j u_ij x_j with x_i = f(a_i):

        d2E/du_ij^2 = d2E/da_i^2 * x_j^2
        d2E/da_i^2  = f'(a_i)^2 * sum_k u_ki^2 * d2E/da_k^2

    are the backward pass with x, u and f' squared; a shared weight sums over its positions, as its gradient does. So
    this function takes the pass from JAX, as a list of equations linear in the incoming derivative, and runs it with
    squared coefficients. It is valid for networks in which each connection is a single path to the next layer; where
    paths meet again (a residual addition) their contributions are added, as in the recursion.

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
    """Return a value of new units."""
    return _Path(h, 1.0, object())


def _settle(value):
    return value.squared() if isinstance(value, _Path) else value


def _elementwise(operation, *values):
    """Apply the operation to the factors of the same units; add up the values of different units."""
    paths = [value for value in values if isinstance(value, _Path)]
    if all(path.unit is paths[0].unit for path in paths):
        h = jnp.broadcast_to(paths[0].h, operation.outputs[0].shape)
        factors = [jnp.broadcast_to(v.factor, h.shape) if isinstance(v, _Path) else v for v in values]
        return _Path(h, operation.compute(*factors), paths[0].unit)
    if operation.name == 'sub':  # (-1)^2
        return _path(sum(map(_settle, values)))
    return _moved(operation, *values) if operation.name in ('add', 'add_any', 'select_n') else NotImplemented


def _moved(operation, *values):
    """Move, repeat or add up elements."""
    results = operation.compute(*map(_settle, values))
    return [_path(x) for x in results] if isinstance(results, list) else _path(results)


def _product(operation, x, y):
    """Sum products with the squared coefficients."""
    squares = [v.squared() if isinstance(v, _Path) else v * v for v in (x, y)]
    return NotImplemented if isinstance(x, _Path) and isinstance(y, _Path) else _path(operation.compute(*squares))


_ELEMENTWISE = ('mul', 'div', 'neg', 'add', 'add_any', 'sub', 'select_n', 'convert_element_type', 'copy')
_MOVES = (
    'broadcast_in_dim', 'concatenate', 'dynamic_slice', 'dynamic_update_slice', 'expand_dims', 'gather', 'pad',
    'reduce_sum', 'reshape', 'rev', 'scatter-add', 'slice', 'split', 'squeeze', 'stack', 'transpose', 'unstack',
    'select_and_scatter_add',  # to the positions of a max pool's maxima
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
    """The curvature h_kk of each parameter, constant during a pass, and the number of estimates so far."""

    curvature: optax.Params
    estimates: jax.Array


def scale_by_sdlm(mu=0.02):
    """Return the optax transformation g_k -> g_k / (mu + h_kk); chain it with `optax.scale_by_learning_rate(eta)`.

    The curvature in its state starts at 1; `update_curvature` adds each new estimate.
    """

    def init(params):
        return SdlmState(jax.tree.map(jnp.ones_like, params), jnp.zeros((), jnp.int32))

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda g, h: g / (mu + h), updates, state.curvature), state

    return optax.GradientTransformation(init, update)


def update_curvature(opt_state, h, memory=0.0):
    """Return an optimizer state with the new estimate h averaged into its curvature.

    Args:
      opt_state: state of a chain with `scale_by_sdlm`.
      h: from `curvature`.
      memory: the weight of the old curvature; 0 forgets it. The first estimate replaces the initial 1.
    """
    first = optax.tree.get(opt_state, 'estimates') == 0
    memory = jnp.where(first, 0.0, memory)
    old_h = optax.tree.get(opt_state, 'curvature')
    mean_h = jax.tree.map(lambda old, new: memory * old + (1 - memory) * new, old_h, h)
    return optax.tree.set(opt_state, curvature=mean_h, estimates=optax.tree.get(opt_state, 'estimates') + 1)


def curvature(features, loss, params, images, labels):
    """Return h_kk, the Gauss-Newton diagonal of the mean loss over some samples (section III and appendix C).

    Args:
      features: (params, images) -> [B, n], the network up to its last trainable layer.
      loss: (features [n], label) -> scalar, the rest of the network and the loss; its Hessian's diagonal is exact. For
        LeNet-5's RBF units and the plain criterion it is 2, as in the paper.
      params: a tree.
      images, labels: the samples, [B, ...] and [B].

    Returns:
      h, a tree like `params`, without negative entries.
    """
    outputs = features(params, images)
    seed = jax.vmap(lambda x, label: diagonal_hessian(lambda x: loss(x, label), x))(outputs, labels)
    return squared_backward(lambda params: features(params, images), params, seed / len(labels))


def refresh_curvature(state, images, labels, indices, *, model, loss, preprocess, memory):
    """Return the state with the curvature estimated again on the examples `indices` of images uint8 [N, H, W, C].

    In a network with `head_has_no_parameters` (LeNet-5's RBF units, which are not linear either) the backward pass
    starts at `features`, with the exact second derivative of the rest; in the others it starts at the logits.
    """
    batch = loader.gather(images, labels, indices, jnp.zeros_like(indices))
    samples = preprocess(batch)
    if getattr(model, 'head_has_no_parameters', False):
        features = functools.partial(model.apply, method='features')

        def rest(x, label):
            return loss(model.apply({'params': state.params}, x[None], method='classify')[0], label)
    else:
        features, rest = model.apply, loss
    h = curvature(lambda p, x: features({'params': p}, x), rest, state.params, samples, batch['label'])
    return state.replace(opt_state=update_curvature(state.opt_state, h, memory))
