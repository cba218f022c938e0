"""Apply a network to images under the protocol 'single', in batches."""

import functools

import jax
import numpy as np

import architectures
from architectures import layers
from input_pipeline import loader
from runtime import mesh
from runtime.errors import UserError, nearest


def view(pixels, image):
    """Return the view of an image that a network is applied to, before normalization.

    Args:
      pixels: the `Pixels` of the network.
      image: encoded, or uint8 [H, W, C].

    Returns:
      (uint8 [size, size, C], its offset), see `loader.prepare_image`.
    """
    return loader.prepare_image(image, pixels.test_form)


def program(member, function, batch_of=lambda batch: batch):
    """Return the jitted program (variables, batch) -> function(model, variables, images).

    Args:
      member: see `scoring.Member`.
      function: (model, variables, float images [B, H, W, C], normalized by the config) -> any tree of arrays.
      batch_of: function from the program's batch to {'image': uint8 [B, H, W, C], 'offset': int [B, 2]}.
    """

    def run(variables, batch):
        return function(member.model, variables, member.pixels.test(batch_of(batch)))

    return jax.jit(run, compiler_options=layers.compiler_options())


def batch_size(config, most):
    """Return the config's test batch size, at most `most`, rounded up to a multiple of the devices."""
    devices = mesh.of_this_process().size
    return -(-min(config.test_batch_size, most) // devices) * devices


def on_devices(batch):
    """Shard a batch over the devices of this process."""
    return jax.device_put(batch, mesh.batch_sharding(mesh.of_this_process()))


def outputs(member, source, function, progress=lambda amount: None, run=None):
    """Return the outputs of a function for every image of a source.

    Args:
      member, function: see `program`; the function returns an array [B, ...].
      source: see `input_pipeline.sources`.
      progress: called with the number of images finished since its last call.
      run: the `program` of the function, to compile it only once for several calls; None for a new one.

    Returns:
      (float32 [N, ...], indices of the images, int [N]). Images that cannot be read are left out if the config's
      `on_bad_image` is 'skip'.

    Raises:
      UserError: if an image cannot be read and is not skipped, or none can be read.
    """
    config, run, values, numbers = member.config, run or program(member, function), [], []
    size = batch_size(config, len(source))
    batches = loader.test_batches(source, member.pixels.test_form, size, config.on_bad_image, config.workers)
    for batch in batches:
        mask = np.asarray(batch['mask'])
        images = on_devices({key: np.asarray(batch[key]) for key in ('image', 'offset')})
        values.append(np.asarray(run(member.variables, images), np.float32)[mask])
        numbers.append(np.asarray(batch['index'])[mask])
        progress(int(mask.sum()))
    if not any(map(len, numbers)):
        raise UserError('none of the images can be read')
    return np.concatenate(values), np.concatenate(numbers)


def features(member, layer=''):
    """Return the function for `program` that computes the activations of a layer.

    Args:
      member: see `scoring.Member`.
      layer: one of the layers that the paper names (`architectures.activations`); '' for the last hidden layer.

    Returns:
      A function of (model, variables, images) that returns [B, D], or a map [B, H, W, C].

    Raises:
      UserError: the network has no such layer.
    """
    if not layer:
        return architectures.last_hidden
    image = jax.ShapeDtypeStruct((1, member.pixels.size, member.pixels.size, member.pixels.channels), np.float32)
    with layers.plain_forms():  # faster to trace
        known = jax.eval_shape(functools.partial(architectures.activations, member.model), member.variables, image)
    if layer not in known:
        raise UserError(f'no layer {layer!r}{nearest(layer, known)} There are: {", ".join(known)}')

    def read(model, variables, images):
        maps = architectures.activations(model, variables, images)[layer]
        return maps[:, 0, 0] if maps.shape[1:3] == (1, 1) else maps

    return read
