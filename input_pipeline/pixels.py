"""`Pixels`: how the images of a config become the input of its network, as a value that the other modules pass on."""

import functools

import jax

from input_pipeline import colour, crops, loader
from input_pipeline.distortion import distort


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
        images, distortion = batch['image'], self._config.distortion
        if distortion.versions > 1:
            ranges = {key: value for key, value in distortion.items() if key != 'versions'}
            images = distort(images, batch['index'], jax.random.key(self.seed), self._num_examples, **ranges)
        keys = colour.example_keys(self.seed, batch['epoch'], batch['index'])
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
        images = colour.augment(images, keys, batch['offset'], **normalization, **augmentation)
        if self._config.normalize == 'range':
            images = colour.scale_range(images, *self._config.pixel_range)
        return images[..., ::-1] if self.channel_order == 'bgr' else images

    def _normalization(self):
        """The options of `colour.augment` for subtracting and dividing."""
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
        """The options of `colour.augment` for training images only."""
        values = {key: value for key, value in self._config.colour.items() if key != 'mean_under_crop'}
        values['jitter_strength'] = values['jitter_strength'] or None
        if values['lighting'] == 'measured':
            values['lighting'] = self._statistics['vectors'], self._statistics['deviations']
        return values
