"""The networks that torchvision or timm has, too, and how to build exactly the same network in both.

`torch` and the other libraries are not dependencies of the project; see `requirements-reference.txt`.
"""

import contextlib
import functools

from architectures.catalogue import NETWORKS
from architectures.resnet import PADDED

_LIBRARIES = {'torchvision': 'torchvision', 'timm_legacy': 'timm', 'timm': 'timm'}  # in order of preference


def peer(entry):
    """Return (library, its name, options) of a network in the catalogue; None if no library has it."""
    for by, library in _LIBRARIES.items():
        for theirs in entry.theirs:
            if theirs.by == by:
                return library, theirs.name, theirs.options
    return None


# {name: (library, its name there, options of ours that give the same network)}
PEERS = {name: peer(entry) for name, entry in NETWORKS.items() if peer(entry)} | {
    f'se_resnet{depth}': ('timm', f'seresnet{depth}', PADDED)  # the legacy ones have an extra ReLU before the gate
    for depth in (18, 34)
}


@functools.cache
def torchvision():
    """Return the module, also if a CPU-only PyTorch lacks the operators that it registers gradients for."""
    import torch

    with contextlib.suppress(RuntimeError):  # operator torchvision::nms does not exist
        import torchvision as module

        return module
    library = torch.library.Library('torchvision', 'FRAGMENT')
    for operator in ('nms', 'qnms'):
        library.define(f'{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    import torchvision as module

    module.operators = library  # keep them alive as long as the module
    return module


def torch_model(name):
    """Return the peer of one of our networks, with PyTorch's initial weights."""
    library, theirs, _ = PEERS[name]
    if theirs == 'densenet264':  # from the paper; torchvision has the class, but no constructor
        return torchvision().models.DenseNet(growth_rate=32, block_config=(6, 12, 64, 48), num_init_features=64)
    models = torchvision().models
    if library == 'timm':
        import timm

        options = {'drop_rate': 0.0} if theirs.startswith('legacy_se') else {}
        if theirs.startswith('seresnet'):  # gates of C/16 units, not rounded up to a multiple of 8
            gate = functools.partial(timm.layers.SEModule, rd_divisor=1)
            options = {'block_args': {'attn_layer': gate}}
        return timm.create_model(theirs, **options)
    return getattr(models, theirs)()
