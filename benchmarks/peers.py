"""The networks that torchvision or timm has too, and how to build both: the same network, to the unit.

`torch` and the rest are no dependency of the project: `requirements-reference.txt`.
"""

import contextlib
import functools

from architectures.catalogue import NETWORKS
from architectures.resnet import PADDED

_LIBRARIES = {'torchvision': 'torchvision', 'timm_legacy': 'timm', 'timm': 'timm'}  # the first that has it


def peer(entry):
    """(library, its name, options) of a network of the catalogue; None where no library has it."""
    for by, library in _LIBRARIES.items():
        for theirs in entry.theirs:
            if theirs.by == by:
                return library, theirs.name, theirs.options
    return None


# {name: (library, its name for it, options that make ours that very network)}
PEERS = {name: peer(entry) for name, entry in NETWORKS.items() if peer(entry)} | {
    f'se_resnet{depth}': ('timm', f'seresnet{depth}', PADDED)  # its legacy ones have a ReLU too many, before the gate
    for depth in (18, 34)
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
