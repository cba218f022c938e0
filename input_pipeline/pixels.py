"""How uint8 images become the float32 input of a network: `Pixels`, which has the choices of a config.

The loader, the training step and the evaluation all take them from a `Pixels`. `augment` and the functions below it
compute the pixels on the device, inside the jitted step, in float32 before any cast. There, images are [B, H, W, C] in
gray levels, 0..255, in the order R, G, B. Random functions take typed keys, one per image, so that the changes to an
image depend on its own key and not on the rest of the batch.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from input_pipeline import colour, crops, distortion, loader
from runtime.errors import UserError

PADDING_MODES = ('zero', 'reflect')
_STAGES = ('rotation', 'jitter', 'value_shift', 'lighting', 'flip', 'crop')  # the index makes the key: only append


class Pixels:
    """The image processing of a config.

    On the host, the loader brings images into `train_form` or `test_form`. On the device, `train` and `test` do the
    rest inside the jitted step.

    Attributes:
      size, channels: of the network's input.
      channel_order: of the network's input, 'rgb' or 'bgr'.
      test_crop: config of the test crop (`configs/base.py`).
      seed: for the order of the examples and the random changes to them.
      order: (start, stop) -> (example numbers, epochs) at these positions of a run, versions included.
      mean_image: float32 [H, W, C] to subtract, or None.
    """

    def __init__(self, config, statistics=None, num_examples=0):
        """Create the pixels of a run or a checkpoint.

        Args:
          config: see `configs/base.py`.
          statistics: of the data set (`statistics.of_run`), if the config needs them.
          num_examples: of the training set, without versions; only needed for training.
        """
        self._config, self._statistics, self._num_examples = config, statistics or {}, num_examples
        self.size, self.channels, self.channel_order = config.image_size, config.channels, config.channel_order
        self.test_crop = config.test_crop
        self.seed = config.seed if config.data_seed == -1 else config.data_seed
        num_versions = num_examples * config.distortion.versions
        self.order = functools.partial(loader.example_order, num_examples=num_versions, seed=self.seed)
        self.mean_image = self._statistics.get('mean_image') if config.normalize == 'mean_image' else None

    @property
    def train_form(self):
        """The `loader.Form` of training images."""
        return self._form(self._config.crop)

    @property
    def test_form(self):
        """The `loader.Form` of test images."""
        return self._form(self._config.test_crop)

    def train(self, batch):
        """Return the images of a training batch as float32 [B, H, W, C]: distorted, augmented and normalized."""
        images, ranges = batch['image'], dict(self._config.distortion)
        if ranges.pop('versions') > 1:
            images = distortion.distort(images, batch['index'], jax.random.key(self.seed), self._num_examples, **ranges)
        keys = example_keys(self.seed, batch['epoch'], batch['index'])
        return self._augment(images, batch, self._normalization(), keys, **self._augmentation())

    def test(self, batch):
        """Return the images of a test batch as float32 [B, H, W, C]: normalized, without augmentation."""
        return self._augment(batch['image'], batch, self._normalization())

    def test_any_size(self, batch):
        """Like `test`, for images of any size: instead of a mean image, its channel means are subtracted."""
        has_mean_image = self._config.normalize == 'mean_image'
        normalization = {'mean': self._statistics['mean']} if has_mean_image else self._normalization()
        return self._augment(batch['image'], batch, normalization)

    def _form(self, crop):
        rule = None if crop.kind == 'none' else crops.rule(self.size, **crop)
        return loader.Form(self.size, self.channels, self._config.fit, rule)

    def _augment(self, images, batch, normalization, keys=None, **augmentation):
        images = augment(images, keys, batch['offset'], **normalization, **augmentation)
        if self._config.normalize == 'range':
            images = scale_range(images, *self._config.pixel_range)
        return images[..., ::-1] if self.channel_order == 'bgr' else images

    def _normalization(self):
        """The options of `augment` for subtracting and dividing."""
        config, statistics = self._config, self._statistics
        if config.normalize == 'constant':
            return {'mean': colour.MEANS[config.mean], 'std': colour.STDS[config.std]}
        if config.normalize == 'mean_image':
            # A mean image of the network's input size is the same for every crop; a mean image of a square is not.
            of_square = any(crop.square or crop.warp for crop in (config.crop, config.test_crop))
            under_crop = config.colour.mean_under_crop and of_square
            return {'mean_image': statistics['mean_image'], 'mean_under_crop': under_crop}
        if config.normalize == 'channel_mean':
            return {'mean': statistics['mean']}
        if config.normalize == 'channel_mean_std':
            return {'mean': statistics['mean'], 'std': statistics['std']}
        return {}

    def _augmentation(self):
        """The options of `augment` for training images only."""
        values = {key: value for key, value in self._config.colour.items() if key != 'mean_under_crop'}
        values['jitter_strength'] = values['jitter_strength'] or None
        if values['lighting'] == 'measured':
            values['lighting'] = self._statistics['vectors'], self._statistics['deviations']
        return values


def augment(
    images,
    keys=None,
    offsets=None,
    *,
    jitter='none',
    jitter_strength=None,
    lighting='none',
    lighting_deviation=0.1,
    rotation=0.0,
    value_shift=0.0,
    mean=None,
    std=1.0,
    mean_image=None,
    mean_under_crop=True,
    scale=1.0,
    flip=False,
    padding=0,
    padding_mode='zero',
):
    """Apply all of a recipe's pixel operations on the device: uint8 [B, H, W, C] to the network's float32 input.

    In this order: rotation, photometric jitter, value shift, lighting, mean and std, scale, flip, pad-and-crop. The
    defaults do nothing, and testing only sets mean and std. Each stage has its own key, so enabling one stage does not
    change the draws of the others.

    Args:
      images: [B, H, W, C], 0..255.
      keys: [B], of `example_keys`; None if no stage is random.
      offsets: int32 [B, 2], the position of each crop in the frame of the mean image.
      jitter: one of `colour.JITTERS`.
      jitter_strength: s in factors ~ U(1 - s, 1 + s); None for 0.4 in 'fb' and 0.5 in 'howard'. 'inception' has none.
      lighting: 'none', or a reading of `colour.lighting`.
      lighting_deviation: standard deviation of its coefficients.
      rotation: maximal angle in degrees.
      value_shift: maximal shift in gray levels.
      mean: in gray levels, a number or [C]; None for 0.
      std: likewise.
      mean_image: [H', W', C], instead of `mean`.
      mean_under_crop: subtract the part of the mean image under the crop (by `offsets`), as in Caffe; False: always its
        center, as in cuda-convnet2.
      scale: factor applied after mean and std.
      flip: left to right, with probability 1/2.
      padding: pixels, for `pad_and_crop`.
      padding_mode: 'zero' or 'reflect'.

    Raises:
      UserError: an unknown name, both a mean and a mean image, a strength for 'inception', or lighting for another
        number of channels.
      ValueError: a stage is random but there are no keys.
    """
    chex.assert_rank(images, 4)
    has_lighting = not isinstance(lighting, str) or lighting != 'none'
    colour.check_name('jitter', jitter, colour.JITTERS)
    colour.check_name('lighting', lighting if isinstance(lighting, str) else 'none', ('none', *colour.LIGHTING))
    colour.check_name('padding_mode', padding_mode, PADDING_MODES)
    if mean is not None and mean_image is not None:
        raise UserError('a mean and a mean image are both given: keep one of them.')
    if jitter_strength is not None and jitter == 'inception':
        raise UserError("jitter 'inception' has no strength: leave jitter_strength at None.")

    def keys_of(stage):
        if keys is None:
            raise ValueError(f'{stage} is random and needs keys')
        return jax.vmap(lambda key: jax.random.fold_in(key, _STAGES.index(stage)))(keys)

    images = images.astype(jnp.float32)
    if rotation:
        images = distortion.rotate(images, keys_of('rotation'), rotation)
    if jitter == 'fb':
        images = colour.jitter_fb(images, keys_of('jitter'), 0.4 if jitter_strength is None else jitter_strength)
    elif jitter == 'howard':
        strength = 0.5 if jitter_strength is None else jitter_strength
        images = colour.jitter_howard(images, keys_of('jitter'), 1 - strength, 1 + strength)
    elif jitter == 'inception':
        images = colour.jitter_inception(images, keys_of('jitter'))
    if value_shift:
        images = colour.shift_values(images, keys_of('value_shift'), value_shift)
    if has_lighting:
        images = colour.lighting(images, keys_of('lighting'), lighting, lighting_deviation)
    if mean_image is not None:
        images = subtract_mean_image(images, mean_image, offsets if mean_under_crop else None)
    images = normalize(images, 0.0 if mean is None else mean, std) * scale
    if flip:
        images = random_flip(images, keys_of('flip'))
    if padding:
        images = pad_and_crop(images, keys_of('crop'), padding, padding_mode)
    return images


def example_keys(seed, epochs, indices):
    """Return one key per example, typed keys [B]: a pure function of the seed, the epoch and the example's number.

    Args:
      seed: int, of the run.
      epochs: int, or int32 [B] if a batch crosses the end of an epoch.
      indices: int32 [B], the examples' numbers.
    """
    # Always threefry, whatever JAX's default is: the draws of `rbg` under vmap depend on the batch.
    root = jax.random.key(seed, impl='threefry2x32')
    epochs = jnp.broadcast_to(jnp.asarray(epochs), indices.shape)
    return jax.vmap(lambda epoch, index: jax.random.fold_in(jax.random.fold_in(root, epoch), index))(epochs, indices)


def random_flip(images, keys):
    """Mirror each image left to right with probability 1/2 (Krizhevsky et al. 2012, section 4.1, and later papers)."""
    coins = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(coins[:, None, None, None], images[:, :, ::-1], images)


def scale_range(images, low, high):
    """Map uint8 to float32, with 0 at `low` and 255 at `high`.

    LeNet-5 has the background (0) at -0.1 and ink (255) at 1.175, which makes the mean roughly 0 and the variance
    roughly 1 (LeCun et al. 1998, section II.B).
    """
    return images.astype(jnp.float32) * ((high - low) / 255) + low


def normalize(images, mean, std):
    """Compute (x - mean) / std in float32.

    `mean` and `std` are in gray levels: a number, [C], or an image [H, W, C] of the same size. For a mean image of
    another size use `subtract_mean_image`.
    """

    def against_images(value):
        value = jnp.asarray(value, jnp.float32)
        return value.reshape((1,) * (images.ndim - value.ndim) + value.shape)

    return (images.astype(jnp.float32) - against_images(mean)) / against_images(std)


def subtract_mean_image(images, mean_image, offsets=None):
    """Subtract the part of a mean image under each image; outside the mean image, subtract its channel means.

    The per-pixel mean does not commute with a crop or a flip: subtract before flipping. AlexNet's mean image covers
    256x256 squares, and its input is a 224 crop of one. Caffe subtracts the crop of the mean at the same position,
    cuda-convnet2 always the mean's center. Images larger than the mean occur in multi-scale tests, and no paper says
    what is subtracted outside it; the channel means are our reading.

    Args:
      images: [B, H, W, C].
      mean_image: [H', W', C], in gray levels.
      offsets: int32 [B, 2], row and column of each image's corner in the frame of the mean image; None centers all
        images on it, half a pixel to the upper left if the difference of sizes is odd.
    """
    height, width, channels = images.shape[1:]
    mean_image = jnp.asarray(mean_image, jnp.float32)
    rows, columns = mean_image.shape[:2]
    # With a border of channel means as wide as an image, every offset has its slice. Offsets further out are clamped,
    # and the slice there consists of channel means, too.
    surround = jnp.mean(mean_image, axis=(0, 1), keepdims=True)
    surround = jnp.broadcast_to(surround, (rows + 2 * height, columns + 2 * width, channels))
    surround = surround.at[height : height + rows, width : width + columns].set(mean_image)
    if offsets is None:
        offsets = jnp.array([[(rows - height) // 2, (columns - width) // 2]], jnp.int32)  # broadcasts to all images
    starts = jnp.maximum(offsets + jnp.array([[height, width]], jnp.int32), 0)  # JAX counts negatives from the end
    slices = jax.vmap(lambda start: jax.lax.dynamic_slice(surround, (*start, 0), (height, width, channels)))(starts)
    return images.astype(jnp.float32) - slices


def pad_and_crop(images, keys, padding, mode='zero'):
    """Pad `padding` pixels on each side, then crop to the old size at random, as in CIFAR's recipes.

    Row and column of the crop are ~ U{0..2 padding}, both ends included.

    Args:
      images: [B, H, W, C].
      keys: [B].
      padding: pixels on each side; 4 in every CIFAR recipe.
      mode: 'zero' (He et al. 2016, section 4.2; in fb.resnet.torch, and so here, after normalization: the border has
        the mean color), or 'reflect' (Zagoruyko & Komodakis 2016, section 3), which does not repeat the edge pixel.

    Raises:
      UserError: an unknown mode.
    """
    colour.check_name('padding_mode', mode, PADDING_MODES)
    widths = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, widths, mode='constant' if mode == 'zero' else 'reflect')
    offsets = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, 2 * padding + 1))(keys)
    return jax.vmap(lambda image, start: jax.lax.dynamic_slice(image, (*start, 0), images.shape[1:]))(padded, offsets)
