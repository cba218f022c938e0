"""A trained network as a Python object: `evaluation.load('runs/resnet50').top5('cat.jpg')`."""

import os

import jax
import numpy as np
from PIL import Image

from evaluation import apply, prediction, results
from evaluation.checkpoint import open_checkpoint
from input_pipeline import datasets, geometry
from input_pipeline.example import Example
from runtime import paths, stored_config
from runtime.errors import UserError


def load(path, which='best'):
    """Open a trained network.

    Args:
      path: a run's workdir, a converted checkpoint, or a single checkpoint.
      which: which checkpoint of a workdir: 'best' by its test error, 'latest', or a step.

    Returns:
      A `Classifier`.

    Raises:
      UserError: there is no such checkpoint, or it is damaged.
    """
    path = paths.expanded(os.fspath(path))
    try:
        config = stored_config.get_config(path)
    except ValueError as error:
        raise UserError(str(error)) from None
    config.workers, config.on_bad_image = 0, 'stop'  # no processes; and one row of every result for each picture
    return Classifier(open_checkpoint(config, path, str(which)))


class Classifier:
    """A trained network, with its classes and its preprocessing.

    Its methods take pictures: the path of a file, or of a folder for the images in it; an array uint8 [H, W], [H, W, C]
    or [N, H, W, C] with 1 or 3 channels; a Pillow image; or a list of paths or of the others. Each picture is resized
    and cropped as in the tests of the network (its config's `test_crop`), and normalized. Photographs in files are
    turned upright by their EXIF orientation.

    Attributes:
      model: the network; `model.apply(variables, images)` are the logits of `images` from `preprocess`.
      variables: its weights.
      class_names: the names of its outputs.
      config: its config, as stored with the checkpoint.
    """

    def __init__(self, checkpoint):
        """Create a classifier from an `evaluation.checkpoint.Checkpoint`."""
        self.checkpoint, self._programs = checkpoint, {}
        self.model, self.variables, self.config, *_ = checkpoint.member
        self.class_names = datasets.of_network(checkpoint.member.class_names, self.config)

    def __repr__(self):
        return f'Classifier({self.config.architecture}, {len(self.class_names)} classes, {self.checkpoint.where})'

    def preprocess(self, pictures):
        """Return the network's input, float32 [N, H, W, C]."""
        return self._run('preprocess', lambda: lambda model, variables, images: images, pictures)

    def logits(self, pictures):
        """Return the logits, float32 [N, classes]."""
        return self._run('logits', lambda: lambda model, variables, images: model.apply(variables, images), pictures)

    def features(self, pictures, layer=''):
        """Return the activations of a layer, float32 [N, D], or [N, H, W, C] of a map.

        Args:
          pictures: see the class.
          layer: one of the layers that the paper names (`python -m architectures NAME` lists them); by default the last
            hidden layer.
        """
        return self._run(f'features of {layer}', lambda: apply.features(self.checkpoint.member, layer), pictures)

    def top5(self, pictures):
        """Return [(name, probability), ...] of the five most probable classes for each picture, best first."""
        probabilities = np.asarray(jax.nn.softmax(self.logits(pictures)))
        best = np.argsort(-probabilities, 1, kind='stable')[:, : results.TOP]
        return [
            [(self.class_names[number], float(row[number])) for number in numbers]
            for numbers, row in zip(best, probabilities, strict=True)
        ]

    def _run(self, name, function, pictures):
        """Return the outputs of `function()` for pictures; its program is kept under a name."""
        member, source = self.checkpoint.member, source_of(pictures)
        if name not in self._programs:
            self._programs[name] = apply.program(member, function())
        return apply.outputs(member, source, None, run=self._programs[name])[0]


def source_of(pictures):
    """Return the source (`input_pipeline.sources`) of pictures, see `Classifier`; UserError if they are others."""
    is_one = isinstance(pictures, str | os.PathLike | Image.Image) or getattr(pictures, 'ndim', 4) < 4
    if not is_one and not hasattr(pictures, '__iter__'):
        raise UserError(
            f'pictures are of the type {type(pictures).__name__}: pass a path, an array, an image or a list'
        )
    pictures = [pictures] if is_one else list(pictures)
    if not pictures:
        raise UserError('there are no pictures')
    if all(isinstance(picture, str | os.PathLike) for picture in pictures):
        return prediction.Files(prediction.files([paths.expanded(os.fspath(path)) for path in pictures])[0])
    return _Arrays([image for number, picture in enumerate(pictures) for image in _images(picture, number)])


class _Arrays:
    """A source of images in memory, of any sizes, without labels (-1)."""

    def __init__(self, images):
        self.images, self.name, self.notes = images, 'the pictures', []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Example(self.images[index], -1, f'picture {index}')


def _images(picture, number):
    """Return the images of a path, or [a picture as uint8 [H, W, C]]."""
    if isinstance(picture, str | os.PathLike):
        source = prediction.Files(prediction.files([paths.expanded(os.fspath(picture))])[0])
        return [source[index].image for index in range(len(source))]
    if isinstance(picture, Image.Image):
        picture = geometry.to_array(picture, 1 if picture.mode == 'L' else 3)
    if not hasattr(picture, '__array__'):
        raise UserError(f'picture {number} is of the type {type(picture).__name__}: pass a path, an array or an image')
    picture = picture[..., None] if picture.ndim == 2 else picture
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3) or not picture.size:
        raise UserError(
            f'picture {number} is {picture.dtype} of the shape {picture.shape}: pass the path of a file, or uint8 '
            '[H, W, C] from 0 to 255 with 1 or 3 channels'
        )
    return [picture]
