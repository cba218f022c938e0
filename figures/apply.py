"""Apply a network to images under the protocol 'single', in batches."""

import jax
import numpy as np

from architectures import layers
from input_pipeline import loader
from runtime import mesh


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


def outputs(member, source, function, progress=lambda amount: None):
    """Return the outputs of a function for every image of a source.

    Args:
      member, function: see `program`; the function returns an array [B, ...].
      source: see `input_pipeline.sources`.
      progress: called with the number of images finished since its last call.

    Returns:
      (float32 [N, ...], indices of the images, int [N]). Images that cannot be read are left out if the config's
      `on_bad_image` is 'skip'.

    Raises:
      UserError: if an image cannot be read and is not skipped.
    """
    config, run, values, numbers = member.config, program(member, function), [], []
    size = batch_size(config, len(source))
    batches = loader.test_batches(source, member.pixels.test_form, size, config.on_bad_image, config.workers)
    for batch in batches:
        mask = np.asarray(batch['mask'])
        images = on_devices({key: np.asarray(batch[key]) for key in ('image', 'offset')})
        values.append(np.asarray(run(member.variables, images), np.float32)[mask])
        numbers.append(np.asarray(batch['index'])[mask])
        progress(int(mask.sum()))
    return np.concatenate(values), np.concatenate(numbers)
