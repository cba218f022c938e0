"""Every network of the decade, by name: `create('lenet5', num_classes=10)`, `names()`."""

import dataclasses

from architectures import lenet
from errors import UserError, nearest

_REGISTRY = {
    'lenet5': lenet.LeNet5,
    'lenet5_1998': lenet.LeNet51998,
}


def names():
    """The registered names, in the decade's order."""
    return tuple(_REGISTRY)


def create(name, num_classes=10, **options):
    """The network of that name as a Flax module.

    Args:
      name: one of `names()`.
      num_classes: classes of the output.
      **options: the module's own (its docstring names them).

    Returns:
      A `flax.linen.Module`; `module.apply(variables, images, train=False)` takes float NHWC images and returns logits
      [batch, num_classes].

    Raises:
      UserError: unknown name or option.
    """
    if name not in _REGISTRY:
        raise UserError(f'no architecture {name!r}{nearest(name, names())} There are: {", ".join(names())}.')
    constructor = _REGISTRY[name]
    known = [f.name for f in dataclasses.fields(constructor) if f.name not in ('parent', 'name', 'num_classes')]
    for option in options:
        if option not in known:
            raise UserError(f'{name} has no option {option!r}{nearest(option, known)} It has: {", ".join(known)}.')
    return constructor(num_classes=num_classes, **options)
