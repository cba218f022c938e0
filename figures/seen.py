"""Images as a network sees them under the protocol 'single', and what it makes of them in batches."""

import jax
import numpy as np

from architectures import layers
from input_pipeline import loader
from runtime import mesh


def view(pixels, image):
    """The network's view of an image, encoded or uint8 [H, W, C]: uint8 [size, size, C], before it is normalised.

    Returns:
      (the view, its offset), see `loader.prepare_image`.
    """
    return loader.prepare_image(image, pixels.test_form)


def program(member, function, batch_of=lambda given: given):
    """A jitted (variables, batch) -> function(images).

    Args:
      member: see `scoring.Member`.
      function: (model, variables, float images [B, H, W, C], normalised as the config says) -> anything.
      batch_of: what is called with -> {'image': uint8 [B, H, W, C], 'offset': int [B, 2]}.
    """

    def run(variables, given):
        return function(member.model, variables, member.pixels.test(batch_of(given)))

    return jax.jit(run, compiler_options=layers.compiler_options())


def batch_size(config, most):
    """Images a batch, for at most so many: those of the config, a multiple of the devices."""
    devices = mesh.of_this_process().size
    return -(-min(config.test_batch_size, most) // devices) * devices


def on_devices(batch):
    """A batch cut over the devices of this process."""
    return jax.device_put(batch, mesh.batch_sharding(mesh.of_this_process()))


def outputs(member, source, function, progress=lambda amount: None):
    """What a function makes of every image of a source.

    Args:
      member, function: see `program`; it gives an array [B, ...].
      source: see `input_pipeline.sources`.
      progress: called with the number of images that are done since its last call.

    Returns:
      (float32 [N, ...], numbers of the images int [N]); images that cannot be read are left out, where the config's
      `on_bad_image` is 'skip'.

    Raises:
      UserError: an image that cannot be read.
    """
    config, run, found, numbers = member.config, program(member, function), [], []
    size = batch_size(config, len(source))
    batches = loader.test_batches(source, member.pixels.test_form, size, config.on_bad_image, config.workers)
    for batch in batches:
        mask = np.asarray(batch['mask'])
        images = on_devices({key: np.asarray(batch[key]) for key in ('image', 'offset')})
        found.append(np.asarray(run(member.variables, images), np.float32)[mask])
        numbers.append(np.asarray(batch['index'])[mask])
        progress(int(mask.sum()))
    return np.concatenate(found), np.concatenate(numbers)
