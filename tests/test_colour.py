import colorsys
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from input_pipeline import colour, distortion, pixels
from input_pipeline.pixels import augment
from runtime.errors import UserError

RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (6, 12, 10, 3), np.uint8)
IMAGES = jnp.asarray(BYTES, jnp.float32)
LUMA = np.array([0.299, 0.587, 0.114])


def keys_for(count, seed=0):
    return pixels.example_keys(seed, 0, jnp.arange(count))


KEYS, OTHER_KEYS = keys_for(6), keys_for(6, seed=1)
MANY = 8192  # draws, where a distribution is tested
TRANSFORMS = {
    'flip': pixels.random_flip,
    'jitter_fb': colour.jitter_fb,
    'jitter_inception': colour.jitter_inception,
    'lighting': functools.partial(colour.lighting, reading='cc2'),
    'rotate': functools.partial(distortion.rotate, degrees=10.0),
    'shift_values': functools.partial(colour.shift_values, amount=20.0),
    'pad_and_crop': functools.partial(pixels.pad_and_crop, padding=4),
}
ALONE = {name: jax.jit(transform) for name, transform in TRANSFORMS.items()}
EVERYTHING = {
    'jitter': 'fb',
    'lighting': 'fb',
    'rotation': 10.0,
    'value_shift': 20.0,
    'mean': colour.MEANS['fb'],
    'std': colour.STDS['fb'],
    'flip': True,
    'padding': 4,
}


def close(actual, expected, atol=1e-3):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=atol)


def assert_uniform(values, low, high):
    values = np.asarray(values)
    assert low <= values.min() < low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) < values.max() <= high
    counts, _ = np.histogram(values, 8, (low, high))
    assert np.all(np.abs(counts / values.size * 8 - 1) < 0.2)  # six standard deviations of 8192 draws


# Keys


def test_a_key_is_a_function_of_seed_epoch_and_example():
    def numbers(*arguments):
        return jax.random.key_data(pixels.example_keys(*arguments))

    indices = jnp.array([5, 7, 1_281_166])
    keys = numbers(3, 2, indices)
    chex.assert_trees_all_equal(jax.jit(numbers)(3, 2, indices), keys)
    chex.assert_trees_all_equal(numbers(3, 2, indices[::-1]), keys[::-1])
    chex.assert_trees_all_equal(numbers(3, jnp.array([1, 2]), indices[:2])[1:], keys[1:2])
    others = [numbers(4, 2, indices), numbers(3, 1, indices), numbers(3, 2, indices + 1)]
    assert len(np.unique(np.concatenate([keys, *others]), axis=0)) == 12


class TransformsTest(chex.TestCase):
    """What happens to an image is a function of it and its key: not of its batch, nor of being compiled."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_each(self):
        for name, transform in TRANSFORMS.items():
            with self.subTest(name):
                run = self.variant(transform)
                together = np.asarray(run(IMAGES, KEYS))
                assert together.dtype == np.float32
                chex.assert_trees_all_equal(np.asarray(run(IMAGES, KEYS)), together)
                for i in (0, 4):
                    close(together[i : i + 1], ALONE[name](IMAGES[i : i + 1], KEYS[i : i + 1]))
                assert not np.allclose(run(IMAGES, OTHER_KEYS), together)


def test_augment_compiled_and_with_other_neighbors():
    run = functools.partial(augment, **EVERYTHING)
    together = run(BYTES, KEYS)
    chex.assert_type(together, jnp.float32)
    close(jax.jit(run)(BYTES[::-1], KEYS[::-1])[::-1], together)
    assert not np.allclose(run(BYTES, OTHER_KEYS), together)


def test_there_is_nothing_but_float32():
    options = EVERYTHING | {'jitter': 'inception', 'mean': None, 'mean_image': BYTES[0], 'scale': 1 / 1.1}
    for recipe in (EVERYTHING, options, options | {'jitter': 'howard', 'padding_mode': 'reflect'}):
        program = str(jax.make_jaxpr(functools.partial(augment, **recipe))(BYTES, KEYS))
        assert 'f32[6,12,10,3]' in program
        assert not any(other in program for other in ('bf16', 'f16', 'f64', 'dot_general'))


# Flip


def test_a_flip_is_left_to_right_for_half_of_the_images():
    images = jnp.broadcast_to(IMAGES[:1, :2], (MANY, 2, 10, 3))
    out = np.asarray(jax.jit(pixels.random_flip)(images, keys_for(MANY)))
    flipped = (out == BYTES[0, :2, ::-1]).all(axis=(1, 2, 3))
    kept = (out == BYTES[0, :2]).all(axis=(1, 2, 3))
    assert (flipped ^ kept).all()
    assert abs(flipped.mean() - 0.5) < 0.03


# Photometric jitter


@pytest.mark.parametrize(
    ('operation', 'enhancer'),
    [(0, ImageEnhance.Brightness), (1, ImageEnhance.Contrast), (2, ImageEnhance.Color)],
)
@pytest.mark.parametrize('factor', [0.5, 0.8, 1.0, 1.3, 1.5])
def test_the_operations_are_those_of_pillow(operation, enhancer, factor):
    expected = np.stack([np.asarray(enhancer(Image.fromarray(image)).enhance(factor)) for image in BYTES])
    ours = np.clip(np.asarray(colour.enhance(IMAGES, jnp.full(6, operation), jnp.full(6, factor))), 0, 255)
    # Pillow cuts off the fraction, and its means and grays are whole numbers.
    assert np.abs(np.floor(ours + 1e-3) - expected).max() <= 1


def test_each_image_has_a_separate_factor():
    factors = jnp.linspace(0.5, 1.5, 6)
    three = [functools.partial(lambda n, x, a: colour.enhance(x, jnp.full(len(x), n), a), n) for n in range(3)]
    for operation in (*three, colour.contrast_per_channel):
        together = operation(IMAGES, factors)
        for i in range(6):
            close(together[i], operation(IMAGES[i][None], factors[i][None])[0])


def test_contrast_pivots():
    # fb: one number, the mean of the luma; TensorFlow: each channel's mean.
    flat = np.asarray(colour.enhance(IMAGES, jnp.ones(6, int), jnp.zeros(6)))
    close(flat, np.broadcast_to((BYTES @ LUMA).mean(axis=(1, 2))[:, None, None, None], BYTES.shape))
    flat = np.asarray(colour.contrast_per_channel(IMAGES, jnp.zeros(6)))
    close(flat, np.broadcast_to(BYTES.mean(axis=(1, 2), keepdims=True), BYTES.shape))


def test_jitter_draws_all_orders_equally_and_uniform_factors():
    orders, factors = colour.jitter_draws(keys_for(MANY), 0.6, 1.4)
    seen, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert [tuple(order) for order in seen] == list(itertools.permutations(range(3)))
    assert np.all(np.abs(counts / MANY * 6 - 1) < 0.15)
    for operation in range(3):
        assert_uniform(factors[:, operation], 0.6, 1.4)
    # The order says nothing about the factors.
    assert abs(np.corrcoef(np.asarray(orders[:, 0]), np.asarray(factors[:, 0]))[0, 1]) < 0.06


def one_after_the_other(image, order, factors, finish):
    """The definition: x <- a x + (1 - a) t, three times."""
    image = image.astype(np.float64)
    for operation in order:
        luma = image @ LUMA
        target = (0, luma.mean(), luma[..., None])[operation]
        image = finish(factors[operation] * image + (1 - factors[operation]) * target)
    return image


@pytest.mark.parametrize(
    ('jitter', 'low', 'high', 'finish'),
    [
        (colour.jitter_fb, 0.6, 1.4, lambda image: image),
        (colour.jitter_howard, 0.5, 1.5, lambda image: np.clip(image, 0, 255)),
    ],
)
def test_jitter_is_the_three_blends_in_the_order_drawn(jitter, low, high, finish):
    keys = keys_for(48)
    images = np.tile(BYTES, (8, 1, 1, 1))
    orders, factors = map(np.asarray, colour.jitter_draws(keys, low, high))
    assert len(np.unique(orders, axis=0)) == 6
    expected = [one_after_the_other(*each, finish) for each in zip(images, orders, factors, strict=True)]
    close(jax.jit(jitter)(images.astype(np.float32), keys), np.stack(expected))


def test_fb_clips_nothing_and_howard_everything():
    out = np.asarray(colour.jitter_fb(IMAGES, KEYS))
    assert out.max() > 256
    out = np.asarray(colour.jitter_howard(IMAGES, KEYS))
    assert out.min() == 0
    assert out.max() == 255


def test_gray_images_are_color_images_of_three_equal_channels():
    gray = IMAGES[..., :1]
    colors = jnp.tile(gray, (1, 1, 1, 3))
    for jitter in (colour.jitter_fb, colour.jitter_howard, colour.jitter_inception):
        close(jnp.tile(jitter(gray, KEYS), (1, 1, 1, 3)), jitter(colors, KEYS))


# HSV


def test_hsv_agrees_with_colorsys():
    corners = np.array(list(itertools.product((0.0, 0.5, 1.0), repeat=3)))
    colors = np.concatenate([corners, RANDOM.random((300, 3))])
    expected = np.array([colorsys.rgb_to_hsv(*each) for each in colors])
    hsv = np.asarray(jax.jit(colour.rgb_to_hsv)(jnp.asarray(colors, jnp.float32)))
    around = np.abs(hsv[:, 0] - expected[:, 0])
    assert np.minimum(around, 1 - around).max() < 1e-5
    close(hsv[:, 1:], expected[:, 1:], atol=1e-6)
    back = np.array([colorsys.hsv_to_rgb(*each) for each in colors])  # any three numbers of 0..1 are a colour
    close(jax.jit(colour.hsv_to_rgb)(jnp.asarray(colors, jnp.float32)), back, atol=1e-5)


@jax.jit
def there_and_back(images):
    return colour.hsv_to_rgb(colour.rgb_to_hsv(images))


def test_hsv_and_back():
    close(there_and_back(IMAGES), IMAGES)
    # Outside 0..255 too, where brightness may have carried it, as long as a channel is positive.
    beyond = IMAGES * 1.5 - 40
    beyond = jnp.where(jnp.max(beyond, axis=-1, keepdims=True) > 1, beyond, 50.0)
    close(there_and_back(beyond), beyond)
    dark = jnp.array([[-30.0, -20, -10]])
    close(there_and_back(dark), jnp.full((1, 3), -10.0))


def test_a_third_of_a_turn_permutes_the_channels():
    turned = colour.adjust_hsv(IMAGES, jnp.full(6, 1 / 3), jnp.ones(6))
    close(turned, IMAGES[..., jnp.array([2, 0, 1])], atol=0.01)


def test_no_saturation_leaves_the_value_and_saturation_stops_at_one():
    gray = colour.adjust_hsv(IMAGES, jnp.zeros(6), jnp.zeros(6))
    close(gray, np.broadcast_to(BYTES.max(axis=-1, keepdims=True), BYTES.shape))
    vivid = np.asarray(colour.adjust_hsv(IMAGES, jnp.zeros(6), jnp.full(6, 1e6)))
    coloured = np.ptp(BYTES, axis=-1) > 0
    close(vivid.max(axis=-1), BYTES.max(axis=-1))
    close(vivid.min(axis=-1)[coloured], 0)


def inception_reference(image, brightness, saturation, hue, contrast, contrast_first):
    def change_contrast(image):
        mean = image.mean(axis=(0, 1))
        return contrast * (image - mean) + mean

    def change_colour(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel) if max(pixel) > 0 else (0, 0, max(pixel))
        return colorsys.hsv_to_rgb((h + hue) % 1, min(s * saturation, 1), v)

    image = image + brightness
    image = change_contrast(image) if contrast_first else image
    image = np.apply_along_axis(change_colour, -1, image)
    image = image if contrast_first else change_contrast(image)
    return np.clip(image, 0, 255)


def test_inception_draws():
    draws = colour.inception_draws(keys_for(MANY))
    for name, low, high in (('brightness', -32, 32), ('saturation', 0.5, 1.5), ('hue', -0.2, 0.2)):
        assert_uniform(draws[name], low, high)
    assert_uniform(draws['contrast'], 0.5, 1.5)
    assert abs(np.mean(draws['contrast_first']) - 0.5) < 0.03


def test_inception_jitter_in_both_orders():
    draws = {name: np.asarray(values, np.float64) for name, values in colour.inception_draws(KEYS).items()}
    assert set(draws['contrast_first']) == {0, 1}
    expected = [
        inception_reference(BYTES[i].astype(np.float64), **{name: draws[name][i] for name in draws}) for i in range(6)
    ]
    out = np.asarray(colour.jitter_inception(IMAGES, KEYS))
    close(out, np.stack(expected), atol=0.02)
    assert out.min() == 0
    assert out.max() == 255


def test_a_shift_is_one_value_for_all_pixels_of_an_image():
    shifts = np.asarray(colour.shift_values(jnp.zeros((MANY, 2, 2, 3)), keys_for(MANY), 20.0))
    chex.assert_trees_all_equal(shifts, np.broadcast_to(shifts[:, :1, :1, :1], shifts.shape))
    assert_uniform(shifts[:, 0, 0, 0], -20, 20)


# Lighting

NOISE = {'fb': (3.17, 3.22, 3.25), 'cc2': (7.40, 7.20, 7.70), 'sqrt': (7.23, 7.05, 7.39)}  # gray levels, R, G, B


def covariance(reading):
    vectors, scales = (np.asarray(each, np.float64) for each in colour.LIGHTING[reading])
    return (0.1 * vectors * scales) @ (0.1 * vectors * scales).T


@pytest.mark.parametrize('reading', colour.LIGHTING)
def test_lighting_is_of_the_size_that_its_constants_say(reading):
    vectors, _ = colour.LIGHTING[reading]
    close(vectors.T @ vectors, np.eye(3), atol=2e-3)  # of fb's four digits
    expected = covariance(reading)
    np.testing.assert_allclose(np.sqrt(np.diag(expected)), NOISE[reading], atol=0.006)
    noise = np.asarray(colour.lighting(jnp.zeros((MANY, 1, 2, 3)), keys_for(MANY), reading))
    chex.assert_trees_all_equal(noise[:, :, 0], noise[:, :, 1])  # one color for all pixels of an image
    noise = noise[:, 0, 0]
    assert np.abs(noise.mean(axis=0)).max() < 0.4
    np.testing.assert_allclose(noise.std(axis=0), NOISE[reading], rtol=0.04)
    np.testing.assert_allclose(np.cov(noise.T), expected, rtol=0.08)


@pytest.mark.parametrize('reading', colour.LIGHTING)
def test_lighting_is_mostly_a_change_of_brightness(reading):
    # The strongest component moves R, G and B together and by the same amount; with the eigenvectors transposed it
    # would not.
    vectors, scales = colour.LIGHTING[reading]
    strongest = vectors[:, np.argmax(scales)]
    assert np.all(np.abs(strongest) > 0.55)
    assert len(set(np.sign(strongest))) == 1
    row = vectors[np.argmax(scales)]
    assert len(set(np.sign(row))) == 2


def test_lighting_takes_a_deviation_and_measured_components():
    once = colour.lighting(IMAGES, KEYS, 'cc2') - IMAGES
    close(colour.lighting(IMAGES, KEYS, 'cc2', deviation=0.2) - IMAGES, 2 * once)
    close(colour.lighting(IMAGES, KEYS, colour.LIGHTING['cc2']), IMAGES + once)
    noise = colour.lighting_noise(keys_for(MANY), np.array([[0.6, 0.8], [-0.8, 0.6]]), [2.0, 5.0])
    expected = np.array([[0.36 * 4 + 0.64 * 25, 0.48 * (25 - 4)], [0.48 * (25 - 4), 0.64 * 4 + 0.36 * 25]])
    np.testing.assert_allclose(np.cov(np.asarray(noise).T), expected, rtol=0.08)


def test_lighting_before_or_after_the_mean():
    # Adding a constant commutes with subtracting the mean, so cc2's order (mean first) and fb's give the same.
    def lit(images):
        return colour.lighting(images, KEYS, 'cc2')

    mean = RANDOM.random((12, 10, 3)) * 255
    close(pixels.normalize(lit(IMAGES), mean, 1.0), lit(pixels.normalize(IMAGES, mean, 1.0)))


# Normalization


def test_constants():
    # The same numbers as the sources print them, of 0..1.
    close(np.array(colour.MEANS['fb']) / 255, [0.485, 0.456, 0.406], atol=1e-9)
    close(np.array(colour.STDS['fb']) / 255, [0.229, 0.224, 0.225], atol=1e-9)
    close(np.array(colour.MEANS['cifar10']) / 255, [0.4914, 0.4824, 0.4467], atol=1e-4)
    close(np.array(colour.STDS['cifar10']) / 255, [0.2471, 0.2435, 0.2616], atol=1e-4)
    close(np.array(colour.MEANS['cifar100']) / 255, [0.5071, 0.4867, 0.4408], atol=1e-4)
    close(np.array(colour.STDS['cifar100']) / 255, [0.2675, 0.2565, 0.2761], atol=1e-4)
    for name in ('caffe', 'caffe_googlenet', 'vgg', 'fb', 'cc2'):
        red, green, blue = colour.MEANS[name]  # photographs are redder than blue: a B, G, R row would show
        assert 130 > red > green > blue > 100


def test_normalize_broadcasts():
    for mean, std in ((5.0, 2.0), ((1.0, 2, 3), (4.0, 5, 6)), (BYTES[1], 7.0), (np.float64(3), np.ones(3))):
        out = pixels.normalize(BYTES, mean, std)
        chex.assert_type(out, jnp.float32)
        close(out, (BYTES - np.asarray(mean, np.float64)) / np.asarray(std))


def test_the_mean_image_under_the_crop():
    # Caffe: cropping after the subtraction. cuda-convnet2: the mean's center, wherever the crop lay.
    frames = RANDOM.integers(0, 256, (4, 17, 15, 3)).astype(np.float32)
    mean = RANDOM.random((17, 15, 3)) * 255
    offsets = np.array([[0, 0], [4, 5], [5, 1], [3, 4]], np.int32)

    def crop(frame, top, left):
        return frame[top : top + 12, left : left + 10]

    crops = np.stack([crop(frame, *offset) for frame, offset in zip(frames, offsets, strict=True)])
    expected = [crop(frame - mean, *offset) for frame, offset in zip(frames, offsets, strict=True)]
    close(pixels.subtract_mean_image(crops, mean, offsets), np.stack(expected))
    close(pixels.subtract_mean_image(crops, mean), crops - crop(mean, 2, 2))
    close(augment(crops, offsets=offsets, mean_image=mean), np.stack(expected))
    close(augment(crops, offsets=offsets, mean_image=mean, mean_under_crop=False), crops - crop(mean, 2, 2))


def test_beyond_the_mean_image_its_channel_means_count():
    mean = RANDOM.random((8, 14, 3)).astype(np.float32) * 255
    around = np.broadcast_to(mean.mean(axis=(0, 1)), (12, 10, 3)).copy()
    larger_in_height = around.copy()
    larger_in_height[2:10] = mean[:, 2:12]
    close(pixels.subtract_mean_image(IMAGES, mean), BYTES - larger_in_height)
    partly, outside = around.copy(), around
    partly[:5, :9] = mean[3:, 5:]
    offsets = jnp.array([[3, 5], [-40, 0], [0, 400], [3, 5], [-12, 0], [8, 0]])
    expected = np.stack([partly, outside, outside, partly, outside, outside])
    close(pixels.subtract_mean_image(IMAGES, mean, offsets), BYTES - expected)


# Places


def test_rotation_agrees_with_scipy():
    y, x = np.mgrid[:21, :21]
    image = (128 + 60 * np.sin(x / 3) + 50 * np.cos(y / 4))[..., None].astype(np.float32)
    out = np.asarray(distortion.rotate(np.tile(image, (6, 1, 1, 1)), KEYS, 10.0))
    angles = [10 * (2 * float(jax.random.uniform(key, (1,))[0]) - 1) for key in KEYS]
    assert min(angles) < -1 < 1 < max(angles)
    inside = (slice(5, -5), slice(5, -5))
    for turned, angle in zip(out, angles, strict=True):
        expected = ndimage.rotate(image[..., 0], -angle, reshape=False, order=1)
        close(turned[..., 0][inside], expected[inside], atol=0.05)


def test_rotation_keeps_the_center_and_fills_with_black():
    images = np.full((6, 21, 21, 1), 100, np.float32)
    images[:, 10, 10] = 200
    out = np.asarray(distortion.rotate(images, KEYS, 45.0))
    close(out[:, 10, 10], 200, atol=0.1)
    assert (out[:, [0, 0, -1, -1], [0, -1, 0, -1]] == 0).any()
    close(distortion.rotate(images, KEYS, 0.0), images)


@pytest.mark.parametrize('mode', ['zero', 'reflect'])
def test_crops_of_the_padded_image_at_offsets_0_to_8(mode):
    image = RANDOM.permutation(8 * 6).reshape(8, 6, 1).astype(np.float32) + 1
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode='constant' if mode == 'zero' else 'reflect')
    crop = jax.jit(functools.partial(pixels.pad_and_crop, padding=4, mode=mode))
    out = np.asarray(crop(np.tile(image, (2048, 1, 1, 1)), keys_for(2048)))
    counts = {
        (top, left): (out == padded[top : top + 8, left : left + 6]).all(axis=(1, 2, 3)).sum()
        for top, left in itertools.product(range(9), repeat=2)
    }
    assert sum(counts.values()) == 2048  # each is exactly one of the 81
    assert min(counts.values()) > 5
    assert max(counts.values()) < 60


# The composition


def test_with_everything_off_it_is_the_normalization():
    out = augment(BYTES)
    chex.assert_type(out, jnp.float32)
    chex.assert_trees_all_equal(np.asarray(out), BYTES.astype(np.float32))
    mean, std = colour.MEANS['fb'], colour.STDS['fb']
    close(augment(BYTES, mean=mean, std=std), (BYTES - np.array(mean)) / np.array(std))
    close(augment(BYTES, KEYS, mean=118.0, scale=1 / 1.1), (BYTES - 118.0) / 1.1)
    close(augment(BYTES[..., :1], mean=10.0), BYTES[..., :1] - 10.0)


def stage_keys(number):
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(KEYS)


@pytest.mark.parametrize('mean', ['channels', 'image'])
def test_the_order_of_the_stages(mean):
    # The numbers of the stages make their keys: another number would change every published run.
    offsets = jnp.array([[0, 0], [4, 5], [2, 1], [3, 4], [0, 5], [4, 0]])
    mean_image = RANDOM.random((16, 15, 3)) * 255
    images = distortion.rotate(IMAGES, stage_keys(0), 10.0)
    images = colour.jitter_fb(images, stage_keys(1), 0.3)
    images = colour.shift_values(images, stage_keys(2), 20.0)
    images = colour.lighting(images, stage_keys(3), 'cc2', 0.2)
    if mean == 'channels':
        options = {'mean': colour.MEANS['fb']}
        images = pixels.normalize(images, colour.MEANS['fb'], colour.STDS['fb'])
    else:
        options = {'mean_image': mean_image}
        images = pixels.normalize(pixels.subtract_mean_image(images, mean_image, offsets), 0.0, colour.STDS['fb'])
    images = pixels.random_flip(images / 1.1, stage_keys(4))
    images = pixels.pad_and_crop(images, stage_keys(5), 3, 'reflect')
    options |= {'rotation': 10.0, 'jitter': 'fb', 'jitter_strength': 0.3, 'value_shift': 20.0, 'lighting': 'cc2'}
    options |= {'lighting_deviation': 0.2, 'std': colour.STDS['fb'], 'scale': 1 / 1.1, 'flip': True}
    options |= {'padding': 3, 'padding_mode': 'reflect'}
    close(augment(BYTES, KEYS, offsets, **options), images)


def test_the_mean_is_subtracted_before_the_flip():
    # A per-pixel mean does not commute with a flip.
    difference = BYTES - BYTES[0].astype(np.float32)
    out = np.asarray(augment(BYTES, KEYS, mean_image=BYTES[0], flip=True))
    flipped = np.array([np.array_equal(one, other[:, ::-1]) for one, other in zip(out, difference, strict=True)])
    kept = np.array([np.array_equal(one, other) for one, other in zip(out, difference, strict=True)])
    assert (flipped | kept).all()
    assert flipped[1:].any()
    assert kept[1:].any()


def test_the_border_of_a_zero_padding_has_the_mean_color():
    mean, std = colour.MEANS['cifar10'], colour.STDS['cifar10']
    out = np.asarray(augment(np.full_like(BYTES, 255), KEYS, mean=mean, std=std, padding=4))
    values = np.unique(out.reshape(-1, 3), axis=0)
    close(values, np.stack([np.zeros(3), (255 - np.array(mean)) / np.array(std)]))


def test_a_stage_leaves_the_draws_of_the_others_alone():
    flips = augment(BYTES, KEYS, flip=True)
    for options in ({'lighting': 'fb'}, {'value_shift': 20.0}):
        added = augment(np.zeros_like(BYTES), KEYS, **options)
        close(augment(BYTES, KEYS, flip=True, **options), flips + added)


def test_the_stages_are_independent():
    zeros = np.zeros((MANY, 1, 1, 3), np.uint8)
    keys = keys_for(MANY)
    shift = np.asarray(augment(zeros, keys, value_shift=20.0))[:, 0, 0, 0]
    light = np.asarray(augment(zeros, keys, lighting='cc2'))[:, 0, 0]
    sides = np.zeros((MANY, 1, 2, 1), np.uint8)
    sides[:, :, 1] = 1
    flipped = np.asarray(augment(sides, keys, flip=True))[:, 0, 0, 0]
    draws = np.stack([shift, light[:, 0], light[:, 1] - light[:, 0], flipped])
    np.testing.assert_allclose(np.corrcoef(draws)[[0, 0, 0, 1, 2], [1, 2, 3, 3, 3]], 0, atol=0.06)


def test_strengths():
    grays = np.full((MANY, 1, 1, 1), 100, np.uint8)  # on one gray pixel only brightness does anything
    keys = keys_for(MANY)
    for jitter, strength, low, high in (
        ('fb', None, 60, 140),
        ('fb', 0.2, 80, 120),
        ('howard', None, 50, 150),
        ('howard', 0.25, 75, 125),
        ('inception', None, 68, 132),
    ):
        assert_uniform(augment(grays, keys, jitter=jitter, jitter_strength=strength), low, high)


# What commutes


@pytest.mark.parametrize('jitter', ['fb', 'howard', 'inception'])
def test_a_flip_commutes_with_all_that_changes_colors(jitter):
    run = functools.partial(augment, keys=KEYS, jitter=jitter, lighting='cc2', value_shift=20.0, mean=100.0, std=50.0)
    close(run(BYTES[:, :, ::-1]), run(BYTES)[:, :, ::-1])


def test_channel_normalization_commutes_with_a_crop_and_a_mean_image_does_not():
    part = (slice(None), slice(3, 9), slice(1, 7))
    channels = functools.partial(augment, mean=colour.MEANS['vgg'])
    chex.assert_trees_all_equal(np.asarray(channels(BYTES[part])), np.asarray(channels(BYTES))[part])
    pixels = functools.partial(augment, mean_image=BYTES[0])
    assert not np.allclose(pixels(BYTES[part]), pixels(BYTES)[part])


# Mistakes


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'jitter': 'howerd'}, "jitter 'howerd' .*did you mean howard"),
        ({'lighting': 'cc3'}, "lighting 'cc3' .*did you mean cc2"),
        ({'padding_mode': 'reflekt'}, "padding_mode 'reflekt' .*did you mean reflect"),
        ({'jitter': 'inception', 'jitter_strength': 0.4}, 'no strength'),
        ({'mean': 1.0, 'mean_image': BYTES[0]}, 'keep one'),
    ],
)
def test_mistakes_that_a_user_can_fix(options, message):
    with pytest.raises(UserError, match=message):
        augment(BYTES, KEYS, **options)


def test_lighting_of_gray_images_is_refused_and_measured_components_are_not():
    with pytest.raises(UserError, match='3 channels but the images have 1'):
        augment(BYTES[..., :1], KEYS, lighting='fb')
    chex.assert_shape(augment(BYTES[..., :1], KEYS, lighting=([[1.0]], [70.0])), (6, 12, 10, 1))


@pytest.mark.parametrize('option', [{'flip': True}, {'jitter': 'fb'}, {'lighting': 'fb'}, {'padding': 4}])
def test_random_stages_need_keys(option):
    with pytest.raises(ValueError, match='needs keys'):
        augment(BYTES, **option)
