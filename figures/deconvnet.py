"""The strongest activations of a unit over a data set, projected to pixels, next to the image patches that it saw
(Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, sections 2.1 and 4, figure 2).

A deconvnet runs a convnet backwards: it unpools with the switches of the forward pass, rectifies, and filters with the
transposed kernels. This is the network's backward pass except for two points, which the paper's version of 2014 names
in section 2.1: the backward signal is rectified, whatever the sign of the unit's input was, and response normalization
is left out. So this is `jax.vjp` of the forward pass with those two changed (`_DeconvnetLayers`), and no second
description of a network is needed.

What the paper leaves open: if pools overlap and two windows have the same largest cell, their values add up.
Activations that can be negative (tanh, PReLU) pass the signal unchanged, because a map with both signs need not be
reconstructed as positive. LeNet-5's subsampling is linear and is transposed, and so is batch norm, which at test time
is part of its convolution.
"""

import itertools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import architectures
from architectures import alexnet, inception, layers, lenet, overfeat, receptive_field, vgg, zfnet
from figures import filters, style
from figures.inputs import open_data, open_one
from input_pipeline import loader, progress
from runtime import mesh
from runtime.errors import UserError, nearest

NETWORKS = (
    lenet.LeNet5,
    lenet.LeNet51998,
    lenet.LeNetCaffe,
    alexnet.AlexNet,
    alexnet.AlexNetOWT,
    zfnet.ZFNet,
    overfeat.OverFeatFast,
    overfeat.OverFeatAccurate,
    vgg.VGG,
    inception.GoogLeNet,  # both up to the first inception module
    inception.BNInception,
)
SIDE = 3  # a unit's projections are drawn as a square of SIDE x SIDE: the top nine
UNITS = 9  # number of units to draw if none are named
BEYOND = 0.85  # gray level of the part of a patch outside the image


class Excited(NamedTuple):
    """A unit and the images that excite it most, the strongest first.

    Fields:
      unit: index of its channel.
      values: float [K], its largest activation in each image.
      numbers: int [K], indices of the images in their source.
      boxes: [(top, left, bottom, right)], the part of each image that the activation sees: see `box`.
      pixels: uint8 [K, H, W, C], the images as cropped for the network.
      projections: float [K, H, W, C], from `project`, with the channel order of `pixels`.
    """

    unit: int
    values: np.ndarray
    numbers: np.ndarray
    boxes: list
    pixels: np.ndarray
    projections: np.ndarray


def make(out, config, checkpoint, step='best', images=(), layer='', units='', columns=3):
    """Draw what excites the units of a layer.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_one`.
      images: files and folders to use in place of the config's test split.
      layer, units: see `excited`.
      columns: units side by side.
    """
    network = open_one(config, checkpoint, step)
    data = open_data(config, images)
    layer, units = excited(network.member, data.source, layer, units)
    title = f'{layer}: the {len(units[0].values)} strongest activations projected to pixels, and their image patches'
    where = data.title if images else f'{len(data.source):,} images of {data.title}'
    draw(units, out, f'{title}\n{network.title}; {where}', columns)


def draw(units, out, title, columns=3):
    """Draw units to a file.

    Args:
      units: list of `Excited`.
      out: path of the figure.
      title: title of the figure.
      columns: units side by side; 0 for all.
    """
    columns = min(columns or len(units), len(units))
    rows = math.ceil(len(units) / columns)
    side = units[0].pixels.shape[1]
    beyond = any(min(place) < 0 or max(place) > side for unit in units for place in unit.boxes)
    with style.look():
        figure = style.figure(max(10, 4.2 * columns), 0.9 + 2.3 * rows + 0.3 * beyond)
        figure.get_layout_engine().set(w_pad=0.12)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.axis('off')
        for unit, axis in zip(units, axes, strict=False):
            axis.imshow(_squares(unit), cmap='gray', vmin=0, vmax=1, interpolation='nearest')
            axis.set_title(f'unit {unit.unit}: {_number(unit.values[0])} to {_number(unit.values[-1])}', fontsize=12)
        if beyond:
            figure.supxlabel('light gray: beyond the edge of the image', fontsize=12)
        figure.suptitle(title)
        style.save(figure, out)


def _number(value):
    return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'


# What can be projected


def applies_to():
    """Return the names of the networks that can be projected."""
    return [name for name in architectures.names() if isinstance(architectures.create(name), NETWORKS)]


def chain(model, variables, image_shape):
    """Return the layers of a network that can be projected: those from the image to the logits or the first branches.

    Args:
      model: from `architectures.create`.
      variables: its variables, or their shapes.
      image_shape: (H, W, C).

    Returns:
      {layer: ((H', W', C') of its map, its `receptive_field.Field`)}, in order.

    Raises:
      UserError: if the network is not a chain.
    """
    if not isinstance(model, NETWORKS):
        raise UserError(
            f'deconvnet needs a plain chain of convolutions and pools, and {type(model).__name__} is not one; it '
            f'applies to {", ".join(applies_to())}'
        )
    blocks, names = set(), []

    def visit(module, arguments, output):
        if isinstance(module, layers.Block):
            blocks.add(module.name)

    def forward(variables, images):
        with layers.on_call(visit):
            activations = architectures.activations(model, variables, images)
        names.extend(itertools.takewhile(lambda name: name not in blocks, [*activations][:-1]))
        return [activations[name] for name in names]

    with layers.plain_forms():  # the forms that `receptive_field` reads
        traced = jax.make_jaxpr(forward)(variables, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    inputs = [None] * (len(traced.jaxpr.invars) - 1) + [receptive_field.IMAGE]
    fields = receptive_field.fields(traced, inputs)
    return {
        name: (aval.shape[1:], field) for name, aval, field in zip(names, traced.out_avals, fields, strict=True)
    }  # fmt: skip


def find_layer(layer, fields):
    """Return the named layer, or for '' the last of `chain` whose map is larger than one cell."""
    if not layer:
        return [name for name, (shape, _) in fields.items() if shape[0] > 1][-1]
    if layer not in fields:
        raise UserError(f'no layer {layer!r} to project{nearest(layer, fields)} There are: {", ".join(fields)}')
    return layer


def parse_units(text, layer, channels):
    """Return the channels listed in a text such as '3,14,15'; [] for ''."""
    try:
        units = [int(number) for number in text.split(',')] if text else []
    except ValueError:
        raise UserError(f'--units must be comma-separated numbers, as in 3,14,15, not {text!r}') from None
    for unit in units:
        if not 0 <= unit < channels:
            raise UserError(f'{layer} has the units 0 to {channels - 1}, and --units names {unit}')
    return units


# The strongest activations


def excited(member, source, layer='', units=''):
    """Return the units of a layer with the images that excite them most.

    Args:
      member: see `evaluation.scoring.Member`.
      source: the images.
      layer: one of `chain`; '' for the last whose map is larger than one cell.
      units: comma-separated indices of its channels; '' for those with the largest mean of their strongest activations.

    Returns:
      (the layer, list of `Excited`).

    Raises:
      UserError: if the network is not a chain, the layer or a unit does not exist, or no image can be read.
    """
    side, channels = member.pixels.size, member.pixels.channels
    fields = chain(member.model, member.variables, (side, side, channels))
    layer = find_layer(layer, fields)
    (_, width, channels), field = fields[layer]
    channels = parse_units(units, layer, channels)
    best = strongest(_peaks(member, layer, source), SIDE**2)
    channels = channels or np.argsort(-best[0].mean(0), kind='stable')[:UNITS].tolist()
    projected, units = _projector(member, layer, source), []
    for unit in channels:
        values, numbers, places = (part[:, unit] for part in best)
        cells = np.stack(np.divmod(places, width), 1)
        boxes = [box(field, *map(int, cell), side) for cell in cells]
        pictures = projected(numbers, np.insert(cells, 0, unit, 1))
        units.append(Excited(unit, values, numbers, boxes, *pictures))
    return layer, units


def peaks(maps):
    """Return the largest activation of each image in each channel, [B, C], and its first position, row * W' + column.

    Args:
      maps: [B, H', W', C].
    """
    flat = maps.reshape(maps.shape[0], -1, maps.shape[3]).astype(jnp.float32)
    return flat.max(1), flat.argmax(1)


def strongest(batches, count):
    """Return the images with the largest activations of each unit, the largest first; an image counts once.

    Args:
      batches: iterable of (indices of images [B], their `peaks`: values [B, C], places [B, C]).
      count: number of images; all if there are fewer.

    Returns:
      (values, numbers, places), each [count, C]; of equal values the earlier image comes first.
    """
    best = None
    for numbers, values, places in batches:
        parts = values, np.broadcast_to(numbers[:, None], values.shape), places
        if best:
            parts = [np.concatenate(pair) for pair in zip(best, parts, strict=True)]
        order = np.argsort(-parts[0], axis=0, kind='stable')[:count]
        best = [np.take_along_axis(part, order, 0) for part in parts]
    if not best or not len(best[0]):
        raise UserError('none of the images can be read')
    return tuple(best)


def _peaks(member, layer, source):
    """Yield the batches for `strongest`, of every readable image of a source."""
    config, grid = member.config, mesh.of_this_process()

    @_jit
    def run(variables, batch):
        return peaks(maps(member.model, variables, member.pixels.test(batch), layer))

    size = -(-min(config.test_batch_size, len(source)) // grid.size) * grid.size
    form = member.pixels.test_form
    with progress.bar(layer, len(source)) as advance:
        for batch in loader.test_batches(source, form, size, config.on_bad_image, config.workers):
            pixels = jax.device_put({key: batch[key] for key in ('image', 'offset')}, mesh.batch_sharding(grid))
            values, places = map(np.asarray, run(member.variables, pixels))
            real = batch['mask']
            yield np.asarray(batch['index'])[real], values[real], places[real]
            advance(int(real.sum()))


def _jit(function):
    return jax.jit(function, compiler_options=layers.compiler_options())


# The projection


@jax.custom_vjp
def _backward(x, y, rectify):
    """Return y; its gradient is passed to x unchanged, or rectified."""
    return y


def _backward_rule(rectify, signal):
    return jnp.where(rectify, nn.relu(signal), signal), None, None


_backward.defvjp(lambda x, y, rectify: (y, rectify), _backward_rule)


class _DeconvnetLayers(layers.Layers):
    """Layers whose backward pass is a deconvnet; their forward pass is unchanged."""

    def activate(self, name, x):
        y = super().activate(name, x)
        return _backward(x, lax.stop_gradient(y), self.unit.activation in ('relu', 'sigmoid'))

    def lrn(self, x):
        return _backward(x, lax.stop_gradient(super().lrn(x)), False)


def maps(model, variables, images, layer):
    """Return a layer's activations [B, H', W', C'] for images [B, H, W, C]; their gradient is the projection."""
    with layers.layers_from(_DeconvnetLayers):
        return architectures.activations(model, variables, images)[layer]


def project(model, variables, images, layer, places):
    """Project single activations to pixels: set all others of the layer to zero, and run the layers backwards.

    Args:
      model: a network that is a `chain`.
      variables: its variables.
      images: its input, [B, H, W, C].
      layer: one of `chain`.
      places: int [B, 3]: (unit, row, column) of each image's activation.

    Returns:
      (the activations [B], their projections [B, H, W, C] on the scale of the mean-subtracted images).
    """
    activations, transpose = jax.vjp(lambda images: maps(model, variables, images, layer), images)
    unit, row, column = places.T
    at = jnp.arange(len(images)), row, column, unit
    values = activations[at]
    return values, transpose(jnp.zeros_like(activations).at[at].set(values))[0]


def project_class(model, variables, images, classes):
    """Project the scores of classes to pixels: run the layers backwards from the logits.

    Args:
      model: an instance of one of NETWORKS.
      variables: its variables.
      images: its input, [B, H, W, C].
      classes: int [B], the class of each image.

    Returns:
      [B, H, W, C].
    """
    with layers.layers_from(_DeconvnetLayers):
        logits, transpose = jax.vjp(lambda images: model.apply(variables, images), images)
    return transpose(jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype))[0]


def _projector(member, layer, source):
    """Return the function (indices of images, places) -> (uint8 images [B, H, W, C] in RGB or gray, projections)."""
    form = member.pixels.test_form

    @_jit
    def run(variables, batch, places):
        return project(member.model, variables, member.pixels.test(batch), layer, places)[1]

    def call(numbers, places):
        prepared = [loader.prepare_image(source[int(number)].image, form) for number in numbers]
        pixels, offsets = np.stack([image for image, _ in prepared]), np.array([at for _, at in prepared], np.int32)
        projections = np.asarray(run(member.variables, {'image': pixels, 'offset': offsets}, places))
        return pixels, projections[..., ::-1] if member.pixels.channel_order == 'bgr' else projections

    return call


# What is drawn


def box(field, row, column, side):
    """Return the part of a square image that an activation sees, (top, left, bottom, right); it may exceed the edges.

    If it is as large as the image or larger, it is the image.

    Args:
      field: receptive field of the map, see `receptive_field.Field`.
      row, column: position of the activation.
      side: side of the image.
    """
    if field.size >= side:
        return 0, 0, side, side
    top, left = (int(field.first + place * field.stride) for place in (row, column))
    return top, left, top + int(field.size), left + int(field.size)


def cut(image, place):
    """Return a box of an image [H, W, C] from 0 to 1, filled with `BEYOND` outside the image."""
    top, left, bottom, right = place
    over = [(max(0, -top), max(0, bottom - image.shape[0])), (max(0, -left), max(0, right - image.shape[1])), (0, 0)]
    padded = np.pad(image, over, constant_values=BEYOND)
    return padded[top + over[0][0] :, left + over[1][0] :][: bottom - top, : right - left]


def _squares(unit):
    """Return projections and patches as two squares side by side, [H, W] or [H, W, 3] from 0 to 1."""
    squares = []
    for pictures in (filters.scaled(np.moveaxis(unit.projections, 0, -1)), unit.pixels / np.float32(255)):
        parts = np.stack([cut(picture, place) for picture, place in zip(pictures, unit.boxes, strict=True)])
        squares.append(filters.mosaic(parts, SIDE))
    gap = np.ones_like(squares[0][:, : max(2, squares[0].shape[1] // 16)])
    return np.concatenate([squares[0], gap, squares[1]], 1)
