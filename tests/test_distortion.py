import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from input_pipeline.distortion import affine_matrix, distort, warp
from input_pipeline.pixels import scale_range

RANGES = {'translation': 2.0, 'scaling': 0.15, 'squeezing': 0.15, 'shear': 0.3}
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1), np.uint8)


def test_background_and_ink():
    # LeCun et al. 1998, section II.B: background -0.1, foreground 1.175.
    values = scale_range(jnp.array([0, 255], jnp.uint8), -0.1, 1.175)
    chex.assert_trees_all_close(values, jnp.array([-0.1, 1.175]), rtol=1e-6)


def test_warp_by_the_identity_and_by_integer_shifts():
    identity = jnp.array([[1.0, 0, 0], [0, 1, 0]])
    chex.assert_trees_all_equal(np.asarray(warp(IMAGES[0], identity)), IMAGES[0])
    moved = np.asarray(warp(IMAGES[0], identity.at[:, 2].set(jnp.array([3.0, -2.0]))))  # right 3, up 2
    expected = np.zeros_like(IMAGES[0])
    expected[:-2, 3:] = IMAGES[0][2:, :-3]
    chex.assert_trees_all_equal(moved, expected)


def test_warp_agrees_with_scipy():
    matrix = np.array([[1.1, 0.2, 1.3], [0, 0.9, -0.7]])
    image = IMAGES[1].astype(np.float32)
    # SciPy takes the inverse map, in rows and columns, about the corner.
    inverse = np.linalg.inv(matrix[:, :2])[::-1, ::-1]
    center = np.array([15.5, 15.5])
    offset = center - inverse @ (center + matrix[::-1, 2])
    expected = ndimage.affine_transform(image[..., 0], inverse, offset, order=1, mode='constant', prefilter=False)
    ours = np.asarray(warp(image, jnp.asarray(matrix, jnp.float32)))[..., 0]
    inside = (slice(4, -4), slice(4, -4))  # SciPy and JAX differ in how they treat the half pixel beyond the edge
    np.testing.assert_allclose(ours[inside], expected[inside], atol=0.05)


def test_the_ranges_are_respected():
    matrices = jax.vmap(lambda key: affine_matrix(key, **RANGES))(jax.random.split(jax.random.key(0), 500))
    chex.assert_shape(matrices, (500, 2, 3))
    s_q, s_over_q, k = matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 0, 1]
    s, q = jnp.sqrt(s_q * s_over_q), jnp.sqrt(s_q / s_over_q)
    for values, low, high in ((s, 0.85, 1.15), (q, 0.85, 1.15), (k, -0.3, 0.3), (matrices[:, :, 2], -2, 2)):
        assert low <= float(values.min()) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < float(values.max()) <= high + 1e-6


def test_version_zero_is_the_original_and_the_others_are_fixed():
    run = jax.jit(functools.partial(distort, num_examples=100, **RANGES))
    indices = jnp.array([3, 103, 203, 50])  # versions 0, 1, 2 of example 3; version 0 of example 50
    out = np.asarray(run(IMAGES[[0, 0, 0, 1]], indices, jax.random.key(0)))
    chex.assert_trees_all_equal(out[[0, 3]], IMAGES[[0, 1]])
    assert not np.array_equal(out[1], out[2])
    # A copy depends on the run's key and its index, not on where in a batch it stands.
    other = np.asarray(run(IMAGES[[1, 0, 1, 0]], jnp.array([150, 103, 50, 203]), jax.random.key(0)))
    chex.assert_trees_all_equal(other[1], out[1])
    chex.assert_trees_all_equal(other[3], out[2])
    assert not np.array_equal(np.asarray(run(IMAGES[[0] * 4], indices, jax.random.key(1)))[1], out[1])
