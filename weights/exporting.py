"""Our checkpoints for others: safetensors as the hubs have them, StableHLO, ONNX."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util
from jax import export as jax_export

import architectures
import papers
from architectures import layers
from architectures.catalogue import NETWORKS
from input_pipeline import colour
from runtime.errors import UserError, first_line
from runtime.files import write_atomically
from weights import convert, files, layout, onnx_file, passport
from weights.releases import RELEASES

OURS = 'ours'


def release_for(arch, model, by=''):
    """The release of PyTorch's world whose network is this very one; None for our own names (`by` is 'ours').

    Args:
      arch: our name.
      model: the network.
      by: a release, '' for the first that fits, or 'ours'.

    Raises:
      UserError: none fits.
    """
    if by == OURS:
        return None
    releases = [release for release in RELEASES.get(arch, ()) if not release.is_caffe and by in ('', release.by)]
    differences = []
    for release in releases:
        theirs = architectures.create(arch, **release.options)
        differs = [
            f'{field.name}={getattr(theirs, field.name)!r}'
            for field in dataclasses.fields(model)
            if field.name in (*release.options, 'stride_in', 'stem_pool', 'shortcut', 'preactivation', 'batch_norm')
            and getattr(theirs, field.name) != getattr(model, field.name)
        ]
        if not differs:
            return release
        differences.append(f'{release.theirs} of {release.by} has {", ".join(differs)}')
    why = '; '.join(differences) or f'there are no names of {by or "torchvision or timm"} for {arch}'
    raise UserError(f'{why}: not the same network. With --release {OURS} the tensors keep our names and layouts')


def state_dict(arch, model, variables, release):
    """{name: array} of a network, as PyTorch's programs or, for no release, as we call and lay them out."""
    flat = {path: np.asarray(value) for path, value in traverse_util.flatten_dict(variables).items()}
    if release is None:
        return {'.'.join(path): np.ascontiguousarray(value) for path, value in flat.items()}
    tensors = {}
    for path, value in flat.items():
        name = layout.torch_name(path, release.table)
        shape = layout.their_shape(path, value.shape, release.matrices, release.convolutions)
        if release.reads_bgr and path == ('params', release.first, 'kernel'):
            value = layout.swap_channels(value)
        tensors[name] = layout.to_theirs(value, shape)
        if path[-1] == 'mean':  # PyTorch counts the batches; nothing reads it
            tensors[name.replace('running_mean', 'num_batches_tracked')] = np.zeros((), np.int64)
    return tensors


def safetensors(out, config, model, variables, card, by):
    """model.safetensors, config.json as timm and the hub read it, and README.md, a model card."""
    try:
        from safetensors.numpy import save_file
    except ImportError:
        raise UserError('writing safetensors needs a package more: pip install safetensors') from None
    release = release_for(config.architecture, model, by)
    tensors = state_dict(config.architecture, model, variables, release)
    save_file(tensors, out / 'model.safetensors', metadata={'format': 'pt' if release else 'flax'})
    name = release.theirs if release else config.architecture
    _write_json(out / 'config.json', hub_config(config, name, release, card.get('class_names')))
    write_atomically(out / 'README.md', model_card(config, name, release, card))
    whose = f'{release.theirs} of {release.by}' if release else 'our own names and layouts'
    return [f'{len(tensors)} tensors, named and laid out as {whose}']


def hub_config(config, name, release, class_names=None):
    """The values that timm looks up in a folder or on the hub: the network's name, its pixels, and its classes' names
    where all are told."""
    size = config.image_size
    first, last = (release.table(release.first), release.table(release.last)) if release else ('', '')
    numbers = {'mean': (0.0,) * config.channels, 'std': (1.0,) * config.channels}
    if config.normalize == 'constant':
        for key, table in (('mean', colour.MEANS), ('std', colour.STDS)):
            values = np.broadcast_to(table[config[key]], (config.channels,)) / 255
            numbers[key] = tuple(round(float(value), 6) for value in values)
    short = config.test_crop.short_side[0] if config.test_crop.kind == 'center' else size
    return {
        'architecture': name,
        'num_classes': config.num_classes,
        **({'label_names': list(class_names)} if class_names and None not in class_names else {}),
        'pretrained_cfg': {
            **{'input_size': [config.channels, size, size], 'num_classes': config.num_classes},
            **{'interpolation': config.test_crop.filter, 'crop_pct': round(size / short, 4), 'crop_mode': 'center'},
            **{key: list(values) for key, values in numbers.items()},
            **{'first_conv': first, 'classifier': last},
        },
    }


def model_card(config, name, release, card):
    """README.md of an exported network: what it is, where it comes from, what it takes."""
    paper, published = NETWORKS[config.architecture].paper, papers.HEADLINES.get(config.architecture, 'nothing')
    source, options = card['source'], card['options']
    sha256 = f', SHA-256 {source["sha256"]}' if 'sha256' in source else ''
    library = {'timm': 'timm', 'timm_legacy': 'timm', 'torchvision': 'timm'}.get(release.by if release else '', 'flax')
    lines = [
        '---',
        f'license: {card["licence"] or "other"}',
        f'library_name: {library}',
        'pipeline_tag: image-classification',
        'tags: [image-classification, imagenet-decade]',
        '---',
        f'# {name}',
        '',
        *([f'{paper}.', ''] if paper else []),
        f'- Network: `{config.architecture}` of the ImageNet decade in JAX, options {options or "none"}; '
        f'{config.num_classes} classes.',
        f'- Weights: {source["name"]}, from {source["file"]}{sha256}.',
        f'- Classes: {card["classes"]}',
        f'- Published of it: {published}. This is the paper, not these weights.',
        f'- Input: {config.image_size}x{config.image_size}, pixels as `passport.json` says.',
    ]
    return '\n'.join(lines) + '\n'


def stablehlo(out, config, model, variables, card, by):
    """model.stablehlo: the forward pass, weights inside, any batch; `jax.export.deserialize` and every compiler of
    StableHLO take it."""
    exported = jax_export.export(jax.jit(forward(model, variables)), platforms=('cpu', 'cuda', 'rocm', 'tpu'))
    with layers.plain_forms():
        made = exported(_any_batch(config))
    write_atomically(out / 'model.stablehlo', bytes(made.serialize()))
    return ['model.stablehlo: float32 [batch, H, W, C], normalised as passport.json says, to logits; any batch']


def onnx(out, config, model, variables, card, by):
    """model.onnx: the same, for ONNX Runtime and others."""
    shape = config.image_size, config.image_size, config.channels
    with layers.plain_forms():
        onnx_file.write(out / 'model.onnx', forward(model, variables), shape, config.architecture)
    return ['model.onnx: float32 [batch, H, W, C], normalised as passport.json says, to logits; any batch']


# Readers: the logits of an exported folder, by another way than the network that was written.


def answer_of_safetensors(out, config, model, images, by):
    """The tensors, under whatever names, as our variables again."""
    release = release_for(config.architecture, model, by)
    if release:
        tensors = files.read(out / 'model.safetensors').tensors
        variables = convert.convert(tensors, config.architecture, release.by).variables
    else:
        from safetensors.numpy import load_file

        flat = {tuple(name.split('.')): value for name, value in load_file(out / 'model.safetensors').items()}
        variables = traverse_util.unflatten_dict(flat)
    return jax.jit(model.apply)(variables, images)


def answer_of_stablehlo(out, config, model, images, by):
    """The program, deserialized and called."""
    return jax_export.deserialize(bytearray((out / 'model.stablehlo').read_bytes())).call(images)


def answer_of_onnx(out, config, model, images, by):
    """The graph in ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError('an ONNX file is run once before it is done: pip install onnxruntime') from None
    try:
        session = onnxruntime.InferenceSession(out / 'model.onnx', providers=['CPUExecutionProvider'])
        return session.run(None, {'images': images})[0]
    except Exception as error:  # its exceptions have no base but Exception
        raise UserError(
            f'the onnx file cannot be opened and run ({first_line(error)}); nothing is left of it. This is a fault of '
            'the export: please report it'
        ) from None


FORMATS = {  # (writer, reader)
    'safetensors': (safetensors, answer_of_safetensors),
    'stablehlo': (stablehlo, answer_of_stablehlo),
    'onnx': (onnx, answer_of_onnx),
}


def forward(model, variables):
    """Images, as the network takes them, to logits."""
    return lambda images: model.apply(variables, images)


def _any_batch(config):
    (batch,) = jax_export.symbolic_shape('batch')
    shape = batch, config.image_size, config.image_size, config.channels
    return jax.ShapeDtypeStruct(shape, 'float32')


def write(to, out, config, model, variables, card, by=''):
    """Writes a network to a folder that is there, reads it again and compares its logits of an image.

    Args:
      to: 'safetensors', 'stablehlo' or 'onnx'.
      out: the folder.
      config: see `passport.make`, as for the next two.
      model: the network.
      variables: {'params', 'batch_stats'}.
      card: the passport.
      by: see `release_for`.

    Returns:
      Sentences on what was written.

    Raises:
      UserError: what was written cannot be read, or answers otherwise than the network.
    """
    out, (writer, reader) = Path(out), FORMATS[to]
    notes = writer(out, config, model, variables, card, by)
    images = passport.probe_image(config.image_size, config.channels).astype(np.float32) / 128 - 1
    with jax.default_matmul_precision('highest'):
        expected = np.asarray(jax.jit(model.apply)(variables, images))
        logits = np.asarray(reader(out, config, model, images, by))
    apart = np.abs(logits - expected).max() if logits.shape == expected.shape else np.nan
    if not apart <= passport.TOLERANCE * np.sqrt(np.mean(expected**2)):
        raise UserError(
            f'the {to} file was opened and run, and answers otherwise than the network (by {apart:g} in a logit); '
            'nothing is left of it. This is a fault of the export: please report it'
        )
    passport.save(out, card)
    return notes


def _write_json(path, value):
    write_atomically(path, json.dumps(value, indent=2) + '\n')
