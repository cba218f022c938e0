"""Every network of the decade, by name: `create('resnet50', num_classes=10)`, `names()`, `activations(...)`, ..."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from architectures import layers
from architectures.catalogue import NETWORKS
from runtime.errors import UserError, nearest


def names():
    """The registered names, in the decade's order."""
    return tuple(NETWORKS)


def create(name, **options):
    """The network of that name as a Flax module.

    Args:
      name: one of `names()`.
      **options: the module's own (its docstring names them), among them `num_classes`, the paper's by default, and
        `dtype` and `param_dtype`, JAX's or their names.

    Returns:
      A `flax.linen.Module`; see `layers.Network`.

    Raises:
      UserError: unknown name or option.
    """
    if name not in NETWORKS:
        raise UserError(f'no architecture {name!r}{nearest(name, names())} `python -m architectures` lists them.')
    entry = NETWORKS[name]
    known = [field.name for field in dataclasses.fields(entry.module) if field.name not in ('parent', 'name')]
    for option, value in options.items():
        if option not in known:
            raise UserError(f'{name} has no option {option!r}{nearest(option, known)} It has: {", ".join(known)}.')
        if option in ('dtype', 'param_dtype'):
            try:
                options[option] = jnp.dtype(value)
            except TypeError:
                raise UserError(f'{option} is float32 or bfloat16, not {value!r}') from None
        elif isinstance(value, list):
            options[option] = tuple(value)
    return entry.module(**(entry.options | options))


def activations(model, variables, images, **options):
    """The activations that the paper names.

    Args:
      model: a network of `create`.
      variables: of the network, from `initialize` or a checkpoint.
      images: [B, H, W, C].
      **options: of the call: `train`, `dense`.

    Returns:
      {the paper's layer name: [B, H', W', C']}, after the activation; a vector is 1x1.
    """
    _, state = model.apply(variables, images, mutable=['activations'], **options)
    return dict(state['activations'])


def last_hidden(model, variables, images):
    """The features that the classifier reads: the last hidden layer of any network.

    Args:
      model: a network of `create`.
      variables: of the network.
      images: [B, H, W, C].

    Returns:
      [B, D], after the activation: 4096 numbers an image of AlexNet, 84 of LeNet-5, 1024 of GoogLeNet.
    """
    if getattr(model, 'head_has_no_parameters', False):  # LeNet-5's units of 1998
        return model.apply(variables, images, method='features')
    read = []

    def visit(module, arguments, output):
        is_own = len(module.path) == 1 and isinstance(module, (nn.Dense, nn.Conv))
        if is_own and output.shape[-1] == model.num_classes:
            read.append(arguments[0])

    with layers.on_call(visit):
        model.apply(variables, images)
    return read[-1].reshape(len(images), -1)


def convolutions(model, image_shape):
    """The paths of the convolutions of a network: {('layer1_conv',), ...}, as in its tree of parameters.

    Fully connected layers do not count, although those that read a map are stored as convolutions of its size.

    Args:
      model: a network of `create`.
      image_shape: (H, W, C).
    """
    paths = set()

    def visit(module, arguments, output):
        if isinstance(module, nn.Conv) and not isinstance(module, layers.Window):
            paths.add(module.path)

    with layers.on_call(visit):
        jax.eval_shape(functools.partial(model.init, train=True), jax.random.key(0), jnp.zeros((1, *image_shape)))
    return paths


def initialize(model, seed, image_shape, train=False):
    """The variables of a network, with weights drawn by its initializers.

    Args:
      model: a network of `create`.
      seed: of the weights.
      image_shape: (H, W, C).
      train: whether auxiliary heads get parameters, too.
    """
    init = functools.partial(model.init, train=train)  # jitted: only the weights are computed, not the forward pass
    return jax.jit(init)(jax.random.key(seed), jnp.zeros((1, *image_shape)))
