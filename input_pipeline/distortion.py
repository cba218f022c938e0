"""Random distortions of the plane, on the device, inside the jitted step: LeNet-5's affine ones, and rotations.

The affine ones are those of LeNet-5's second experiment (LeCun et al. 1998, section III.C): combinations of horizontal
and vertical translation, scaling, squeezing (compression along one axis with elongation along the other) and horizontal
shear. The paper gives no magnitudes; the config does.
"""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def affine_matrix(key, translation, scaling, squeezing, shear):
    """Draw a forward map about the center, x' = s q x + k y + tx and y' = (s/q) y + ty, as 2x3 [[.., tx], [.., ty]].

    tx, ty ~ U(-translation, translation) pixels, s ~ U(1-scaling, 1+scaling), q ~ U(1-squeezing, 1+squeezing),
    k ~ U(-shear, shear).
    """
    tx, ty, s, q, k = jax.random.uniform(key, (5,), minval=-1, maxval=1)
    s, q, k = 1 + scaling * s, 1 + squeezing * q, shear * k
    return jnp.array([[s * q, k, translation * tx], [0, s / q, translation * ty]])


def warp(image, matrix):
    """Warp an image [H, W, C] by the forward map `matrix` about its center: bilinear, zeros outside, same dtype."""
    height, width, _ = image.shape
    linear, shift = matrix[:, :2], matrix[:, 2]
    y, x = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2, indexing='ij')
    # The position that each pixel comes from: the 2x2 inverse, written out.
    (a, b), (c, d) = linear
    x, y = x - shift[0], y - shift[1]
    determinant = a * d - b * c
    from_x, from_y = (d * x - b * y) / determinant, (a * y - c * x) / determinant
    rows, columns = from_y + (height - 1) / 2, from_x + (width - 1) / 2
    planes = jax.vmap(lambda plane: map_coordinates(plane, [rows, columns], order=1), in_axes=-1, out_axes=-1)
    warped = planes(image.astype(jnp.float32))
    return jnp.round(warped).astype(image.dtype) if image.dtype == jnp.uint8 else warped


def distort(images, indices, key, num_examples, **ranges):
    """Return version `index // num_examples` of each image: version 0 is the original, the others are distorted.

    A distorted copy is a function of (key, index), so the set of originals and copies is as fixed as if it were stored,
    like the paper's 60,000 originals and 540,000 distorted patterns.

    Args:
      images: [B, H, W, C], the originals.
      indices: int32 [B], the example's number plus `num_examples` times the version.
      key: of the run.
      num_examples: number of originals.
      **ranges: of `affine_matrix`.
    """

    def one(image, index):
        matrix = affine_matrix(jax.random.fold_in(key, index), **ranges)
        return jnp.where(index < num_examples, image, warp(image, matrix))

    return jax.vmap(one)(images, indices)


def rotate(images, keys, degrees):
    """Rotate each image about its center by U(-degrees, degrees): bilinear, black outside.

    The README of the SENet release mentions a rotation of U(-10, 10) degrees; filter and fill are our choice.

    Args:
      images: [B, H, W, C].
      keys: [B].
      degrees: the largest angle.
    """

    def one(image, angle):
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        return warp(image, jnp.array([[cosine, -sine, 0], [sine, cosine, 0]]))

    draws = jax.vmap(lambda key: jax.random.uniform(key, (1,), jnp.float32))(keys)
    return jax.vmap(one)(images, jnp.deg2rad(degrees) * (2 * draws[:, 0] - 1))
