"""Colors: the constants of data sets and networks, photometric jitter and lighting, on the device.

Images are as in `pixels.augment`. Gray images (C = 1) are supported if the operation is defined for them.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.datasets import DATASETS
from runtime.errors import UserError, nearest

# The means that networks subtract and the values they divide by: R, G, B or one number for all, in gray levels.
MEANS = {
    'none': 0.0,
    'caffe': (122.6789143406786, 116.66876761696767, 104.0069879317889),  # BVLC/caffe's ilsvrc_2012_mean, averaged
    'caffe_googlenet': (123.0, 117.0, 104.0),  # mean_value of its bvlc_googlenet
    'bn_inception': (128.0, 117.0, 104.0),  # for the weights of yjxiong and Cadene
    'vgg': (123.68, 116.779, 103.939),  # for the weights that Simonyan and Zisserman released
    'fb': (123.675, 116.28, 103.53),  # fb.resnet.torch and torchvision: 0.485, 0.456, 0.406 of 0..1
    'cc2': (127.305, 119.715, 104.913),  # channel means of cuda-convnet2's 256x256 mean image
    'inception': 127.5,  # TensorFlow's Inception: 2x - 1 of 0..1
    'overfeat': 118.380948,  # of the OverFeat release
    **{name: data.mean for name, data in DATASETS.items() if data.mean is not None},
}
STDS = {
    'none': 1.0,
    'fb': (58.395, 57.12, 57.375),  # 0.229, 0.224, 0.225 of 0..1: means of each image's own deviation
    'inception': 127.5,
    'overfeat': 61.896913,
    **{name: data.std for name, data in DATASETS.items() if data.std is not None},
}

# Principal components of the RGB values of ImageNet's pixels. Rows are R, G, B; columns are components.
_FB_VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))
_FB_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])  # of 0..1 values
_CC2_VECTORS = (
    (0.41795513, -0.71257945, -0.56351045),
    (-0.81698062, -0.02354167, -0.57618440),
    (0.39731118, 0.70119634, -0.59200296),
)
_CC2_DEVIATIONS = (19.72083, 37.09389, 121.78006)

# Readings of AlexNet's lighting: eigenvectors [3, 3] and their factors in gray levels [3] (see `lighting`).
LIGHTING = {
    'fb': (np.array(_FB_VECTORS, np.float32), np.array(255 * _FB_EIGENVALUES, np.float32)),
    'cc2': (np.array(_CC2_VECTORS, np.float32), np.array(_CC2_DEVIATIONS, np.float32)),
    'sqrt': (np.array(_FB_VECTORS, np.float32), np.array(255 * np.sqrt(_FB_EIGENVALUES), np.float32)),
}

JITTERS = ('none', 'fb', 'howard', 'inception')
_ORDERS = np.array(list(itertools.permutations(range(3))), np.int32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def _uniforms(keys, count):
    """Draw [B, count] ~ U(0, 1)."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,), jnp.float32))(keys)


def _per_image(values):
    """Reshape [B] to [B, 1, 1, 1], to broadcast against images."""
    return values[:, None, None, None]


# Photometric jitter


def gray(images):
    """Return the luma 0.299 R + 0.587 G + 0.114 B, [..., 3] to [..., 1]; gray images are returned unchanged."""
    if images.shape[-1] == 1:
        return images
    # Not a matrix product, because accelerators round its operands.
    return jnp.sum(images * _LUMA.reshape((1,) * (images.ndim - 1) + (3,)), axis=-1, keepdims=True)


def _blend(images, targets, factors):
    factors = _per_image(factors)
    return factors * images + (1 - factors) * targets


def enhance(images, operations, factors):
    """Blend a x + (1 - a) t, as in Pillow's ImageEnhance, without clipping. Saturation leaves gray images unchanged.

    Args:
      images: float [B, H, W, C], gray levels.
      operations: int [B]: 0 brightness, t is black; 1 contrast, t is the mean of the image's luma, one number; 2
        saturation, t is the luma of each pixel.
      factors: a, float [B].
    """
    # The three only differ in the target, and computing all targets costs less than three branches would.
    luma = gray(images)
    mean = jnp.mean(luma, axis=(1, 2, 3), keepdims=True)
    targets = jnp.where(_per_image(operations == 1), mean, luma)
    targets = jnp.where(_per_image(operations == 0), 0, targets)
    return _blend(images, targets, factors)


def contrast_per_channel(images, factors):
    """Blend a x + (1 - a) t without clipping, where t is each channel's mean over the image, as in TensorFlow.

    `factors` is a, [B].
    """
    return _blend(images, jnp.mean(images, axis=(1, 2), keepdims=True), factors)


def jitter_draws(keys, low, high):
    """Draw the random numbers of `jitter_fb` and `jitter_howard` for each image.

    Returns:
      orders int32 [B, 3], each a uniformly random permutation of 0 (brightness), 1 (contrast) and 2 (saturation); and
      factors [B, 3] ~ U(low, high) for the operations 0, 1, 2.
    """
    draws = _uniforms(keys, 4)
    orders = jnp.asarray(_ORDERS)[(draws[:, 3] * len(_ORDERS)).astype(jnp.int32)]
    return orders, low + (high - low) * draws[:, :3]


def _jitter(images, keys, low, high, finish):
    orders, factors = jitter_draws(keys, low, high)
    for step in range(3):
        operation = orders[:, step]
        factor = jnp.take_along_axis(factors, operation[:, None], axis=1)[:, 0]
        images = finish(enhance(images, operation, factor))
    return images


def jitter_fb(images, keys, strength=0.4):
    """fb.resnet.torch's color jitter: brightness, contrast and saturation (`enhance`), in a uniformly random order.

    Factors ~ U(1 - strength, 1 + strength). Contrast uses the luma of the image after the operations before it. Nothing
    is clipped, not even at the end. The code of ResNeXt and DenseNet does the same.
    """
    return _jitter(images, keys, 1 - strength, 1 + strength, finish=lambda images: images)


def jitter_howard(images, keys, low=0.5, high=1.5):
    """Howard 2013's contrast, brightness and color, with factors ~ U(low, high), in a uniformly random order.

    The operations are those of Pillow's ImageEnhance (`enhance`), each clipped to 0..255, but without its rounding to
    integers in between. GoogLeNet adopted them (Szegedy et al. 2015, section 6). BN-Inception distorts less (Ioffe &
    Szegedy 2015, section 4.2.1) and does not say how much; our reading is low=0.75, high=1.25.
    """
    return _jitter(images, keys, low, high, finish=lambda images: jnp.clip(images, 0, 255))


def rgb_to_hsv(images):
    """Convert RGB to hue 0..1, saturation and value (in the images' unit), [..., 3] to [..., 3] (Smith 1978).

    A color without a positive channel has saturation 0, as in TensorFlow.
    """
    red, green, blue = images[..., 0], images[..., 1], images[..., 2]
    value, low = jnp.max(images, axis=-1), jnp.min(images, axis=-1)
    chroma = value - low
    divisor = jnp.where(chroma > 0, chroma, 1)
    # Not `red == value`: the compiler may compute a channel twice with different rounding, and then no channel would be
    # the largest. If two channels are nearly equal and largest, both formulas agree.
    sextant = jnp.where(green >= blue, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    sextant = jnp.where((red >= green) & (red >= blue), (green - blue) / divisor, sextant)
    hue = jnp.where(chroma > 0, (sextant / 6) % 1, 0)
    saturation = jnp.where(value > 0, chroma / jnp.where(value > 0, value, 1), 0)
    return jnp.stack([hue, saturation, value], axis=-1)


def hsv_to_rgb(images):
    """Invert `rgb_to_hsv`, [..., 3] to [..., 3]; hue may be outside 0..1."""
    hue, saturation, value = images[..., 0], images[..., 1], images[..., 2]

    def channel(n):
        # The distance of a channel below the value is a trapezoid around the circle of hues; the three channels only
        # differ by a third of a turn.
        k = (n + 6 * hue) % 6
        return value - value * saturation * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


def adjust_hsv(images, hues, saturations):
    """Rotate the hue by `hues` [B] (1 is a full turn) and multiply HSV saturation by `saturations` [B], clipped to 1.

    Both share one conversion to HSV and back, because neither affects the other. Gray images are returned unchanged.
    """
    if images.shape[-1] == 1:
        return images
    hue, saturation, value = jnp.split(rgb_to_hsv(images), 3, axis=-1)
    saturation = jnp.clip(saturation * _per_image(saturations), 0, 1)
    return hsv_to_rgb(jnp.concatenate([hue + _per_image(hues), saturation, value], axis=-1))


def inception_draws(keys):
    """Draw brightness, saturation, hue, contrast and contrast_first, each [B], for `jitter_inception`."""
    draws = _uniforms(keys, 5)
    return {
        'brightness': 64 * draws[:, 0] - 32,
        'saturation': 0.5 + draws[:, 1],
        'hue': 0.4 * draws[:, 2] - 0.2,
        'contrast': 0.5 + draws[:, 3],
        'contrast_first': draws[:, 4] < 0.5,
    }


def jitter_inception(images, keys):
    """The color distortion of TensorFlow's Inception training (the code that Google released with Inception-v3).

    Brightness adds U(-32, 32) gray levels; then saturation by U(0.5, 1.5), hue by U(-0.2, 0.2) of a turn (`adjust_hsv`)
    and contrast by U(0.5, 1.5) (`contrast_per_channel`), or contrast first and then saturation and hue. The order is
    random; in the original it depends on the parity of the reading thread. Clipped to 0..255 only at the end.
    """
    draws = inception_draws(keys)
    first = _per_image(draws['contrast_first'])
    images = images + _per_image(draws['brightness'])
    images = jnp.where(first, contrast_per_channel(images, draws['contrast']), images)
    images = adjust_hsv(images, draws['hue'], draws['saturation'])
    images = jnp.where(first, images, contrast_per_channel(images, draws['contrast']))
    return jnp.clip(images, 0, 255)


def shift_values(images, keys, amount):
    """Add one value ~ U(-amount, amount) gray levels to all pixels of each image.

    The README of the SENet release only mentions a pixel jitter of U(-20, 20). That all pixels and channels of an image
    get the same value, and that nothing is clipped, is our reading.
    """
    return images + amount * _per_image(2 * _uniforms(keys, 1)[:, 0] - 1)


# Lighting


def lighting_noise(keys, vectors, scales):
    """Draw random colors along principal components: vectors @ (a scales), a ~ N(0, 1), in gray levels.

    Args:
      keys: [B].
      vectors: [C, K], columns are components.
      scales: [K], the standard deviation of the noise along each component, in gray levels.

    Returns:
      [B, C].
    """
    vectors, scales = jnp.asarray(vectors, jnp.float32), jnp.asarray(scales, jnp.float32)
    normal = jax.vmap(lambda key: jax.random.normal(key, scales.shape, jnp.float32))(keys)
    # Not a matrix product, because accelerators round its operands.
    return jnp.sum(vectors[None] * (normal * scales[None])[:, None, :], axis=-1)


def lighting(images, keys, reading, deviation=0.1):
    """Add one random color to all pixels of each image: AlexNet's lighting (Krizhevsky et al. 2012, section 4.1).

    The paper adds sum_i p_i a_i l_i, a_i ~ N(0, 0.1^2), with p_i and l_i the eigenvectors and eigenvalues of the
    covariance of RGB values over the training set. Taken literally in gray levels, that is noise of about 850. The
    usable readings are:

    - 'fb': eigenvalues of 0..1 values (fb.resnet.torch), noise of about 3 gray levels. ResNet and after.
    - 'cc2': standard deviations, the square roots of the eigenvalues, in gray levels (cuda-convnet2, the author's
      code), noise of about 7 gray levels. AlexNet, VGG, PReLU-net. That code also divides the noisy, mean-subtracted
      image by 1.1, in training only: `scale=1/1.1` of `pixels.augment`.
    - 'sqrt': standard deviations, from fb's eigenvalues.

    Nothing is clipped. The noise is constant over an image, so it may be added before or after subtracting the mean.

    Args:
      images: [B, H, W, C].
      keys: [B].
      reading: a name of `LIGHTING`, or (vectors [C, K], scales [K] in gray levels) measured on a data set.
      deviation: standard deviation of a_i.

    Raises:
      UserError: an unknown reading, or one for another number of channels.
    """
    if isinstance(reading, str):
        check_name('lighting', reading, LIGHTING)
        reading = LIGHTING[reading]
    vectors, scales = reading
    if len(vectors) != images.shape[-1]:
        raise UserError(
            f'lighting has components of {len(vectors)} channels but the images have {images.shape[-1]}: '
            "set lighting to 'none', or measure the components on this data set."
        )
    noise = lighting_noise(keys, vectors, deviation * jnp.asarray(scales, jnp.float32))
    return images + noise[:, None, None, :]


def check_name(option, name, names):
    """Raise UserError unless `name`, the value of `option`, is one of `names`."""
    if name not in names:
        raise UserError(f'{option} {name!r} is not one of {", ".join(map(repr, names))}{nearest(name, names)}')
