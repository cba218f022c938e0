"""Every network of the decade, by name: `create('resnet50', num_classes=10)`, `names()`, `activations(...)`, ..."""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if interrupts.runs_as_module(__name__):
    interrupts.listen('list')

import dataclasses
import functools
from collections.abc import Callable
from typing import Annotated

import flax.linen as nn
import jax
import jax.numpy as jnp
import msgspec

from architectures import layers
from architectures.catalogue import NETWORKS, OWN, unlisted
from architectures.entry import Entry
from runtime.errors import UserError, nearest


def names():
    """Return the registered names, in chronological order."""
    return tuple(NETWORKS)


def register(name, module, **facts):
    """Register a network of your own, so that a config can name it; call it in the file of the config.

    Args:
      name: its name, a word; registering it again replaces it.
      module: its class, a `layers.Network`.
      **facts: fields of `entry.Entry`, all optional: `input_shape`, `options`, `paper`, ...

    Raises:
      UserError: the name is not a word or is of a network of this project, or the class is not a network.
    """
    if not str(name).isidentifier() or (name in NETWORKS and name not in OWN):
        problem = 'is a network of this project' if name in NETWORKS else 'is not a word'
        raise UserError(f'{name!r} {problem}: register yours under another name')
    if not (isinstance(module, type) and issubclass(module, layers.Network)):
        raise UserError(f'{name}: {module!r} is not a class of networks: inherit from architectures.layers.Network')
    OWN[name] = Entry(module, **facts)


def create(name, **options):
    """Create the network of that name as a Flax module.

    Args:
      name: one of `names()`.
      **options: options of the module (see its docstring). All networks have `num_classes`, by default the paper's,
        and `dtype` and `param_dtype`, as JAX types or their names.

    Returns:
      A `flax.linen.Module`; see `layers.Network`.

    Raises:
      UserError: the name or an option is unknown, or an option has a value of another type.
    """
    if name not in NETWORKS:
        if advice := unlisted(name):
            raise UserError(f'no architecture {name!r}: {advice}')
        raise UserError(
            f'no architecture {name!r}{nearest(name, names())} `python -m architectures` lists them. For one of your '
            'own, pass the --config that registers it, or import that file in Python'
        )
    entry = NETWORKS[name]
    known = {field.name: field.type for field in dataclasses.fields(entry.module)}
    known = {option: kind for option, kind in known.items() if option not in ('parent', 'name')}
    for option, value in options.items():
        if option not in known:
            raise UserError(f'{name} has no option {option!r}{nearest(option, known)} Its options: {", ".join(known)}.')
        if option in ('dtype', 'param_dtype'):
            try:
                options[option] = jnp.dtype(value)
            except TypeError:
                raise UserError(f'{option} must be float32 or bfloat16, not {value!r}') from None
            continue
        if isinstance(value, list):
            options[option] = value = tuple(value)
        try:
            if known[option] is not Callable:
                msgspec.convert(value, _RANGES.get(known[option], known[option]))
            elif not callable(value):
                raise msgspec.ValidationError('Expected a function')
        except msgspec.ValidationError as error:
            raise UserError(f'{name}: the option {option} cannot be {value!r} ({error})') from None
    return entry.module(**(entry.options | options))


_Size = Annotated[int, msgspec.Meta(ge=0, le=2**16)]
_RANGES = {int: _Size, tuple: tuple[_Size, ...]}  # of options


def activations(model, variables, images, **options):
    """Return the activations that the paper names.

    Args:
      model: a network of `create`.
      variables: variables of the network, from `initialize` or a checkpoint.
      images: [B, H, W, C].
      **options: options of the call: `train`, `dense`.

    Returns:
      {the paper's layer name: [B, H', W', C']}, after the activation function; a vector is 1x1.
    """
    _, state = model.apply(variables, images, mutable=['activations'], **options)
    return dict(state['activations'])


def last_hidden(model, variables, images):
    """Return the features that the classifier reads: the output of the last hidden layer.

    Args:
      model: a network of `create`.
      variables: variables of the network.
      images: [B, H, W, C].

    Returns:
      [B, D], after the activation function; D is 4096 for AlexNet, 84 for LeNet-5, 1024 for GoogLeNet.
    """
    if getattr(model, 'head_has_no_parameters', False):  # the RBF units of LeNet-5 (1998)
        return model.apply(variables, images, method='features')
    classifier_inputs = []

    def visit(module, arguments, output):
        is_top_level = len(module.path) == 1 and isinstance(module, (nn.Dense, nn.Conv))
        if is_top_level and output.shape[-1] == model.num_classes:
            classifier_inputs.append(arguments[0])

    with layers.on_call(visit):
        model.apply(variables, images)
    return classifier_inputs[-1].reshape(len(images), -1)


def convolutions(model, image_shape):
    """Return the paths of a network's convolutions in its parameter tree: {('layer1_conv',), ...}.

    Fully connected layers that read a map are stored as convolutions, but are not included.

    Args:
      model: a network of `create`.
      image_shape: (H, W, C).

    Raises:
      UserError: it does not return logits.
    """
    paths = set()

    def visit(module, arguments, output):
        if isinstance(module, nn.Conv) and not isinstance(module, layers.Window):
            paths.add(module.path)

    with layers.on_call(visit):
        init = functools.partial(model.init_with_output, train=True)
        logits, _ = jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, *image_shape)))
    num_classes = getattr(model, 'num_classes', logits.shape[-1])
    if logits.shape != (1, num_classes):
        raise UserError(f'it returns {logits.shape}, not the logits (1, {num_classes}): end it with net.logits')
    return paths


def initialize(model, seed, image_shape, train=False):
    """Return the variables of a network, with weights drawn by its initializers.

    Args:
      model: a network of `create`.
      seed: seed of the weights.
      image_shape: (H, W, C).
      train: whether to initialize auxiliary heads, too.
    """
    init = functools.partial(model.init, train=train)  # under jit, XLA drops the forward pass
    return jax.jit(init)(jax.random.key(seed), jnp.zeros((1, *image_shape)))
