"""The networks that torchvision or timm has too, and how to build both: the same network, to the unit.

`torch` and the rest are no dependency of the project: `requirements-reference.txt`.
"""

import contextlib
import functools

_V1_5 = {'stride_in': '3x3', 'stem_pool': 'padded'}
_PADDED = {'stem_pool': 'padded'}

# name: (library, its name for it, options that make ours that very network)
PEERS = {
    'alexnet_owt': ('torchvision', 'alexnet', {}),
    'vgg_a': ('torchvision', 'vgg11', {}),
    'vgg_b': ('torchvision', 'vgg13', {}),
    'vgg_d': ('torchvision', 'vgg16', {}),
    'vgg_e': ('torchvision', 'vgg19', {}),
    'resnet18': ('torchvision', 'resnet18', _PADDED),
    'resnet34': ('torchvision', 'resnet34', _PADDED),
    'resnet50': ('torchvision', 'resnet50', _V1_5),
    'resnet101': ('torchvision', 'resnet101', _V1_5),
    'resnet152': ('torchvision', 'resnet152', _V1_5),
    'wide_resnet50_2': ('torchvision', 'wide_resnet50_2', {}),
    'resnext50_32x4d': ('torchvision', 'resnext50_32x4d', {}),
    'resnext101_32x4d': ('timm', 'resnext101_32x4d', {}),
    'resnext101_64x4d': ('torchvision', 'resnext101_64x4d', {}),
    'densenet121': ('torchvision', 'densenet121', {}),
    'densenet169': ('torchvision', 'densenet169', {}),
    'densenet201': ('torchvision', 'densenet201', {}),
    'densenet264': ('torchvision', 'densenet264', {}),
    'densenet161': ('torchvision', 'densenet161', {}),
    'se_resnet18': ('timm', 'seresnet18', _PADDED),  # its legacy ones have a ReLU too many, before the gate
    'se_resnet34': ('timm', 'seresnet34', _PADDED),
    'se_resnet50': ('timm', 'legacy_seresnet50', {}),
    'se_resnet101': ('timm', 'legacy_seresnet101', {}),
    'se_resnet152': ('timm', 'legacy_seresnet152', {}),
    'se_resnext50_32x4d': ('timm', 'legacy_seresnext50_32x4d', {}),
    'se_resnext101_32x4d': ('timm', 'legacy_seresnext101_32x4d', {}),
    'senet154': ('timm', 'legacy_senet154', {}),
}


@functools.cache
def torchvision():
    """The module, also beside a CPU-only PyTorch without the operators that it registers gradients for."""
    import torch

    with contextlib.suppress(RuntimeError):  # operator torchvision::nms does not exist
        import torchvision as module

        return module
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for operator in ('nms', 'qnms'):
        library.define(f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    import torchvision as module

    module.operators = library  # they live as long as it
    return module


def torch_model(name):
    """The peer of one of our networks, its weights as PyTorch draws them."""
    library, theirs, _ = PEERS[name]
    if theirs == 'densenet264':  # in the paper; torchvision has its class and not its name
        return torchvision().models.DenseNet(growth_rate=32, block_config=(6, 12, 64, 48), num_init_features=64)
    models = torchvision().models
    if library == 'timm':
        import timm

        options = {'drop_rate': 0.0} if theirs.startswith('legacy_se') else {}
        if theirs.startswith('seresnet'):  # gates of C/16 units, not rounded up to eights
            gate = functools.partial(timm.layers.SEModule, rd_divisor=1)
            options = {'block_args': {'attn_layer': gate}}
        return timm.create_model(theirs, **options)
    return getattr(models, theirs)()
