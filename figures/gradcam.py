"""Where a network sees a class: Grad-CAM, beside class activation mapping, occlusion and the deconvnet.

Grad-CAM (Selvaraju et al. 2017, section 3) weighs the maps of a layer by the mean gradient of the class's score, adds
them up and keeps what is positive. CAM (Zhou et al. 2016, section 2) is for networks that end in an average over space
and one fully connected layer: it weighs the maps by that layer's weights. There the two are equal up to the number of
cells. CAM is drawn with its sign: what is negative speaks against the class.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from architectures import layers
from evaluation import apply, prediction
from figures import deconvnet, filters, occlusion, pictures, style
from figures.inputs import open_data, open_one
from figures.predictions import sample
from input_pipeline.progress import bar
from runtime.errors import UserError, nearest

AVERAGED = 'averaged'  # the map that the network's last average reads
_LONGEST = 24  # letters of a name


def make(out, config, checkpoint, step='best', images=(), count=3, layer='', size=0, stride=0):
    """Draw one row per image: the network's input, Grad-CAM of its class and of the most probable other class, CAM if
    the network ends in an average, the effect of a gray square, and the deconvnet's projection of the class's score if
    the network is one that `figures.deconvnet` knows.

    Args:
      out: path of the figure.
      config, checkpoint, step: see `figures.inputs.open_one`; `config.seed` decides the images of the test split.
      images: files and folders to use in place of the test split. Their class is the predicted one.
      count: number of images of the test split, all of which the network gets right.
      layer: layer whose maps Grad-CAM weighs; by default the map that the network averages, or else that of its last
        convolution.
      size, stride: of the gray square, see `figures.occlusion`; by default a quarter and a 14th of the image's side.
    """
    size, stride = size or config.image_size // 4, stride or max(1, config.image_size // 14)
    if not 1 <= size <= config.image_size or not 1 <= stride <= config.image_size or count < 1:
        raise UserError(
            f'--size and --stride must be from 1 to {config.image_size}, the side of the image, and --count at least 1'
        )
    network = open_one(config, checkpoint, step)
    member = network.member
    layer, has_average = find_layer(member, layer)
    data = open_data(config, images, member)
    if images:
        rows = prediction.rows(member, data.source)
    else:
        rows, _ = sample(member, data.source, count, 0)
        if not rows:
            raise UserError(f'{network.title} gets none of the images of {data.title} right: pass --images')
    programs = _programs(member, layer, has_average, occlusion.slider(member, size, stride))
    with style.look(), bar(network.title, len(rows)) as progress:
        panels = []
        for row in rows:
            panels.append(_panels(row, *apply.view(member.pixels, data.source[row.index].image), programs, data.names))
            progress(1)
        place = 'the map that the network averages' if layer == AVERAGED else layer
        title = f'{data.title}: Grad-CAM on {place}; gray square of {size}×{size} pixels, stride {stride}'
        style.save(_draw(panels, f'{title}\n{network.title}'), out, dpi=100)


# The maps


class Maps(NamedTuple):
    """A forward pass, see `forward`.

    Fields:
      logits: [B, K].
      maps: {layer: its activations [B, H, W, C]}, in order; AVERAGED is the input of the last average.
      convolutions: names of the layers that are convolutions.
      kernel: weights [C, K] of the last layer if it is fully connected and reads one cell, else None.
    """

    logits: jax.Array
    maps: dict
    convolutions: tuple
    kernel: jax.Array | None


def forward(model, variables, images, replaced=None):
    """Run a network and return its `Maps`.

    Args:
      model: from `architectures.create`.
      variables: its variables.
      images: its input, [B, H, W, C].
      replaced: {layer: activations that the rest of the network reads in place of its own}.
    """
    replaced, maps, convolutions, kernels = replaced or {}, {}, [], []

    class Tapped(layers.Layers):
        """Layers whose activations are read, or replaced."""

        def tap(self, name, x):
            if isinstance(self.unit, layers.Network):
                x = replaced.get(name, x)
                maps.pop(name, None)  # a layer that is named again comes later
                maps[name] = x
            return x

        def named(self, name, x, collection='activations'):
            return super().named(name, self.tap(name, x) if collection == 'activations' else x, collection)

        def conv(self, name, x, *arguments, **options):
            convolutions.append(name)
            return super().conv(name, x, *arguments, **options)

        def average(self, name, x, window, dense):
            return super().average(name, self.tap(AVERAGED, x), window, dense)

    def visit(module, arguments, output):
        is_last = len(module.path) == 1 and output.shape[-1] == getattr(model, 'num_classes', 0)
        if is_last and isinstance(module, nn.Dense):
            kernels.append(module.variables['params']['kernel'])

    with layers.layers_from(Tapped), layers.on_call(visit):
        logits = model.apply(variables, images)
    return Maps(logits, maps, tuple(convolutions), kernels[-1] if kernels else None)


def find_layer(member, layer=''):
    """Return (the layer for Grad-CAM, whether the network ends in an average and a fully connected layer).

    Args:
      member: see `evaluation.scoring.Member`.
      layer: its name, or '' for the default, see `make`.

    Raises:
      UserError: the network has no such layer, or its map is a single cell.
    """
    passes = []

    def trace(variables, images):
        passes.append(forward(member.model, variables, images))

    side, channels = member.pixels.size, member.pixels.channels
    with layers.plain_forms():  # faster to trace
        jax.eval_shape(trace, member.variables, jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32))
    maps = {name: x.shape[1:] for name, x in passes[0].maps.items() if x.ndim == 4 and x.shape[1] * x.shape[2] > 1}
    has_average = AVERAGED in maps and passes[0].kernel is not None
    if layer and layer not in maps:
        raise UserError(f'no layer {layer!r} with a map{nearest(layer, maps)} There are: {", ".join(maps)}')
    if not maps:
        raise UserError(f'{member.config.architecture} has no layer with a map')
    convolutions = [name for name in maps if name in passes[0].convolutions]
    return layer or (AVERAGED if has_average else (convolutions or [*maps])[-1]), has_average


def gradcam(model, variables, images, layer, classes):
    """Return the maps of Grad-CAM (equations 1 and 2), [B, H, W], before the rectification.

    Args:
      model, variables, images: see `forward`.
      layer: see `find_layer`.
      classes: int [B], the class of each image.
    """

    def scores(activations):
        return forward(model, variables, images, {layer: activations}).logits[jnp.arange(len(images)), classes].sum()

    activations = forward(model, variables, images).maps[layer]
    weights = jax.grad(scores)(activations).mean((1, 2), keepdims=True)
    return (weights * activations).sum(-1)


def cam(model, variables, images, classes):
    """Return the maps of CAM (equation 2), [B, H, W]: their mean over space and the class's bias are its score.

    The arguments are those of `gradcam`; the network ends in an average and a fully connected layer.
    """
    read = forward(model, variables, images)
    return jnp.einsum('bhwc,cb->bhw', read.maps[AVERAGED], read.kernel[:, classes])


def _programs(member, layer, has_average, slide):
    """Return {what a panel shows: function of (uint8 [H, W, C], its offset, a class) that returns its array}."""
    functions = {'Grad-CAM': lambda model, v, images, classes: gradcam(model, v, images, layer, classes)}
    if has_average:
        functions['CAM'] = cam
    if isinstance(member.model, deconvnet.NETWORKS):
        functions['deconvnet'] = deconvnet.project_class

    def program(function):
        def run(variables, batch, classes):
            return function(member.model, variables, member.pixels.test(batch), classes)

        run = jax.jit(run, compiler_options=layers.compiler_options())

        def call(view, offset, number):
            batch = {'image': view[None], 'offset': np.array([offset], np.int32)}
            return np.asarray(run(member.variables, batch, np.array([number])), np.float32)[0]

        return call

    programs = {name: program(function) for name, function in functions.items()}
    programs['gray square'] = lambda view, offset, number: slide(view, offset)[..., number]
    if 'deconvnet' in programs and member.pixels.channel_order == 'bgr':
        bgr = programs['deconvnet']
        programs['deconvnet'] = lambda *arguments: bgr(*arguments)[..., ::-1]
    return programs


# What is drawn


def _panels(row, view, offset, programs, names):
    """Return [(title, kind, array)] of the panels of an image, the first its view."""
    first, other = (pictures.short(names[number], _LONGEST) for number in row.classes[:2])
    panels = [(f'{first}  {100 * row.probabilities[0]:.0f}%', 'view', view)]
    for title, number in ((f'Grad-CAM: {first}', row.classes[0]), (f'Grad-CAM: {other}', row.classes[1])):
        panels.append((title, 'Grad-CAM', np.maximum(programs['Grad-CAM'](view, offset, number), 0)))
    titles = {'CAM': 'CAM', 'gray square': 'its probability under the square', 'deconvnet': 'deconvnet of its score'}
    for kind, title in titles.items():
        if kind in programs:
            panels.append((title, kind, programs[kind](view, offset, row.classes[0])))
    return panels


def _draw(rows, title):
    """Return the figure; call it inside `style.look`."""
    side = 3.0
    figure = style.figure(side * len(rows[0]), (side + 0.35) * len(rows) + 0.8)
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for line, panels in zip(axes, rows, strict=True):
        view = panels[0][2]
        height, width = view.shape[:2]
        extent = (0, width, height, 0)
        for panel, (text, kind, values) in zip(line, panels, strict=True):
            panel.axis('off')
            panel.set_title(text, fontsize=12)
            if kind == 'deconvnet':
                (values,) = filters.scaled(values[..., None])
                panel.imshow(values, cmap='gray', vmin=0, vmax=1, extent=extent)
                continue
            panel.imshow(view, cmap='gray', vmin=0, vmax=255, extent=extent)
            if kind != 'view':
                panel.imshow(values, extent=extent, interpolation='bilinear', alpha=0.6, **_colors(kind, values))
            panel.set(xlim=(0, width), ylim=(height, 0))
    figure.suptitle(title)
    return figure


def _colors(kind, values):
    """Return the colormap of a panel and its range."""
    largest = max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
    if kind == 'CAM':
        return {'cmap': 'RdBu_r', 'vmin': -largest, 'vmax': largest}
    return {'cmap': style.SURFACE, 'vmin': 0, 'vmax': largest}
