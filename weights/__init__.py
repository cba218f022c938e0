"""Other people's weights to our checkpoints, and back. `convert_file` and `export` are the room's doors."""

import contextlib
import json
import os
import tempfile
from pathlib import Path

import jax
import numpy as np

from configs import base, imagenet
from input_pipeline import datasets, statistics
from input_pipeline.pixels import Pixels
from runtime.errors import UserError, nearest
from runtime.files import write_atomically
from training import checkpoints
from training.run import build_model, check
from weights import caffe_file, convert, exporting, files, passport


def convert_file(source, arch, out, by='', keep_bgr=False, mean='', licence=''):
    """Makes a checkpoint of a file of weights, with its config and its passport.

    Args:
      source: the file; see `files.read`.
      arch: our name of the network.
      out: the folder to make; there is nothing yet, or an empty one.
      by: the release, where names alone do not tell; see `releases.py`.
      keep_bgr: leave a first convolution that reads blue, green, red as it is; else its channels are swapped.
      mean: a .binaryproto of Caffe: the mean image to subtract.
      licence: of the weights, in words.

    Returns:
      The passport; see `passport.make`.

    Raises:
      UserError: a file that is not these weights; a folder that is not empty.
    """
    with _folder(out) as folder:
        weights = files.read(source)
        converted = convert.convert(weights.tensors, arch, by, keep_bgr)
        config = config_of(arch, converted)
        measured = {}
        if mean:
            measured = statistics.of_mean_image(np.ascontiguousarray(caffe_file.read_mean(mean)[..., ::-1]))
            statistics.save(folder / statistics.NAME, measured)
            config.normalize = 'mean_image'
            config.colour.mean_under_crop = config.test_crop.warp  # else crops lie elsewhere than in Caffe's 256x256
        told = {
            **{'file': Path(source).name, 'sha256': files.sha256(source), 'kind': weights.kind},
            **{'release': converted.release.by, 'name': converted.release.theirs, 'metadata': weights.metadata},
        }
        licence = licence or weights.metadata.get('license') or None
        notes = [*weights.notes, *converted.notes]
        names = datasets.class_names(config.dataset, config.num_classes, released=True)
        pixels = Pixels(config, measured)
        card = passport.make(config, build_model(config), converted.variables, pixels, told, licence, notes, names)
        with checkpoints.Checkpoints(folder / checkpoints.FOLDER) as kept:
            kept.save_model(converted.variables, checkpoints.describe(config, names))
        write_atomically(folder / 'config.json', json.dumps(json.loads(config.to_json_best_effort()), indent=2) + '\n')
        passport.save(folder, card)
    return card


def config_of(arch, converted):
    """The config that a converted checkpoint is tested with: its release's network and pixels."""
    pixels = converted.release.pixels
    config = imagenet.get_config() if pixels['dataset'] == 'imagenet' else base.get_config()
    config.architecture = arch
    config.architecture_options.update(converted.release.options)
    config.num_classes = converted.num_classes
    config.update(pixels)
    if converted.bgr:
        config.channel_order = 'bgr'
    return config


def export(config, checkpoint, which, to, out, by=''):
    """Writes a checkpoint's network for other programs.

    Args:
      config: the one that lies with the checkpoint.
      checkpoint: a run's workdir, a converted checkpoint, or one checkpoint.
      which: of a workdir's, 'best', 'latest' or a step.
      to: 'safetensors', 'stablehlo' or 'onnx'.
      out: the folder to make.
      by: whose names and layouts, of safetensors; '' the first that fit, 'ours' for our own.

    Returns:
      Sentences on what was written. It was opened again and run: it answers an image as the network does.

    Raises:
      UserError: no such format or checkpoint; a folder that is not empty; a network that has no such names; a file that
        answers otherwise.
    """
    if to not in exporting.FORMATS:
        known = ', '.join(exporting.FORMATS)
        raise UserError(f'no format {to!r}{nearest(to, exporting.FORMATS)} --to is one of {known}.')
    check(config)
    narrow = {config.dtype, config.architecture_options.get('param_dtype', 'float32')} - {'float32'}
    if narrow:
        config = config.copy_and_resolve_references()
        config.dtype = 'float32'
        if 'param_dtype' in config.architecture_options:
            config.architecture_options.param_dtype = 'float32'
    model, shape = build_model(config), (config.image_size, config.image_size, config.channels)
    read = checkpoints.read_deployed(model, shape, checkpoint, which)
    variables, workdir = jax.device_get(read.variables), read.where.parent.parent
    card = passport.read(workdir)
    if not card:
        pixels = Pixels(config, statistics.of_run(config, workdir))
        names = read.info.get('class_names') or datasets.class_names(config.dataset, config.num_classes)
        told = {'file': f'{workdir.name}/checkpoints/{read.step}', 'name': f'{config.architecture}, trained here'}
        card = passport.make(config, model, variables, pixels, told, class_names=names)
    notes = [f'{" and ".join(narrow)} becomes float32'] if narrow else []
    with _folder(out) as made:
        return notes + exporting.write(to, made, config, model, variables, card, by)


@contextlib.contextmanager
def _folder(out):
    """A folder to fill, which becomes `out` when it is whole; UserError where something is there already."""
    out = Path(out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f'{out} is there already; pass another --out, nothing is written over')
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{out.name}.', dir=out.absolute().parent) as beside:
        partial = Path(beside, out.name)
        partial.mkdir()
        yield partial
        if out.is_dir():
            out.rmdir()
        os.replace(partial, out)
