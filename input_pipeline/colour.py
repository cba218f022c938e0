"""Device side, inside the jitted step: pixel values, in float32 before any cast."""

import jax.numpy as jnp


def scale_range(images, low, high):
    """uint8 to float32, 0 to `low` and 255 to `high`.

    LeNet-5 takes background (0) at -0.1 and ink (255) at 1.175, which makes the mean roughly 0 and the variance
    roughly 1 (LeCun et al. 1998, section II.B).
    """
    return images.astype(jnp.float32) * ((high - low) / 255) + low
