"""Writes the golden files: `python tests/golden/make.py [NAME ...]`, by hand, with `requirements-reference.txt`.

For each network that PyTorch has too it makes the peer, gives both the same weights, and stores the peer's logits. It
also compares what the test cannot, which has no PyTorch: the activations on the way. It prints a line a network, and
exits 1 where ours and theirs disagree.
"""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))  # golden
sys.path.insert(0, str(Path(__file__).parents[2]))  # the project
os.environ['JAX_PLATFORMS'] = 'cpu'

import jax
import numpy as np
import torch
from torch import nn

import architectures
import golden
from architectures.vgg import COLUMNS
from benchmarks import peers
from weights import layout, names

torchvision = peers.torchvision()  # before timm, which imports it
import timm  # noqa: E402

# Their names for our layers are the project's (`weights/names.py`), but for pre-activated networks, whose weights none
# publishes; here is a table from our activations to the modules that put them out.

ALEXNET = {
    **{'conv1': 'features.1', 'pool1': 'features.2', 'conv2': 'features.4', 'pool2': 'features.5'},
    **{'conv3': 'features.7', 'conv4': 'features.9', 'conv5': 'features.11', 'pool5': 'features.12'},
    **{'fc6': 'classifier.2', 'fc7': 'classifier.5', 'fc8': 'classifier.6'},
}


def vgg(column, batch_norm=False):
    """The family of a column of the table: what puts an activation out is the ReLU or the pool after it."""
    table = names.vgg(column, batch_norm)
    activations, number = {}, -1
    for block, row in enumerate(COLUMNS[column], start=1):
        for place in range(1, len(row) + 1):
            name = f'conv{block}_{place}'
            number = int(table(name).removeprefix('features.')) + (2 if batch_norm else 1)
            activations[name] = f'features.{number}'
        activations[f'pool{block}'] = f'features.{number + 1}'
    for name, place in {'fc6': 0, 'fc7': 3, 'fc8': 6}.items():
        activations[name] = f'classifier.{min(place + 1, 6)}'
    return table, activations


STAGES = {f'conv{number}_x': f'layer{number - 1}' for number in range(2, 6)}
RESNET = {'conv1': 'relu', 'pool1': 'maxpool', **STAGES, 'pool5': 'avgpool', 'fc': 'fc'}
TIMM_RESNET = RESNET | {'conv1': 'act1', 'pool5': 'global_pool'}


CIFAR_RESNET = {'conv1': 'relu', **{f'stage{n}': f'layer{n}' for n in (1, 2, 3)}, 'pool': 'avgpool', 'fc': 'fc'}


PREACTIVATED_BLOCK = {
    **{'preact_bn': 'norm1', 'conv1_bn': 'norm2', 'conv2_bn': 'norm3'},
    **{'projection': 'downsample.conv'},
}


def preactivated(*path):
    """timm's: every batch norm belongs to the convolution after it, and the stem's to the first block."""
    match path:
        case (stage, block, layer):
            return f'stages.{int(stage[4]) - 2}.blocks.{int(block[5:]) - 1}.{PREACTIVATED_BLOCK.get(layer, layer)}'
        case (layer,):
            stem = {'conv1': 'stem.conv', 'conv1_bn': 'stages.0.blocks.0.norm1', 'postact_bn': 'norm', 'fc': 'head.fc'}
            return stem[layer]


# Our conv1 is the activation of all of the stem, theirs only of what the pool has left: they meet in pool1.
PREACTIVATED = {
    'pool1': 'stages.0.blocks.0.norm1',
    **{f'conv{number}_x': f'stages.{number - 2}' for number in (2, 3, 4)},
    **{'conv5_x': 'norm', 'pool5': 'head.global_pool', 'fc': 'head.fc'},
}
WIDE = {
    **{'conv1': 'stem', 'conv2': 'stages.0', 'conv3': 'stages.1', 'conv4': 'norm'},
    **{'pool': 'head.global_pool', 'fc': 'head.fc'},
}


SENET = {'conv1': 'layer0', 'pool1': 'pool0', **STAGES, 'pool5': 'global_pool', 'fc': 'last_linear'}
SENET154 = {f'conv1_{number}': f'layer0.relu{number}' for number in (1, 2, 3)} | {
    **{'pool1': 'pool0', **STAGES, 'pool5': 'global_pool', 'classifier': 'last_linear'}
}


def densenet_outputs(blocks, **stem):
    dense = {f'dense_block_{number}': f'features.denseblock{number}' for number in range(1, blocks + 1)}
    between = {f'transition_{number}': f'features.transition{number}' for number in range(1, blocks)}
    return {**stem, **dense, **between, 'classifier': 'classifier'}


DENSENET = densenet_outputs(4, convolution='features.relu0', pooling='features.pool0')
CIFAR_DENSENET = densenet_outputs(3, convolution='features.conv0')


# Networks that the libraries have the blocks of


class ShortcutA(nn.Module):
    """Every second pixel, and zeros for the new channels."""

    def forward(self, x):
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, x.shape[1]))


class CifarResNet(nn.Module):
    """ResNet-20 of torchvision's basic blocks."""

    def __init__(self):
        super().__init__()
        block = torchvision.models.resnet.BasicBlock
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(16), nn.ReLU()
        self.layer1 = nn.Sequential(block(16, 16), block(16, 16), block(16, 16))
        self.layer2 = nn.Sequential(block(16, 32, 2, ShortcutA()), block(32, 32), block(32, 32))
        self.layer3 = nn.Sequential(block(32, 64, 2, ShortcutA()), block(64, 64), block(64, 64))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 10)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def cifar_densenet():
    """torchvision's class with another stem."""
    net = torchvision.models.DenseNet(12, (16, 16, 16), 24, num_classes=10)
    net.features.conv0 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
    del net.features.norm0, net.features.relu0, net.features.pool0
    return net


def resnetv2_18():
    """timm's, but for the first shortcut, which reads what comes before the BN-ReLU; the authors', after.

    (In ResNet-50 it is a projection, which reads what comes after in both.)
    """
    net = timm.create_model('resnetv2_18')
    net.stages[0].blocks[0].downsample = nn.Identity()
    return net


def wide_resnet():
    """WRN-40-4 of timm's pre-activated basic blocks."""
    net = timm.models.resnetv2.ResNetV2(
        (6, 6, 6),
        (64, 128, 256),
        num_classes=10,
        stem_chs=16,
        basic=True,
        bottle_ratio=1.0,
        conv_layer=timm.layers.create_conv2d,
        norm_layer=timm.layers.BatchNormAct2d,
    )
    net.stem = nn.Sequential()
    net.stem.add_module('conv', nn.Conv2d(3, 16, 3, padding=1, bias=False))
    return net


class Case(NamedTuple):
    """The network and weights of a golden file."""

    network: str
    options: dict
    peer: str
    create: Callable
    layer_name: Callable
    outputs: dict
    image_shape: tuple = (224, 224, 3)


def peer(name):
    """The case of a network of `benchmarks.peers`."""
    library, theirs, options = peers.PEERS[name]
    if name == 'alexnet_owt':
        family = names.ALEXNET.__getitem__, ALEXNET
    elif name.startswith('vgg'):
        family = vgg(name[4].upper())
    elif name.startswith('densenet'):
        family = names.densenet, DENSENET
    elif name in ('se_resnet18', 'se_resnet34'):
        family = names.resnet, TIMM_RESNET
    elif name.startswith('se'):
        family = names.legacy_senet, SENET154 if name == 'senet154' else SENET
    else:
        family = names.resnet, TIMM_RESNET if library == 'timm' else RESNET
    return Case(name, options, f'{library} {theirs}', functools.partial(peers.torch_model, name), *family)


def cases():
    """{name of the file: case}."""
    cifar, padded = (32, 32, 3), {'stem_pool': 'padded'}
    v2 = {'preactivation': True, **padded}
    return {name: peer(name) for name in peers.PEERS} | {
        'vgg_a_bn': Case(
            'vgg_a',
            {'batch_norm': True},
            'torchvision vgg11_bn',
            torchvision.models.vgg11_bn,
            *vgg('A', batch_norm=True),
        ),
        'resnet18_v2': Case(
            'resnet18', v2, 'timm resnetv2_18, its first shortcut moved', resnetv2_18, preactivated, PREACTIVATED
        ),
        'resnet50_v2': Case(
            'resnet50', v2, 'timm resnetv2_50', timm.models.resnetv2.resnetv2_50, preactivated, PREACTIVATED
        ),
        'resnet20': Case(
            'resnet20', {}, "torchvision's BasicBlock, stacked", CifarResNet, names.cifar_resnet, CIFAR_RESNET, cifar
        ),
        'wrn_40_4': Case('wrn_40_4', {}, "timm's ResNetV2 with a 3x3 stem", wide_resnet, preactivated, WIDE, cifar),
        'densenet_bc_100_12': Case(
            'densenet_bc_100_12',
            {},
            "torchvision's DenseNet with a 3x3 stem",
            cifar_densenet,
            names.densenet,
            CIFAR_DENSENET,
            cifar,
        ),
    }


def their_name(path, layer_name):
    """What the peer calls the variable of ours at a key path."""
    return layout.torch_name(golden.name_of(path).split('/'), layer_name)


def load(net, variables, layer_name):
    """Gives the peer our variables. Every tensor of theirs is set, by one of ours; every one of ours is used."""
    theirs = net.state_dict()
    given = {name: torch.zeros_like(value) for name, value in theirs.items() if name.endswith('num_batches_tracked')}
    for path, value in jax.tree_util.tree_leaves_with_path(variables):
        name = their_name(path, layer_name)
        assert name in theirs and name not in given, name
        value = layout.to_theirs(value, tuple(theirs[name].shape))
        given[name] = torch.from_numpy(np.ascontiguousarray(value))
    net.load_state_dict(given, strict=True)


def read(net, variables, layer_name):
    """The peer's variables as ours: a tree like `variables`, the inverse of `load`."""
    theirs = net.state_dict()

    def ours(path, like):
        return layout.to_ours(theirs[their_name(path, layer_name)].numpy(), like.shape)

    return jax.tree_util.tree_map_with_path(ours, variables)


def run(net, images, modules):
    """Their logits, what each of the modules puts out, and how little of a tensor the logits feel.

    The last is, of the tensor least felt, the change of the logits (relative, root mean square) where all its elements
    change at random by their own size, to first order.
    """
    kept = {}

    def keep(name):
        def hook(module, inputs, output):
            kept[name] = output.detach().clone()  # for what follows may work in place

        return hook

    hooks = [net.get_submodule(module).register_forward_hook(keep(module)) for module in modules]
    logits = net(torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))))
    for hook in hooks:
        hook.remove()
    direction = torch.from_numpy(golden.uniform('direction', tuple(logits.shape)))
    (logits * direction).sum().backward()
    scale = float(torch.linalg.vector_norm(logits.detach() * direction))
    felt = min(float(torch.linalg.vector_norm(tensor.grad * tensor.detach())) / scale for tensor in net.parameters())
    return logits.detach().numpy(), {name: value.numpy() for name, value in kept.items()}, felt


def make(name, case):
    """Makes one file; returns whether ours and theirs agree."""
    net = case.create().eval()
    load(net, golden.variables(architectures.create(case.network, **case.options), case.image_shape), case.layer_name)
    theirs, kept, felt = run(net, golden.images(case.image_shape), case.outputs.values())
    versions = f'torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}'
    stored = golden.Golden(case.network, case.options, case.image_shape, theirs, f'{case.peer}; {versions}')
    stored.save(name)
    ours, activations = golden.run(stored)
    errors = {'logits': golden.disagreement(ours, theirs)}
    for activation, module in case.outputs.items():
        value = kept[module].reshape(*kept[module].shape, *(1,) * (4 - kept[module].ndim)).transpose(0, 2, 3, 1)
        assert value.shape == activations[activation].shape, (activation, value.shape)
        errors[activation] = golden.disagreement(activations[activation], value)
    worst = max(errors, key=errors.get)
    apart = golden.disagreement(theirs[:1], theirs[1:])
    agree = errors[worst] < golden.TOLERANCE
    print(
        f'{name:20} logits {errors["logits"]:.1e}  worst of {len(errors)} activations {errors[worst]:.1e} ({worst})  '
        f'|logits| {np.abs(theirs).max():.2g}  between images {apart:.2f}  least felt {felt:.1e}'
        f'{"" if agree else "  DISAGREE"}',
        flush=True,
    )
    return agree


if __name__ == '__main__':
    table = cases()
    agreed = [make(name, table[name]) for name in sys.argv[1:] or table]
    sys.exit(0 if all(agreed) else 1)
