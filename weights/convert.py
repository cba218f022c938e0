"""Conversion of published weights to our variables."""

from typing import NamedTuple

import jax
import numpy as np
from flax import traverse_util

import architectures
from architectures import layers
from architectures.catalogue import NETWORKS
from runtime.errors import UserError, nearest
from weights import layout
from weights.releases import RELEASES, Release

_MOST_NAMED = 4


class Converted(NamedTuple):
    """Converted weights.

    Fields:
      variables: {'params', 'batch_stats'} of NumPy arrays.
      release: the release that they are from.
      num_classes: number of outputs of the last layer.
      bgr: whether the first convolution still reads blue, green, red.
      notes: sentences on what was changed.
    """

    variables: dict
    release: Release
    num_classes: int
    bgr: bool
    notes: tuple


def their_names(arch, release, num_classes, heads=False, **options):
    """Return {path of our variable: (their name, their shape, our shape)} of a network, for a release.

    Args:
      arch: our name of the network.
      release: one of `RELEASES[arch]`.
      num_classes: number of outputs of the last layer.
      heads: include auxiliary classifiers.
      **options: options of the network, in addition to the release's.
    """
    model = architectures.create(arch, num_classes=num_classes, **(release.options | options))
    image = np.zeros((1, *input_shape(release)), np.float32)
    with layers.plain_forms():  # which trace faster
        shapes = jax.eval_shape(lambda key: model.init(key, image, train=heads), jax.random.key(0))
    name_of = layout.caffe_name if release.is_caffe else layout.torch_name
    return {
        path: (
            name_of(path, release.table),
            layout.their_shape(path, leaf.shape, release.matrices, release.convolutions),
            leaf.shape,
        )
        for path, leaf in sorted(traverse_util.flatten_dict(shapes).items(), key=lambda item: item[0][0] != 'params')
    }


def input_shape(release):
    """Return (H, W, C) of the images that a release's network takes."""
    size = release.pixels['image_size']
    return size, size, release.pixels['channels']


def candidates(arch, by=''):
    """Return the releases of a network, all or those with the name `by`; UserError if there are none."""
    if arch not in architectures.names():
        raise UserError(
            f'no architecture {arch!r}{nearest(arch, architectures.names())} `python -m architectures` lists them.'
        )
    if arch not in RELEASES:
        raise UserError(f'no published weights of {arch} are known; weights are known for: {", ".join(RELEASES)}')
    releases = [release for release in RELEASES[arch] if by in ('', release.by)]
    if not releases:
        known = ', '.join(dict.fromkeys(release.by for release in RELEASES[arch]))
        raise UserError(f'no release {by!r} of {arch}; known: {known}')
    return releases


def convert(tensors, arch, by='', keep_bgr=False):
    """Convert the tensors of a file to our variables.

    Each tensor becomes one variable, and all variables and tensors are used. The exception is the bias of a convolution
    before a batch norm, which is folded into its mean.

    Args:
      tensors: {their name: array}, from `files.read`.
      arch: our name of the network.
      by: the release, if the tensors' names do not determine it.
      keep_bgr: do not swap the channels of a first convolution that reads blue, green, red.

    Returns:
      `Converted`.

    Raises:
      UserError: a tensor is missing, unexpected or has another shape (the message says which network the file looks
        like), or a running variance is negative.
    """
    attempts = [_match(tensors, arch, release) for release in candidates(arch, by)]
    best = min(attempts, key=lambda match: len(match.missing) + len(match.unexpected) + len(match.misshapen))
    if best.missing or best.unexpected or best.misshapen:
        raise UserError(_complaint(best, tensors, arch))
    release, flat = best.release, {}
    for path, (name, _, shape) in best.names.items():
        flat[path] = layout.to_ours(tensors[name], shape)
        if path[0] == 'batch_stats' and path[-1] == 'var' and (flat[path] < 0).any():
            raise UserError(
                f'{name}, a running variance, has a negative value ({flat[path].min():g}): the file is damaged or is '
                f'not {release.theirs}'
            )
    notes = []
    for norm, bias in best.folded.items():
        with np.errstate(over='ignore'):  # the passport refuses a network with infinite activations
            flat['batch_stats', *norm, 'mean'] = flat['batch_stats', *norm, 'mean'] - tensors[bias]
        notes.append(f'{bias} is folded into the mean of the batch norm after it')
    swapped = release.reads_bgr and not keep_bgr
    if swapped:
        first = ('params', release.first, 'kernel')
        flat[first] = layout.swap_channels(flat[first])
        notes.append(f'{release.first} read blue, green, red; its channels are swapped to red, green, blue')
    elif release.reads_bgr:
        notes.append(f'{release.first} still reads blue, green, red')
    flat = {path: np.ascontiguousarray(value) for path, value in flat.items()}
    variables = {'params': {}, 'batch_stats': {}} | traverse_util.unflatten_dict(flat)
    return Converted(variables, release, best.num_classes, release.reads_bgr and keep_bgr, tuple(notes))


class _Match(NamedTuple):
    release: Release
    num_classes: int
    names: dict
    missing: list
    unexpected: list
    misshapen: list
    folded: dict


def _match(tensors, arch, release):
    """Match the names and shapes of a release with those of a file."""
    name_of = layout.caffe_name if release.is_caffe else layout.torch_name
    bias = name_of(('params', release.last, 'bias'), release.table)
    num_classes = len(tensors[bias]) if bias in tensors else NETWORKS[arch].num_classes
    names = their_names(arch, release, num_classes)
    if tensors.keys() - {name for name, _, _ in names.values()}:  # auxiliary heads?
        with_heads = their_names(arch, release, num_classes, heads=True)
        heads = {name for name, _, _ in with_heads.values()} - {name for name, _, _ in names.values()}
        if heads & tensors.keys():
            names = with_heads
    expected = {name: shape for name, shape, _ in names.values()}
    folded = {}
    if release.is_caffe:  # ResNet-50's first convolution has one
        for _, *outer, layer, leaf in names:
            norm = (*outer, f'{layer}_bn')
            bias = name_of(('params', *outer, layer, 'bias'), release.table)
            if (
                leaf == 'kernel'
                and ('batch_stats', *norm, 'mean') in names
                and bias in tensors.keys() - expected.keys()
            ):
                folded[norm] = bias
    return _Match(
        release,
        num_classes,
        names,
        [name for name in expected if name not in tensors],
        [name for name in tensors if name not in expected and name not in folded.values()],
        [
            f'{name} of {tensors[name].shape}, not {shape}'
            for name, shape in expected.items()
            if name in tensors and tensors[name].shape != shape
        ],
        folded,
    )


def _complaint(match, tensors, arch):
    parts = []
    for problem, names in (
        ('lacks', match.missing),
        ('has unexpected tensors:', match.unexpected),
        ('has other shapes:', match.misshapen),
    ):
        if names:
            more = f' and {len(names) - _MOST_NAMED} more' if len(names) > _MOST_NAMED else ''
            parts.append(f'{problem} {", ".join(names[:_MOST_NAMED])}{more}')
    looks = [name for name in _looks_like(tensors) if name != arch]
    hint = f' It looks like {" or ".join(looks)}: pass --arch {looks[0]}' if looks else ''
    return f'the file is not {match.release.theirs} ({match.release.by}), our {arch}: it {"; it ".join(parts)}.{hint}'


def _looks_like(tensors):
    """Return the networks with releases that have as many parameters as the tensors, for any number of classes."""
    statistics = ('running_mean', 'running_var', '/mean', '/var')
    count = sum(value.size for name, value in tensors.items() if not name.endswith(statistics))
    last = [value for value in tensors.values() if value.ndim == 2]
    matches = []
    for name, entry in NETWORKS.items():
        counts = {entry.parameters}
        if last:  # for another number of classes the classifier has another size
            classes, width = last[-1].shape
            counts.add(entry.parameters + (classes - entry.num_classes) * (width + 1))
        if name in RELEASES and count in counts:
            matches.append(name)
    return matches
