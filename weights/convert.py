"""Published weights to our variables."""

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
    """Weights of another program as ours.

    Fields:
      variables: {'params', 'batch_stats'} of NumPy arrays.
      release: whose they are.
      num_classes: as the last layer has it.
      bgr: whether the first convolution was left to read blue, green, red.
      notes: what was done on the way.
    """

    variables: dict
    release: Release
    num_classes: int
    bgr: bool
    notes: tuple


def their_names(arch, release, num_classes, heads=False, **options):
    """{path of our variable: (their name, their shape, our shape)} of a network, as a release has it.

    Args:
      arch: our name of the network.
      release: one of `RELEASES[arch]`.
      num_classes: of the last layer.
      heads: auxiliary classifiers, too.
      **options: of the network, besides the release's.
    """
    model = architectures.create(arch, num_classes=num_classes, **(release.options | options))
    image = np.zeros((1, *input_shape(release)), np.float32)
    with layers.plain_forms():  # sooner traced
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
    """(H, W, C) of the images that a release's network takes."""
    size = release.pixels['image_size']
    return size, size, release.pixels['channels']


def candidates(arch, by=''):
    """The releases of a network, or the one of that name; UserError where there is none."""
    if arch not in architectures.names():
        raise UserError(
            f'no architecture {arch!r}{nearest(arch, architectures.names())} `python -m architectures` lists them.'
        )
    if arch not in RELEASES:
        raise UserError(
            f'nobody has published weights of {arch} in a form known here; there are of: {", ".join(RELEASES)}'
        )
    found = [release for release in RELEASES[arch] if by in ('', release.by)]
    if not found:
        there = ', '.join(dict.fromkeys(release.by for release in RELEASES[arch]))
        raise UserError(f'no release {by!r} of {arch}; there are: {there}')
    return found


def convert(tensors, arch, by='', keep_bgr=False):
    """Our variables from the tensors of a file.

    Nothing is filled in and nothing left over: every variable is one tensor, and every tensor one variable, but for
    the bias of a convolution before a batch norm, which goes into its mean.

    Args:
      tensors: {their name: array}, of `files.read`.
      arch: our name of the network.
      by: the release, where names alone do not tell.
      keep_bgr: leave a first convolution that reads blue, green, red as it is; else its channels are swapped.

    Returns:
      `Converted`.

    Raises:
      UserError: a tensor missing, left over, or of another shape; it says which network the file looks like. A
        running variance that is negative.
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
                f'{name} is {flat[path].min():g} at its least, and a running variance is never negative: the file is '
                f'damaged, or is not {release.theirs}'
            )
    notes = []
    for norm, bias in best.folded.items():
        flat['batch_stats', *norm, 'mean'] = flat['batch_stats', *norm, 'mean'] - tensors[bias]
        notes.append(f'{bias} is folded into the mean of the batch norm after it')
    swapped = release.reads_bgr and not keep_bgr
    if swapped:
        first = ('params', release.first, 'kernel')
        flat[first] = layout.swap_channels(flat[first])
        notes.append(f'{release.first} read blue, green, red: its channels are swapped, it reads red, green, blue')
    elif release.reads_bgr:
        notes.append(f'{release.first} reads blue, green, red, as it did')
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
    """How a release's names and shapes go with a file's."""
    tell = layout.caffe_name if release.is_caffe else layout.torch_name
    bias = tell(('params', release.last, 'bias'), release.table)
    num_classes = len(tensors[bias]) if bias in tensors else NETWORKS[arch].num_classes
    names = their_names(arch, release, num_classes)
    if tensors.keys() - {name for name, _, _ in names.values()}:  # auxiliary heads?
        with_heads = their_names(arch, release, num_classes, heads=True)
        heads = {name for name, _, _ in with_heads.values()} - {name for name, _, _ in names.values()}
        if heads & tensors.keys():
            names = with_heads
    wanted = {name: shape for name, shape, _ in names.values()}
    folded = {}
    if release.is_caffe:  # ResNet-50's first convolution has one
        for _, *outer, layer, leaf in names:
            norm = (*outer, f'{layer}_bn')
            bias = tell(('params', *outer, layer, 'bias'), release.table)
            if leaf == 'kernel' and ('batch_stats', *norm, 'mean') in names and bias in tensors.keys() - wanted.keys():
                folded[norm] = bias
    return _Match(
        release,
        num_classes,
        names,
        [name for name in wanted if name not in tensors],
        [name for name in tensors if name not in wanted and name not in folded.values()],
        [
            f'{name} of {tensors[name].shape}, not {shape}'
            for name, shape in wanted.items()
            if name in tensors and tensors[name].shape != shape
        ],
        folded,
    )


def _complaint(match, tensors, arch):
    parts = []
    for what, found in (
        ('lacks', match.missing),
        ('has what is no part of it:', match.unexpected),
        ('has another shape of', match.misshapen),
    ):
        if found:
            more = f' and {len(found) - _MOST_NAMED} more' if len(found) > _MOST_NAMED else ''
            parts.append(f'{what} {", ".join(found[:_MOST_NAMED])}{more}')
    looks = [name for name in _looks_like(tensors) if name != arch]
    hint = f' It looks like {" or ".join(looks)}: pass --arch {looks[0]}' if looks else ''
    return f'the file is not {match.release.theirs} ({match.release.by}), our {arch}: it {"; it ".join(parts)}.{hint}'


def _looks_like(tensors):
    """Networks of which there are weights, and that have as many parameters as the tensors, some number of classes."""
    statistics = ('running_mean', 'running_var', '/mean', '/var')
    count = sum(value.size for name, value in tensors.items() if not name.endswith(statistics))
    last = [value for value in tensors.values() if value.ndim == 2]
    found = []
    for name, entry in NETWORKS.items():
        others = {entry.parameters}
        if last:  # another number of classes: a classifier of another size
            classes, width = last[-1].shape
            others.add(entry.parameters + (classes - entry.num_classes) * (width + 1))
        if name in RELEASES and count in others:
            found.append(name)
    return found
