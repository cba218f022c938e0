"""How a config's images become what its network takes, as a value that the other rooms pass on."""

import functools

import jax

from input_pipeline import colour, crops, loader
from input_pipeline.distortion import distort


class Pixels:
    """The images of a config: the loader brings them into a form, on the host; `train` and `test` do the rest, on the
    device, inside the jitted step.

    Attributes:
      size, channels: of the images that the network takes.
      channel_order: of those, 'rgb' or 'bgr'.
      test_crop: how a test crop is cut (`configs/base.py`).
      seed: of the order of the examples and of what is random in them.
      order: (start, stop) -> (example numbers, epochs) of these positions of a run, versions included.
      mean_image: float32 [H, W, C], which is subtracted, or None.
    """

    def __init__(self, config, statistics=None, num_examples=0):
        """Made once, where a run or a checkpoint is opened.

        Args:
          config: see `configs/base.py`.
          statistics: of the data set (`statistics.of_run`), where the config needs them.
          num_examples: of the training set, without versions; only training needs it.
        """
        self._config, self._statistics, self._num_examples = config, statistics or {}, num_examples
        self.size, self.channels, self.channel_order = config.image_size, config.channels, config.channel_order
        self.test_crop = config.test_crop
        self.seed = config.seed if config.data_seed == -1 else config.data_seed
        virtual = num_examples * config.distortion.versions
        self.order = functools.partial(loader.example_order, num_examples=virtual, seed=self.seed)
        self.mean_image = self._statistics.get('mean_image') if config.normalize == 'mean_image' else None

    @property
    def train_form(self):
        """What the loader makes of a training image."""
        return self._form(self._config.crop)

    @property
    def test_form(self):
        """What the loader makes of a test image."""
        return self._form(self._config.test_crop)

    def train(self, batch):
        """A training batch as float32 [B, H, W, C]: distorted, colored, flipped and normalized as the config says."""
        images, distortion = batch['image'], self._config.distortion
        if distortion.versions > 1:
            ranges = {key: value for key, value in distortion.items() if key != 'versions'}
            images = distort(images, batch['index'], jax.random.key(self.seed), self._num_examples, **ranges)
        keys = colour.example_keys(self.seed, batch['epoch'], batch['index'])
        return self._normalized(images, batch, self._normalization(), keys, **self._chance())

    def test(self, batch):
        """A test batch as float32 [B, H, W, C]: nothing in it is random."""
        return self._normalized(batch['image'], batch, self._normalization())

    def test_any_size(self, batch):
        """As `test`, for images of any size: in place of a mean image its mean by channel is subtracted."""
        by_image = self._config.normalize == 'mean_image'
        normalization = {'mean': self._statistics['mean']} if by_image else self._normalization()
        return self._normalized(batch['image'], batch, normalization)

    def _form(self, crop):
        rule = None if crop.kind == 'none' else crops.rule(self.size, **crop)
        return loader.Form(self.size, self.channels, self._config.fit, rule)

    def _normalized(self, images, batch, normalization, keys=None, **chance):
        images = colour.augment(images, keys, batch['offset'], **normalization, **chance)
        if self._config.normalize == 'range':
            images = colour.scale_range(images, *self._config.pixel_range)
        return images[..., ::-1] if self.channel_order == 'bgr' else images

    def _normalization(self):
        """What `colour.augment` subtracts and divides by."""
        config, statistics = self._config, self._statistics
        if config.normalize == 'constant':
            return {'mean': colour.MEANS[config.mean], 'std': colour.STDS[config.std]}
        if config.normalize == 'mean_image':
            # A mean image of the network's own size is the same under every crop, one of a square is not.
            of_square = any(crop.square or crop.warp for crop in (config.crop, config.test_crop))
            under = config.colour.mean_under_crop and of_square
            return {'mean_image': statistics['mean_image'], 'mean_under_crop': under}
        if config.normalize == 'channel_mean':
            return {'mean': statistics['mean']}
        if config.normalize == 'channel_mean_std':
            return {'mean': statistics['mean'], 'std': statistics['std']}
        return {}

    def _chance(self):
        """What `colour.augment` does to training images alone."""
        values = {key: value for key, value in self._config.colour.items() if key != 'mean_under_crop'}
        values['jitter_strength'] = values['jitter_strength'] or None
        if values['lighting'] == 'measured':
            values['lighting'] = self._statistics['vectors'], self._statistics['deviations']
        return values
