"""What excites a unit: its strongest activations over a data set, projected to pixels, beside the patches that it saw
(Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2013, sections 2.1 and 4, figure 2).

A deconvnet runs a convnet backwards: it unpools by the switches of the forward pass, rectifies, and filters with the
transposed kernels. That is the network's own backward pass but for two things, which the paper's version of 2014 names
in section 2.1: the signal that comes back is rectified, whatever the sign of the unit's input was, and response
normalisation is left out. So this is `jax.vjp` of the very forward pass with those two changed (`_Words`); there is no
second description of a network that could differ from the first.

What the paper leaves open: where pools overlap and two windows have the same largest cell, their values add up.
Activations that can be negative (tanh, PReLU) pass the signal as it is, for a map that is not positive need not come
back positive. LeNet-5's subsampling is linear and is transposed, and so is batch norm, which at test is part of its
convolution.
"""

import itertools
import math
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import architectures
from architectures import alexnet, inception, layers, lenet, overfeat, receptive_field, vgg, zfnet
from figures import filters, style
from figures.opened import open_one
from input_pipeline import datasets, loader, progress
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
    inception.GoogLeNet,  # these two up to their first inception module
    inception.BNInception,
)
SIDE = 3  # of the square in which a unit's projections are drawn: the top nine
UNITS = 9  # drawn where none are named
BEYOND = 0.85  # the grey of what a patch has outside the image


class Excited(NamedTuple):
    """A unit and the images that excite it most, the strongest first.

    Fields:
      unit: number of its channel.
      values: float [K], its largest activation in each image.
      numbers: int [K], of the images in their source.
      boxes: [(top, left, bottom, right)], the part of each image that the activation sees: `box`.
      pixels: uint8 [K, H, W, C], the images as they are cut for the network.
      projections: float [K, H, W, C], of `project`, their channels in the order of the pixels'.
    """

    unit: int
    values: np.ndarray
    numbers: np.ndarray
    boxes: list
    pixels: np.ndarray
    projections: np.ndarray


def make(out, config, checkpoint, step='best', layer='', units='', columns=3):
    """Draws what excites the units of a layer.

    Args:
      out: the file.
      config, checkpoint, step: see `figures.opened.open_one`; the images are those of the config's test split.
      layer, units: see `excited`.
      columns: units side by side.
    """
    opened = open_one(config, checkpoint, step)
    source = datasets.open_split(config, config.test_split, any_classes=True)
    layer, found = excited(opened.member, source, layer, units)
    data = f'{len(source):,} images of {"/".join(Path(source.name).parts[-2:])}'
    title = f'{layer}: the {len(found[0].values)} strongest activations projected to pixels, and their image patches'
    draw(found, out, f'{title}\n{opened.title}; {data}', columns)


def draw(found, out, title, columns=3):
    """Draws units to a file.

    Args:
      found: [`Excited`].
      out: the file.
      title: of the figure.
      columns: units side by side; 0: all.
    """
    columns = min(columns or len(found), len(found))
    rows = math.ceil(len(found) / columns)
    side = found[0].pixels.shape[1]
    beyond = any(min(place) < 0 or max(place) > side for one in found for place in one.boxes)
    with style.look():
        made = style.figure(max(10, 4.2 * columns), 0.9 + 2.3 * rows + 0.3 * beyond)
        made.get_layout_engine().set(w_pad=0.12)
        axes = made.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.axis('off')
        for one, axis in zip(found, axes, strict=False):
            axis.imshow(_beside(one), cmap='gray', vmin=0, vmax=1, interpolation='nearest')
            axis.set_title(f'unit {one.unit}: {_number(one.values[0])} to {_number(one.values[-1])}', fontsize=12)
        if beyond:
            made.supxlabel("pale grey: beyond the image's edge", fontsize=12)
        made.suptitle(title)
        style.save(made, out)


def _number(value):
    return f'{value:,.0f}' if value >= 1000 else f'{value:.3g}'


# What can be projected


def applies_to():
    """The names of the networks that can be projected."""
    return [name for name in architectures.names() if isinstance(architectures.create(name), NETWORKS)]


def chain(model, variables, image_shape):
    """What can be projected of a network: the layers it names from the image to the logits or the first branches.

    Args:
      model: of `architectures.create`.
      variables: its, or their shapes.
      image_shape: (H, W, C).

    Returns:
      {layer: ((H', W', C') of its map, the `receptive_field.Field` of it)}, in order.

    Raises:
      UserError: a network that is no chain.
    """
    if not isinstance(model, NETWORKS):
        raise UserError(
            f'deconvnet runs a plain chain of convolutions and pools backwards, and {type(model).__name__} is none; it '
            f'applies to {", ".join(applies_to())}'
        )
    blocks, names = set(), []

    def visit(module, arguments, output):
        if isinstance(module, layers.Block):
            blocks.add(module.name)

    def forward(variables, images):
        with layers.on_call(visit):
            found = architectures.activations(model, variables, images)
        names.extend(itertools.takewhile(lambda name: name not in blocks, [*found][:-1]))
        return [found[name] for name in names]

    with layers.plain_forms():  # which are what `receptive_field` reads
        traced = jax.make_jaxpr(forward)(variables, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    inputs = [None] * (len(traced.jaxpr.invars) - 1) + [receptive_field.IMAGE]
    fields = receptive_field.fields(traced, inputs)
    return {
        name: (aval.shape[1:], field) for name, aval, field in zip(names, traced.out_avals, fields, strict=True)
    }  # fmt: skip


def chosen_layer(layer, known):
    """The layer that a user names; of none the last of `chain` that is a map with several places."""
    if not layer:
        return [name for name, (shape, _) in known.items() if shape[0] > 1][-1]
    if layer not in known:
        raise UserError(f'no layer {layer!r} to project{nearest(layer, known)} There are: {", ".join(known)}')
    return layer


def chosen_units(text, layer, channels):
    """The numbers that a user gives, as in '3,14,15'; [] of ''."""
    try:
        units = [int(number) for number in text.split(',')] if text else []
    except ValueError:
        raise UserError(f'--units are numbers with commas between, as in 3,14,15, not {text!r}') from None
    for unit in units:
        if not 0 <= unit < channels:
            raise UserError(f'{layer} has the units 0 to {channels - 1}, and --units names {unit}')
    return units


# The strongest activations


def excited(member, source, layer='', units=''):
    """The units of a layer with the images that excite them most.

    Args:
      member: see `evaluation.scoring.Member`.
      source: the images.
      layer: one of `chain`; '' for the last that is a map with several places.
      units: numbers of its channels from 0, with commas between; '' for those whose strongest activations are the
        largest in the mean.

    Returns:
      (the layer, [`Excited`]).

    Raises:
      UserError: a network that is no chain, no such layer or unit, or images that cannot be read.
    """
    side, channels = member.pixels.size, member.pixels.channels
    known = chain(member.model, member.variables, (side, side, channels))
    layer = chosen_layer(layer, known)
    (_, width, channels), field = known[layer]
    units = chosen_units(units, layer, channels)
    best = strongest(_peaks(member, layer, source), SIDE**2)
    units = units or np.argsort(-best[0].mean(0), kind='stable')[:UNITS].tolist()
    projected, found = _projector(member, layer, source), []
    for unit in units:
        values, numbers, places = (part[:, unit] for part in best)
        cells = np.stack(np.divmod(places, width), 1)
        boxes = [box(field, *map(int, cell), side) for cell in cells]
        pictures = projected(numbers, np.insert(cells, 0, unit, 1))
        found.append(Excited(unit, values, numbers, boxes, *pictures))
    return layer, found


def peaks(maps):
    """The largest activation of each image in each channel, [B, C], and where: row * W' + column, of equals the first.

    Args:
      maps: [B, H', W', C].
    """
    flat = maps.reshape(maps.shape[0], -1, maps.shape[3]).astype(jnp.float32)
    return flat.max(1), flat.argmax(1)


def strongest(found, count):
    """The images with the largest activations of each unit, the largest first; an image counts once.

    Args:
      found: an iterable of (numbers of images [B], their `peaks`: values [B, C], places [B, C]).
      count: how many; all, where there are fewer.

    Returns:
      (values, numbers, places), each [count, C]; of equal values the image that came first.
    """
    best = None
    for numbers, values, places in found:
        parts = values, np.broadcast_to(numbers[:, None], values.shape), places
        if best:
            parts = [np.concatenate(pair) for pair in zip(best, parts, strict=True)]
        order = np.argsort(-parts[0], axis=0, kind='stable')[:count]
        best = [np.take_along_axis(part, order, 0) for part in parts]
    if not best or not len(best[0]):
        raise UserError('none of the images can be read')
    return tuple(best)


def _peaks(member, layer, source):
    """What `strongest` takes, of every image of a source that can be read."""
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
    """y, whose gradient goes to x as it is, or rectified."""
    return y


def _backward_rule(rectify, signal):
    return jnp.where(rectify, nn.relu(signal), signal), None, None


_backward.defvjp(lambda x, y, rectify: (y, rectify), _backward_rule)


class _Words(layers.Layers):
    """The words of a network whose backward pass is a deconvnet: what they compute forwards is unchanged."""

    def activate(self, name, x):
        y = super().activate(name, x)
        return _backward(x, lax.stop_gradient(y), self.unit.activation in ('relu', 'sigmoid'))

    def lrn(self, x):
        return _backward(x, lax.stop_gradient(super().lrn(x)), False)


def maps(model, variables, images, layer):
    """A layer's activations [B, H', W', C'] of images [B, H, W, C], whose gradient is a deconvnet's projection."""
    with layers.layers_from(_Words):
        return architectures.activations(model, variables, images)[layer]


def project(model, variables, images, layer, places):
    """Single activations projected to pixels: all others of their layer are set to zero, and the layers run backwards.

    Args:
      model: a network that is a `chain`.
      variables: its.
      images: what it takes, [B, H, W, C].
      layer: of `chain`.
      places: int [B, 3]: (unit, row, column) of each image's activation.

    Returns:
      (the activations [B], their projections [B, H, W, C] on the scale of the images less their mean).
    """
    found, transpose = jax.vjp(lambda images: maps(model, variables, images, layer), images)
    unit, row, column = places.T
    at = jnp.arange(len(images)), row, column, unit
    return found[at], transpose(jnp.zeros_like(found).at[at].set(found[at]))[0]


def _projector(member, layer, source):
    """(numbers of images, places) -> (what the network saw, uint8 [B, H, W, C], as a person sees it; projections)."""
    form = member.pixels.test_form

    @_jit
    def run(variables, batch, places):
        return project(member.model, variables, member.pixels.test(batch), layer, places)[1]

    def call(numbers, places):
        prepared = [loader.prepare_image(source[int(number)].image, form) for number in numbers]
        pixels, offsets = np.stack([image for image, _ in prepared]), np.array([at for _, at in prepared], np.int32)
        found = np.asarray(run(member.variables, {'image': pixels, 'offset': offsets}, places))
        return pixels, found[..., ::-1] if member.pixels.channel_order == 'bgr' else found

    return call


# What is drawn


def box(field, row, column, side):
    """The part of a square image that an activation sees: (top, left, bottom, right), which may hang over the edges.

    Where it is as large as the image or larger, it is the image.

    Args:
      field: of the activation's map, see `receptive_field.Field`.
      row, column: of the activation.
      side: of the image.
    """
    if field.size >= side:
        return 0, 0, side, side
    top, left = (int(field.first + place * field.stride) for place in (row, column))
    return top, left, top + int(field.size), left + int(field.size)


def cut(image, place):
    """A box of [H, W, C] from 0 to 1; what hangs over is `BEYOND`."""
    top, left, bottom, right = place
    over = [(max(0, -top), max(0, bottom - image.shape[0])), (max(0, -left), max(0, right - image.shape[1])), (0, 0)]
    whole = np.pad(image, over, constant_values=BEYOND)
    return whole[top + over[0][0] :, left + over[1][0] :][: bottom - top, : right - left]


def _beside(one):
    """Projections and patches as two squares side by side, [H, W] or [H, W, 3] from 0 to 1."""
    squares = []
    for pictures in (filters.scaled(np.moveaxis(one.projections, 0, -1)), one.pixels / np.float32(255)):
        parts = np.stack([cut(picture, place) for picture, place in zip(pictures, one.boxes, strict=True)])
        squares.append(filters.mosaic(parts, SIDE))
    gap = np.ones_like(squares[0][:, : max(2, squares[0].shape[1] // 16)])
    return np.concatenate([squares[0], gap, squares[1]], 1)
