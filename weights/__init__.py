"""Conversion of published weights to our checkpoints, and back: `convert_file` and `export`."""

import json
import os
from pathlib import Path

import jax
import numpy as np

from configs import base, imagenet
from input_pipeline import datasets, statistics
from input_pipeline.pixels import Pixels
from runtime.errors import UserError, nearest
from runtime.files import atomic_folder, write_atomically
from training import checkpoints
from training.run import build_model, check
from weights import caffe_file, convert, exporting, fetch, files, passport


def convert_file(source, arch, out, by='', keep_bgr=False, mean='', licence='', say=print):
    """Convert a weight file, or a release that is fetched by name, to a checkpoint with its config and its passport.

    Args:
      source: the weight file, see `files.read`; or the name of a release, see `fetch.fetch`.
      arch: our name of the network; '' to take that of a release that has a name.
      out: the folder to create; it must not exist or be empty.
      by: the release, if the tensors' names do not determine it; see `releases.py`.
      keep_bgr: do not swap the channels of a first convolution that reads blue, green, red.
      mean: a Caffe .binaryproto with the mean image to subtract.
      licence: license of the weights, as text; '' for the release's, if it is known.
      say: called with each line that tells what is fetched from where.

    Returns:
      The passport; see `passport.make`.

    Raises:
      UserError: the file does not have the weights of this network, or the folder is not empty.
    """
    with _folder(out) as folder:
        if fetch.is_name(source):
            release = fetch.fetch(source, arch, say)
        else:
            release = fetch.Fetched(Path(source), arch)
        path, arch = release.path, release.arch
        weights = files.read(path)
        converted = convert.convert(weights.tensors, arch, by or release.by, keep_bgr)
        config = config_of(arch, converted, release.pixels)
        measured = {}
        if mean:
            measured = statistics.of_mean_image(np.ascontiguousarray(caffe_file.read_mean(mean)[..., ::-1]))
            statistics.save(folder / statistics.NAME, measured)
            config.normalize = 'mean_image'
            config.colour.mean_under_crop = config.test_crop.warp  # only then crops are placed as in Caffe's 256x256
        origin = {
            **{'file': path.name, 'bytes': path.stat().st_size, 'kind': weights.kind},
            **{'release': converted.release.by, 'name': converted.release.theirs, 'metadata': weights.metadata},
            **(release.origin or {'sha256': files.sha256(path)}),
        }
        licence = licence or release.licence or weights.metadata.get('license') or None
        notes = [*weights.notes, *converted.notes]
        names = datasets.class_names(config.dataset, config.num_classes, released=True)
        if len(release.class_names) == config.num_classes:
            names = release.class_names
        pixels = Pixels(config, measured)
        card = passport.make(config, build_model(config), converted.variables, pixels, origin, licence, notes, names)
        with checkpoints.Checkpoints(folder / checkpoints.FOLDER) as manager:
            manager.save_model(converted.variables, checkpoints.describe(config, names))
        write_atomically(folder / 'config.json', json.dumps(json.loads(config.to_json_best_effort()), indent=2) + '\n')
        passport.save(folder, card)
    return card


def converted(source, say=print):
    """Return the folder of a named release's checkpoint: fetched and converted the first time, found in a cache later.

    Args:
      source: see `fetch.fetch`.
      say: called with each line that tells what is fetched from where.

    Raises:
      UserError: see `convert_file`.
    """
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache', 'imagenet-decade', 'weights')
    folder = cache / source.replace('://', '--').replace(':', '--').replace('/', '--')
    if not folder.exists():
        convert_file(source, '', folder, say=say)
    return folder


def config_of(arch, converted, pixels=None):
    """Return the config of a converted checkpoint, with the network and the pixels of its release, or its own."""
    usual = converted.release.pixels
    config = imagenet.get_config() if usual['dataset'] == 'imagenet' else base.get_config()
    config.architecture = arch
    config.architecture_options.update(converted.release.options)
    config.num_classes = converted.num_classes
    config.update(usual | {key: value for key, value in (pixels or {}).items() if key in usual})
    if converted.bgr:
        config.channel_order = 'bgr'
    return config


def export(config, checkpoint, which, to, out, by=''):
    """Export a checkpoint's network for other programs.

    The exported file is read again and run, to check that it computes the same logits.

    Args:
      config: the config stored with the checkpoint.
      checkpoint: a run's workdir, a converted checkpoint, or one checkpoint.
      which: for a workdir: 'best', 'latest' or a step.
      to: 'safetensors', 'stablehlo' or 'onnx'.
      out: the folder to create; it must not exist or be empty.
      by: release whose names and layouts a safetensors file has; '' is the first that fits, 'ours' our own.

    Returns:
      Sentences on what was written.

    Raises:
      UserError: the format or the checkpoint does not exist, the folder is not empty, the release does not have this
        network, or the exported file computes different logits.
    """
    if to not in exporting.FORMATS:
        known = ', '.join(exporting.FORMATS)
        raise UserError(f'no format {to!r}{nearest(to, exporting.FORMATS)} --to takes {known}.')
    check(config)
    narrow = {config.dtype, config.architecture_options.get('param_dtype', 'float32')} - {'float32'}
    if narrow:
        config = config.copy_and_resolve_references()
        config.dtype = 'float32'
        if 'param_dtype' in config.architecture_options:
            config.architecture_options.param_dtype = 'float32'
    model, shape = build_model(config), (config.image_size, config.image_size, config.channels)
    deployed = checkpoints.read_deployed(model, shape, checkpoint, which)
    variables, workdir = jax.device_get(deployed.variables), deployed.where.parent.parent
    card = passport.read(workdir)
    if not card:
        pixels = Pixels(config, statistics.of_run(config, workdir))
        names = deployed.info.get('class_names') or datasets.class_names(config.dataset, config.num_classes)
        origin = {'file': f'{workdir.name}/checkpoints/{deployed.step}', 'name': f'{config.architecture}, trained here'}
        card = passport.make(config, model, variables, pixels, origin, class_names=names)
    notes = [f'{" and ".join(narrow)} is converted to float32'] if narrow else []
    with _folder(out) as folder:
        return notes + exporting.write(to, folder, config, model, variables, card, by)


def _folder(out):
    """Return a context manager that yields a folder, which becomes `out` when complete.

    Raises:
      UserError: `out` is not empty.
    """
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f'{out} already exists and is not overwritten; pass another --out')
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    return atomic_folder(out)
