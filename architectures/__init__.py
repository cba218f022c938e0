"""Every network of the decade, by name: `create('resnet50', num_classes=10)`, `names()`, `activations(...)`, ..."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from architectures import (
    alexnet,
    densenet,
    inception,
    layers,
    lenet,
    overfeat,
    prelu_net,
    resnet,
    senet,
    vgg,
    wide_resnet,
    zfnet,
)
from runtime.errors import UserError, nearest

_plain = functools.partial(resnet.ResNet, shortcut='none')
_bottleneck = functools.partial(resnet.ResNet, bottleneck=True)
_torch = functools.partial(_bottleneck, stride_in='3x3', stem_pool='padded', fc_initializer='torch')
_wide = (128, 256, 512, 1024)
_se = {'gate': senet.squeeze_excite}

_REGISTRY = {
    'lenet5': lenet.LeNet5,
    'lenet5_1998': lenet.LeNet51998,
    'lenet_caffe': lenet.LeNetCaffe,
    'alexnet': alexnet.AlexNet,
    'alexnet_owt': alexnet.AlexNetOWT,
    'zfnet': zfnet.ZFNet,
    'zfnet_wide': functools.partial(zfnet.ZFNet, widths=(512, 1024, 512)),
    'overfeat_fast': overfeat.OverFeatFast,
    'overfeat_accurate': overfeat.OverFeatAccurate,
    'googlenet': inception.GoogLeNet,
    'bn_inception': inception.BNInception,
    **{f'vgg_{column.lower().replace("-", "_")}': functools.partial(vgg.VGG, column=column) for column in vgg.COLUMNS},
    **{f'prelu_net_{model.lower()}': functools.partial(prelu_net.PReLUNet, model=model) for model in prelu_net.MODELS},
    'plain18': functools.partial(_plain, depths=resnet.DEPTHS[18]),
    'plain34': functools.partial(_plain, depths=resnet.DEPTHS[34]),
    'resnet18': functools.partial(resnet.ResNet, depths=resnet.DEPTHS[18]),
    'resnet34': functools.partial(resnet.ResNet, depths=resnet.DEPTHS[34]),
    **{f'resnet{depth}': functools.partial(_bottleneck, depths=resnet.DEPTHS[depth]) for depth in (50, 101, 152)},
    **{f'resnet{depth}': functools.partial(resnet.CifarResNet, depth=depth) for depth in (20, 32, 44, 56, 110, 1202)},
    **{
        f'plain{depth}': functools.partial(resnet.CifarResNet, depth=depth, shortcut='none')
        for depth in (20, 32, 44, 56)
    },
    'wide_resnet50_2': functools.partial(_torch, depths=resnet.DEPTHS[50], widths=_wide),
    'wrn_28_10': functools.partial(wide_resnet.WideResNet, depth=28, widen=10),
    'wrn_40_4': functools.partial(wide_resnet.WideResNet, depth=40, widen=4),
    'resnext50_32x4d': functools.partial(_torch, depths=resnet.DEPTHS[50], widths=_wide, groups=32),
    'resnext101_32x4d': functools.partial(_torch, depths=resnet.DEPTHS[101], widths=_wide, groups=32),
    'resnext101_64x4d': functools.partial(_torch, depths=resnet.DEPTHS[101], widths=(256, 512, 1024, 2048), groups=64),
    **{
        f'densenet{depth}': functools.partial(densenet.DenseNet, blocks=densenet.BLOCKS[depth])
        for depth in (121, 169, 201, 264)
    },
    'densenet161': functools.partial(densenet.DenseNet, blocks=densenet.BLOCKS[161], growth=48),
    'densenet_bc_100_12': functools.partial(
        densenet.DenseNet, blocks=(16, 16, 16), growth=12, cifar=True, num_classes=10
    ),
    'se_resnet18': functools.partial(resnet.ResNet, depths=resnet.DEPTHS[18], **_se),
    'se_resnet34': functools.partial(resnet.ResNet, depths=resnet.DEPTHS[34], **_se),
    **{
        f'se_resnet{depth}': functools.partial(_bottleneck, depths=resnet.DEPTHS[depth], **_se)
        for depth in (50, 101, 152)
    },
    **{
        f'se_resnext{depth}_32x4d': functools.partial(
            _bottleneck, depths=resnet.DEPTHS[depth], widths=_wide, groups=32, stride_in='3x3', **_se
        )
        for depth in (50, 101)
    },
    'senet154': senet.SENet154,
}


def names():
    """The registered names, in the decade's order."""
    return tuple(_REGISTRY)


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
    if name not in _REGISTRY:
        raise UserError(f'no architecture {name!r}{nearest(name, names())} `python -m architectures` lists them.')
    constructor = _REGISTRY[name]
    module = constructor.func if isinstance(constructor, functools.partial) else constructor
    known = [field.name for field in dataclasses.fields(module) if field.name not in ('parent', 'name')]
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
    return constructor(**options)


def activations(model, variables, images, **options):
    """The activations that the paper names.

    Args:
      model: a network of `create`.
      variables: its.
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
      variables: its.
      images: [B, H, W, C].

    Returns:
      [B, D], after the activation: 4096 numbers an image of AlexNet, 84 of LeNet-5, 1024 of GoogLeNet.
    """
    if getattr(model, 'head_has_no_parameters', False):  # LeNet-5's units of 1998
        return model.apply(variables, images, method='features')
    read = []

    def visit(module, arguments, output):
        own = len(module.path) == 1 and isinstance(module, (nn.Dense, nn.Conv))
        if own and output.shape[-1] == model.num_classes:
            read.append(arguments[0])

    with layers.on_call(visit):
        model.apply(variables, images)
    return read[-1].reshape(len(images), -1)


def convolutions(model, image_shape):
    """The paths of the convolutions of a network: {('layer1_conv',), ...}, as in its tree of parameters.

    Fully connected layers are none of them, though those that read a map are stored as convolutions of its size.

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


def initialise(model, seed, image_shape, train=False):
    """The variables of a network, its weights drawn by its initialisers.

    Args:
      model: a network of `create`.
      seed: of the weights.
      image_shape: (H, W, C).
      train: whether auxiliary heads get their parameters too.
    """
    init = functools.partial(model.init, train=train)  # jitted: only the weights are computed, not the forward pass
    return jax.jit(init)(jax.random.key(seed), jnp.zeros((1, *image_shape)))
