"""passport.json of a converted checkpoint: where it is from, what its input is, what it should compute."""

import json
import zlib
from pathlib import Path
from typing import Annotated

import jax
import msgspec
import numpy as np

from architectures import layers
from input_pipeline import colour, datasets
from runtime import foreign
from runtime.errors import UserError
from runtime.files import write_atomically

NAME = 'passport.json'
TOLERANCE = 1e-3  # of a layer's root mean square; float32 on different machines differs by 1e-5
_VALUES = 8

PIXELS = (
    'image_size', 'channels', 'channel_order', 'fit', 'test_crop', 'normalize', 'pixel_range', 'mean', 'std',
)  # fmt: skip


def make(config, model, variables, pixels, source, licence=None, notes=(), class_names=None):
    """Return a passport: a dict that can be written as JSON.

    Args:
      config: the config that the network is tested with.
      model: the network.
      variables: variables of the network, {'params', 'batch_stats'}.
      pixels: the `input_pipeline.pixels.Pixels` of the config.
      source: where the weights come from: {'name', ...}.
      licence: license of the weights, or None if unknown.
      notes: sentences on how the weights were changed.
      class_names: names of the classes, or None if unknown.

    Raises:
      UserError: the network's activations for the probe image are not finite.
    """
    num_classes = config.num_classes
    probe = answers(model, variables, pixels)
    broken = [layer for layer, answer in probe.items() if not np.isfinite([answer['rms'], *answer['values']]).all()]
    if broken:
        raise UserError(
            f'{config.architecture} has NaN or infinite activations in {", ".join(broken)}: its weights are damaged or '
            'too large'
        )
    return {
        'architecture': config.architecture,
        'options': json.loads(config.architecture_options.to_json()),
        'num_classes': num_classes,
        'source': source,
        'licence': licence,
        'preprocessing': pixels_of(config),
        'classes': datasets.describe(class_names, num_classes),
        'class_names': class_names and list(class_names),
        'notes': list(notes),
        'probe': probe,
    }


def save(path, card):
    """Write passport.json to a folder."""
    write_atomically(Path(path) / NAME, json.dumps(card, indent=2) + '\n')


def probe_image(size, channels):
    """Return the probe image of passports: uint8 [1, size, size, channels], always the same.

    It has patches of an eighth of the side, for large shapes, and noise on each pixel, both from the raw output of
    Philox, which NumPy guarantees not to change.
    """
    draws = np.random.Philox(key=zlib.crc32(b'probe')).random_raw(64 * channels + size * size * channels)
    levels = (draws >> np.uint64(56)).astype(np.int32)  # 0..255
    patches, noise = levels[: 64 * channels].reshape(8, 8, channels), levels[64 * channels :]
    place = np.arange(size) * 8 // size
    image = (3 * patches[place][:, place] + noise.reshape(size, size, channels)) // 4
    return image.astype(np.uint8)[None]


def answers(model, variables, pixels):
    """Return a network's activations for the probe image, {layer: {'shape', 'rms', 'values'}}.

    The values are a few of each layer's, evenly spaced.

    Args:
      model: a network of `architectures.create`.
      variables: variables of the network.
      pixels: the `input_pipeline.pixels.Pixels` that prepare the image.
    """
    image = probe_image(pixels.size, pixels.channels)
    offset = np.zeros((1, 2), np.int32)

    def run(variables, image):
        images = pixels.test({'image': image, 'offset': offset})
        logits, state = model.apply(variables, images, mutable=['activations'])
        return state['activations'] | {'logits': logits}

    with jax.default_matmul_precision('highest'), layers.plain_forms():  # which compile faster
        activations = jax.device_get(jax.jit(run)(variables, image))
    return {name: _summary(np.asarray(activations[name], np.float32)) for name in sorted(activations)}


def _summary(x):
    places = np.linspace(0, x.size - 1, min(_VALUES, x.size)).astype(int)
    return {
        'shape': list(x.shape[1:]),
        'rms': float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))),
        'values': [float(value) for value in x.ravel()[places]],
    }


def check(passport, probe, where):
    """Raise UserError if `probe`, a network's `answers`, does not agree with its passport."""
    for name, expected in passport['probe'].items():
        actual = probe.get(name)
        if actual is None or actual['shape'] != expected['shape']:
            shape = actual and actual['shape']
            raise UserError(f'{where}: {name} has the shape {expected["shape"]} in its passport and {shape} here')
        if len(actual['values']) != len(expected['values']):
            raise UserError(f'{where}: {name} has {len(expected["values"])} values in its passport; convert it again')
        limit = TOLERANCE * expected['rms']
        difference = np.max(np.abs(np.subtract(actual['values'], expected['values'])))
        if not difference <= limit or not abs(actual['rms'] - expected['rms']) <= limit:
            raise UserError(
                f'{where} does not compute what its passport says, from {name} on: the weights, the options or the '
                'pixels have changed; convert it again'
            )


def read(workdir):
    """Read the passport in a checkpoint's folder; None if it has none.

    Raises:
      UserError: passport.json is invalid.
    """
    path = Path(workdir) / NAME
    if not path.exists():
        return None
    foreign.read_json(path, _Passport, 'a passport')
    return foreign.read_json(path, dict, 'a passport')


class _Answer(msgspec.Struct):
    shape: list[int]
    rms: float
    values: list[float]


class _Passport(msgspec.Struct):
    """What is read of a passport."""

    architecture: str
    options: dict
    num_classes: int
    source: dict[str, str | int | dict[str, str]]
    licence: str | None
    classes: str
    notes: list[str]
    probe: Annotated[dict[str, _Answer], msgspec.Meta(min_length=1)]
    class_names: list[str] | None = None


def pixels_of(config):
    """Return the keys of a config that define the network's input, and the values of mean and std."""
    values = json.loads(config.to_json_best_effort())
    numbers = {'mean_values': colour.MEANS[config.mean], 'std_values': colour.STDS[config.std]}
    return {key: values[key] for key in PIXELS} | (numbers if config.normalize == 'constant' else {})
