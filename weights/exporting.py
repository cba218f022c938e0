"""Export of checkpoints: safetensors as on the hubs, StableHLO, ONNX."""

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
    """Return the PyTorch release whose network is equal to this one; None for our own names (`by` is 'ours').

    Args:
      arch: our name of the network.
      model: the network.
      by: a release, '' for the first that fits, or 'ours'.

    Raises:
      UserError: no release fits.
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
    if differences:
        why = f'{"; ".join(differences)}: not the same network'
    else:
        why = f'{by or "torchvision or timm"} has no {arch}'
    raise UserError(f'{why}. Pass --release {OURS} to keep our names and layouts')


def state_dict(arch, model, variables, release):
    """Return {name: array} of a network, with the names and layouts of a PyTorch release, or ours if it is None."""
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
        if path[-1] == 'mean':  # PyTorch stores the number of batches; nothing reads it
            tensors[name.replace('running_mean', 'num_batches_tracked')] = np.zeros((), np.int64)
    return tensors


def safetensors(out, config, model, variables, card, by):
    """Write model.safetensors, config.json as timm and the hub read it, and README.md, a model card."""
    try:
        from safetensors.numpy import save_file
    except ImportError:
        raise UserError('writing safetensors needs another package: pip install safetensors') from None
    release = release_for(config.architecture, model, by)
    tensors = state_dict(config.architecture, model, variables, release)
    save_file(tensors, out / 'model.safetensors', metadata={'format': 'pt' if release else 'flax'})
    name = release.theirs if release else config.architecture
    _write_json(out / 'config.json', hub_config(config, name, release, card.get('class_names')))
    write_atomically(out / 'README.md', model_card(config, name, release, card))
    naming = f'{release.theirs} of {release.by}' if release else 'our own names and layouts'
    return [f'{len(tensors)} tensors, named and laid out as {naming}']


def hub_config(config, name, release, class_names=None):
    """Return the values that timm reads from a folder or the hub: the network's name, its pixels, and the names of its
    classes if all are known."""
    size = config.image_size
    first, last = (release.table(release.first), release.table(release.last)) if release else ('', '')
    constants = {'mean': (0.0,) * config.channels, 'std': (1.0,) * config.channels}
    if config.normalize == 'constant':
        for key, table in (('mean', colour.MEANS), ('std', colour.STDS)):
            values = np.broadcast_to(table[config[key]], (config.channels,)) / 255
            constants[key] = tuple(round(float(value), 6) for value in values)
    short = config.test_crop.short_side[0] if config.test_crop.kind == 'center' else size
    return {
        'architecture': name,
        'num_classes': config.num_classes,
        **({'label_names': list(class_names)} if class_names and None not in class_names else {}),
        'pretrained_cfg': {
            **{'input_size': [config.channels, size, size], 'num_classes': config.num_classes},
            **{'interpolation': config.test_crop.filter, 'crop_pct': round(size / short, 4), 'crop_mode': 'center'},
            **{key: list(values) for key, values in constants.items()},
            **{'first_conv': first, 'classifier': last},
        },
    }


def model_card(config, name, release, card):
    """Return README.md of an exported network: what it is, where it comes from, what its input is."""
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
        f"- Published error: {published}. This is the paper's, not that of these weights.",
        f'- Input: {config.image_size}x{config.image_size}, pixels as described in `passport.json`.',
    ]
    return '\n'.join(lines) + '\n'


def stablehlo(out, config, model, variables, card, by):
    """Write model.stablehlo: the forward pass with its weights, for any batch size; `jax.export.deserialize` and every
    StableHLO compiler read it."""
    exported = jax_export.export(jax.jit(forward(model, variables)), platforms=('cpu', 'cuda', 'rocm', 'tpu'))
    with layers.plain_forms():
        program = exported(_any_batch(config))
    write_atomically(out / 'model.stablehlo', bytes(program.serialize()))
    return ['model.stablehlo: float32 [batch, H, W, C], normalized as in passport.json, to logits; any batch size']


def onnx(out, config, model, variables, card, by):
    """Write model.onnx: the same, for ONNX Runtime and others."""
    shape = config.image_size, config.image_size, config.channels
    with layers.plain_forms():
        any_size = onnx_file.write(out / 'model.onnx', forward(model, variables), shape, config.architecture)
    sizes = 'any batch and image size' if any_size else f'any batch size, images of {shape[0]}x{shape[1]}'
    return [f'model.onnx: float32 [batch, H, W, C], normalized as in passport.json, to logits; {sizes}']


# Readers: compute logits from an exported folder, independently of the network that was written.


def answer_of_safetensors(out, config, model, images, by):
    """Convert the tensors back to our variables, and run the network."""
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
    """Deserialize the program and call it."""
    return jax_export.deserialize(bytearray((out / 'model.stablehlo').read_bytes())).call(images)


def answer_of_onnx(out, config, model, images, by):
    """Run the graph in ONNX Runtime."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            'the ONNX file is run once to check it, which needs another package: pip install onnxruntime'
        ) from None
    try:
        session = onnxruntime.InferenceSession(out / 'model.onnx', providers=['CPUExecutionProvider'])
        return session.run(None, {'images': images})[0]
    except Exception as error:  # its exceptions have no other common base
        raise UserError(
            f'the onnx file cannot be opened and run ({first_line(error)}) and was removed. This is a bug in the '
            'export: please report it'
        ) from None


FORMATS = {  # (writer, reader)
    'safetensors': (safetensors, answer_of_safetensors),
    'stablehlo': (stablehlo, answer_of_stablehlo),
    'onnx': (onnx, answer_of_onnx),
}


def forward(model, variables):
    """Return the function from images, as the network takes them, to logits."""
    return lambda images: model.apply(variables, images)


def _any_batch(config):
    (batch,) = jax_export.symbolic_shape('batch')
    shape = batch, config.image_size, config.image_size, config.channels
    return jax.ShapeDtypeStruct(shape, 'float32')


def write(to, out, config, model, variables, card, by=''):
    """Write a network to an existing folder, read it again and compare the logits of an image.

    Args:
      to: 'safetensors', 'stablehlo' or 'onnx'.
      out: the folder.
      config: the config of the network.
      model: the network.
      variables: {'params', 'batch_stats'}.
      card: the passport.
      by: see `release_for`.

    Returns:
      Sentences on what was written.

    Raises:
      UserError: the file cannot be read, or computes different logits.
    """
    out, (writer, reader) = Path(out), FORMATS[to]
    notes = writer(out, config, model, variables, card, by)
    images = passport.probe_image(config.image_size, config.channels).astype(np.float32) / 128 - 1
    with jax.default_matmul_precision('highest'):
        expected = np.asarray(jax.jit(model.apply)(variables, images))
        logits = np.asarray(reader(out, config, model, images, by))
    difference = np.abs(logits - expected).max() if logits.shape == expected.shape else np.nan
    if not difference <= passport.TOLERANCE * np.sqrt(np.mean(expected**2)):
        raise UserError(
            f'the {to} file computes other logits than the network (difference {difference:g}) and was removed. This '
            'is a bug in the export: please report it'
        )
    passport.save(out, card)
    return notes


def _write_json(path, value):
    write_atomically(path, json.dumps(value, indent=2) + '\n')
