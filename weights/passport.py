"""What a converted checkpoint says of itself, in passport.json: whose it is, what it takes, what it should answer."""

import json
import zlib
from pathlib import Path

import jax
import numpy as np

from architectures import layers
from input_pipeline import colour, datasets
from runtime.errors import UserError
from runtime.files import write_atomically

NAME = 'passport.json'
TOLERANCE = 1e-3  # of the root mean square of a layer; float32 on another machine makes 1e-5
_VALUES = 8

PIXELS = (
    'image_size', 'channels', 'channel_order', 'fit', 'test_crop', 'normalize', 'pixel_range', 'mean', 'std',
)  # fmt: skip


def make(config, model, variables, pixels, source, licence=None, notes=(), class_names=None):
    """A passport: a dict fit for JSON.

    Args:
      config: the one that the network is tested with.
      model: the network.
      variables: its, {'params', 'batch_stats'}.
      pixels: of the config, see `input_pipeline.pixels`.
      source: where the weights come from: {'name', ...}.
      licence: of the weights, where it is known.
      notes: what was done to them, in sentences.
      class_names: see `input_pipeline.classes.known_names`; None where nobody tells.

    Raises:
      UserError: the network answers the probe image with numbers that are not finite.
    """
    number = config.num_classes
    probe = answers(model, variables, pixels)
    broken = [layer for layer, answer in probe.items() if not np.isfinite([answer['rms'], *answer['values']]).all()]
    if broken:
        raise UserError(
            f'{config.architecture} answers an image with numbers that are not finite, in {", ".join(broken)}: its '
            'weights are damaged or too large'
        )
    return {
        'architecture': config.architecture,
        'options': json.loads(config.architecture_options.to_json()),
        'num_classes': number,
        'source': source,
        'licence': licence,
        'preprocessing': pixels_of(config),
        'classes': datasets.describe(class_names, number),
        'class_names': class_names and list(class_names),
        'notes': list(notes),
        'probe': probe,
    }


def save(path, card):
    """Writes passport.json to a folder."""
    write_atomically(Path(path) / NAME, json.dumps(card, indent=2) + '\n')


def probe_image(size, channels):
    """The image that a passport's answers are to: uint8 [1, size, size, channels], the same for ever.

    Patches of an eighth of the side, so that it has large forms, and noise on each pixel; from the raw output of
    Philox, which NumPy promises to keep.
    """
    draws = np.random.Philox(key=zlib.crc32(b'probe')).random_raw(64 * channels + size * size * channels)
    levels = (draws >> np.uint64(56)).astype(np.int32)  # 0..255
    patches, noise = levels[: 64 * channels].reshape(8, 8, channels), levels[64 * channels :]
    place = np.arange(size) * 8 // size
    image = (3 * patches[place][:, place] + noise.reshape(size, size, channels)) // 4
    return image.astype(np.uint8)[None]


def answers(model, variables, pixels):
    """What a network makes of the probe image, {layer: {'shape', 'rms', 'values'}}; the values are evenly spaced.

    Args:
      model: a network of `architectures.create`.
      variables: its.
      pixels: how images become what it takes.
    """
    image = probe_image(pixels.size, pixels.channels)
    offset = np.zeros((1, 2), np.int32)

    def run(variables, image):
        images = pixels.test({'image': image, 'offset': offset})
        logits, state = model.apply(variables, images, mutable=['activations'])
        return state['activations'] | {'logits': logits}

    with jax.default_matmul_precision('highest'), layers.plain_forms():  # for one image, sooner compiled
        found = jax.device_get(jax.jit(run)(variables, image))
    return {name: _summary(np.asarray(found[name], np.float32)) for name in sorted(found)}


def _summary(x):
    places = np.linspace(0, x.size - 1, min(_VALUES, x.size)).astype(int)
    return {
        'shape': list(x.shape[1:]),
        'rms': float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))),
        'values': [float(value) for value in x.ravel()[places]],
    }


def check(passport, found, where):
    """Raises UserError where a network's answers to the probe image are not those of its passport."""
    wanted = passport['probe']
    for name, there in wanted.items():
        here = found.get(name)
        if here is None or here['shape'] != there['shape']:
            shape = here and here['shape']
            raise UserError(f'{where}: its passport knows {name} of {there["shape"]}, and the network makes {shape}')
        apart = np.max(np.abs(np.subtract(here['values'], there['values'])))
        if not apart <= TOLERANCE * there['rms'] or not abs(here['rms'] - there['rms']) <= TOLERANCE * there['rms']:
            raise UserError(
                f'{where} answers the probe image otherwise than its passport says, from {name} on: the weights, the '
                'options or the pixels are not those it was made with; convert it again'
            )


def read(workdir):
    """The passport in a checkpoint's folder, or None.

    Raises:
      UserError: a file of that name that is none.
    """
    path = Path(workdir) / NAME
    if not path.is_file():
        return None
    try:
        passport = json.loads(path.read_text())
        passport['probe'], passport['architecture']
    except (ValueError, KeyError, TypeError):
        raise UserError(f'{path} is no passport; convert the weights again') from None
    return passport


def pixels_of(config):
    """What a config says of the network's pixels: its keys, and in numbers what is subtracted and divided by."""
    values = json.loads(config.to_json_best_effort())
    numbers = {'mean_values': colour.MEANS[config.mean], 'std_values': colour.STDS[config.std]}
    return {key: values[key] for key in PIXELS} | (numbers if config.normalize == 'constant' else {})
