"""The loss over a plane in weight space (Li et al., "Visualizing the Loss Landscape of Neural Nets", 2018)."""

import hashlib
import io
import json
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from matplotlib import colormaps, colors

from architectures import layers
from figures import style
from figures.inputs import open_several
from input_pipeline import classes, datasets, loader
from input_pipeline.progress import bar
from runtime import foreign, interrupts, mesh
from runtime.errors import UserError
from runtime.files import write_atomically
from training import losses, step
from weights import passport

_LOWEST, _HIGHEST = 1e-4, 1e4  # range of the drawn cross-entropy, in nats
_ONE_TWO_FIVE = [float(f'{digit}e{power}') for power in range(-4, 5) for digit in (1, 2, 5)]  # contour lines
_MAP = style.SURFACE


def make(out, config, checkpoint, step='best', split='', count=1000, points=21, span=1.0, seed=0):
    """Draw the loss around checkpoints as contours and as surfaces, all to the same scale.

    The losses are saved next to the figure, in `OUT.npz` (see `read`), after every row: the same command resumes an
    interrupted computation, and draws a finished one again.

    Args:
      out: path of the figure.
      config: config of the first checkpoint, whose data all use; see `figures.inputs.open_several`.
      checkpoint, step: see `figures.inputs.open_several`.
      split: split of the data; '' for the training split. Images are preprocessed as in a test.
      count: number of images, drawn at random from the split.
      points: points on a side of the grid; odd, so that its center is the checkpoint.
      span: the grid reaches from -span to span, in units of the filter norms.
      seed: seed of the two directions and of the choice of images.

    Raises:
      UserError: if a number is out of range, or `OUT.npz` is of another landscape.
    """
    if points < 3 or points % 2 == 0:
        raise UserError(f'--points must be odd and at least 3, so that the center is the checkpoint, not {points}')
    if count < 1 or not 0 < span < float('inf'):
        raise UserError(f'--count and --span must be above 0, not {count} and {span}')
    split = split or config.train_split
    networks = open_several(config, checkpoint, step)
    grid = mesh.of_this_process()
    values = Path(out).with_name(Path(out).name + '.npz')
    saved = _Saved(values, {'points': points, 'span': span, 'seed': seed})
    interrupts.advise('the same command resumes')
    surfaces = []
    for index, network in enumerate(networks):
        data = images(network.member, split, count, seed)
        surface = saved.surface(index, _identity(network, data), (points, points))
        _fill(surface, network, data, span, seed, grid, saved.save)
        surfaces.append(surface)
    number = int(data['mask'].sum())
    subtitle = f'{config.dataset}/{split}, {number:,} images\ntwo filter-normalized random directions (seed {seed})'
    _draw(out, [network.title for network in networks], surfaces, axis(points, span), subtitle)


# The plane


def direction(parameters, seed, number):
    """Draw a random, filter-normalized direction in weight space (section 4).

    Each of its filters is drawn from a Gaussian and scaled to the norm of the network's filter. A filter is the weights
    of one of the N outputs of a convolution [h, w, C, N] or a fully connected layer [C, N], or, with a connection
    table (LeNet-5), of one input of one map. For biases, and batch norm's scales and biases, the direction is 0, as in
    the paper's experiments.

    Args:
      parameters: tree of arrays.
      seed, number: seed and number of the draw.

    Returns:
      A tree like `parameters`.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, number]))

    def draw(weights):
        weights = np.asarray(weights)
        if weights.ndim < 2:
            return np.zeros_like(weights)
        drawn = generator.standard_normal(weights.shape, np.float32)
        return (drawn * (_norms(weights) / _norms(drawn))).astype(weights.dtype)

    return jax.tree.map(draw, parameters)


def _norms(weights):
    return np.sqrt(np.sum(np.square(weights, dtype=np.float64), tuple(range(weights.ndim - 1)), keepdims=True))


def axis(points, span):
    """Return the coordinates along a side of the grid, float32 [points]; the middle one is exactly 0."""
    half = points // 2
    return (span * np.arange(-half, half + 1) / half).astype(np.float32)


def images(member, split, count, seed):
    """Return random images of a split, preprocessed as in a test, as batches of `loader.stream`: a dict of [M, B, ...].

    Labels refer to the network's classes by name if the checkpoint has the names (`classes.known_names`).
    """
    config, names = member.config, member.class_names
    source = datasets.open_split(config, split, any_classes=names is not None)
    if names is not None:
        source = classes.relabel_to(source, names, 'the network', config.on_bad_image)
    count = min(count, len(source))
    batch_size = min(count, config.test_batch_size)
    indices = loader.example_order(0, count, len(source), seed)[0]

    def order(start, stop):
        numbers = np.concatenate([indices, np.full(batch_size, -1, np.int32)])[start:stop]
        return numbers, np.zeros(stop - start, np.int32)

    batches = loader.stream(
        source, member.pixels.test_form, order, -(-count // batch_size), batch_size,
        on_bad_image=config.on_bad_image, replace=False,
    )  # fmt: skip
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)


def losses_of(member, first, second, data, devices):
    """Return a function that computes the mean cross-entropy at points of the plane.

    The weights, the directions and the images are replicated, and the points are sharded over the devices. Batch norm's
    statistics are the checkpoint's at every point.

    Args:
      member: see `scoring.Member`.
      first, second: from `direction`.
      data: from `images`.
      devices: a mesh; the points are sharded over its axis 'data'.

    Returns:
      float32 [P, 2] points -> float32 [P] losses, compiled once for each P, a multiple of the devices.
    """

    def loss_at(place, variables, first, second, data):
        moved = jax.tree.map(lambda w, a, b: w + place[0] * a + place[1] * b, variables['params'], first, second)

        def of_batch(batch):
            return step.count_errors(
                {**variables, 'params': moved}, batch,
                model=member.model, loss=losses.cross_entropy, preprocess=member.pixels.test,
            )  # fmt: skip

        sums = lax.map(of_batch, data)
        return jnp.sum(sums['loss']) / jnp.sum(sums['count'])

    def of_shard(places, *rest):
        return lax.map(lambda place: loss_at(place, *rest), places)

    split, replicated = PartitionSpec('data'), PartitionSpec()
    in_specs = (split, replicated, replicated, replicated, replicated)
    sharded = jax.shard_map(of_shard, mesh=devices, in_specs=in_specs, out_specs=split, check_vma=False)
    program = jax.jit(sharded, compiler_options=layers.compiler_options())
    resident = jax.device_put((member.variables, first, second, data), mesh.replicated(devices))

    def evaluate(places):
        return np.asarray(
            program(jax.device_put(np.asarray(places, np.float32), mesh.batch_sharding(devices)), *resident)
        )

    return evaluate


def _fill(surface, network, data, span, seed, devices, save):
    """Compute the missing (NaN) losses of a surface [points, points] in place, calling `save` after each part."""
    where = axis(len(surface), span)
    points = np.stack(np.meshgrid(where, where, indexing='ij'), -1).reshape(-1, 2)
    values = surface.reshape(-1)
    missing = np.flatnonzero(np.isnan(values))
    if not len(missing):
        return
    parameters = network.member.variables['params']
    evaluate = losses_of(network.member, *(direction(parameters, seed, number) for number in (0, 1)), data, devices)
    part = devices.size * -(-len(surface) // devices.size)  # a row, rounded up to a multiple of the devices
    with bar(f'{network.member.config.architecture}, {len(values):,} points', len(values)) as progress:
        progress(len(values) - len(missing))
        for start in range(0, len(missing), part):
            numbers = missing[start : start + part]
            new = evaluate(points[np.resize(numbers, part)])[: len(numbers)]
            values[numbers] = np.where(np.isnan(new), np.inf, new)
            save()
            progress(len(numbers))


# The file of losses


class _Identity(msgspec.Struct):
    points: Annotated[int, msgspec.Meta(ge=3, le=10_000)]
    span: float
    seed: int
    networks: list[dict[str, str]]


def read(path):
    """Return the losses of a landscape from its file.

    Args:
      path: `OUT.npz` of the figure OUT.

    Returns:
      (identity, [surface of each checkpoint]): a dict that identifies the landscape, and float32 [points, points] whose
      first axis is the first direction; NaN if not computed yet, infinite if the loss was NaN.

    Raises:
      UserError: if it is not such a file.
    """
    kind, advice = 'the file of a landscape', 'remove it to start over'
    arrays = foreign.read_npz(path, kind, advice=advice)
    with foreign.parsing(path, kind, advice):
        identity = foreign.parse_json(str(arrays.pop('what')), dict, path, kind, advice)
        checked = msgspec.convert(identity, _Identity)
        surfaces = [arrays.pop(f'losses{index}') for index in range(len(checked.networks))]
        if arrays or any((x.shape, x.dtype) != ((checked.points,) * 2, np.float32) for x in surfaces):
            raise ValueError(f'it does not hold {checked.points} x {checked.points} losses of each network')
    return identity, surfaces


class _Saved:
    """The file of the surfaces; a file of another landscape is refused."""

    def __init__(self, path, identity):
        self.path, self.identity, self.surfaces = path, {**identity, 'networks': []}, []
        self.saved_networks, self.saved_surfaces = [], []
        if path.exists():
            saved, self.saved_surfaces = read(path)
            self._check(saved, identity)
            self.saved_networks = saved['networks']

    def _check(self, saved, identity):
        for key, value in identity.items():
            if saved.get(key) != value:
                raise UserError(
                    f'{self.path} is of another landscape: {key} was {saved.get(key)!r} and is now {value!r}; remove '
                    'the file to start over, or pass another --out'
                )

    def surface(self, index, network, shape):
        """Return the surface of a network; losses that are not saved are NaN."""
        surface = np.full(shape, np.nan, np.float32)
        if index < len(self.saved_surfaces):
            self._check(self.saved_networks[index], network)
            surface = self.saved_surfaces[index]
        self.identity['networks'].append(network)
        self.surfaces.append(surface)
        return surface

    def save(self):
        """Write all surfaces, including saved ones of networks that this run has not reached yet."""
        reached = len(self.surfaces)
        networks = self.identity['networks'] + self.saved_networks[reached:]
        surfaces = self.surfaces + self.saved_surfaces[reached:]
        file = io.BytesIO()
        arrays = {f'losses{index}': surface for index, surface in enumerate(surfaces)}
        np.savez(file, what=np.array(json.dumps({**self.identity, 'networks': networks})), **arrays)
        write_atomically(self.path, file.getvalue())


def _identity(network, data):
    """Return a dict that is equal for equal weights, images and pixels."""
    pixels = json.dumps(passport.pixels_of(network.member.config), sort_keys=True)
    return {
        'checkpoint': network.title,
        'weights': _digest(network.member.variables),
        'images': _digest({key: data[key] for key in ('image', 'label', 'offset', 'mask')}),
        'pixels': hashlib.sha256(pixels.encode()).hexdigest()[:16],
    }


def _digest(arrays):
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        sha.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return sha.hexdigest()[:16]


# Drawing


def _draw(out, titles, surfaces, where, subtitle):
    lowest = max(min(surface.min() for surface in surfaces), _LOWEST)
    highest = min(max(surface[np.isfinite(surface)].max(initial=lowest) for surface in surfaces), _HIGHEST)
    norm = colors.LogNorm(lowest, max(highest, 2 * lowest))
    lines = [value for value in _ONE_TWO_FIVE if norm.vmin < value < norm.vmax]
    rows = len(surfaces)
    with style.look():
        figure = style.figure(13, 1 + 5.3 * rows)
        figure.get_layout_engine().set(w_pad=0.15)
        title = 'one checkpoint' if rows == 1 else f'{rows} checkpoints, to the same scale'
        figure.suptitle(f'The loss around {title}: {subtitle}')
        for row, (title, surface) in enumerate(zip(titles, surfaces, strict=True)):
            shown = np.clip(surface, norm.vmin, norm.vmax).T  # the first direction is horizontal
            flat = figure.add_subplot(rows, 2, 2 * row + 1)
            filled = flat.contourf(where, where, shown, np.geomspace(norm.vmin, norm.vmax, 41), norm=norm, cmap=_MAP)
            contours = flat.contour(where, where, shown, lines, colors='white', linewidths=1)
            for text in flat.clabel(contours, fmt='%g', fontsize=11):
                if max(map(abs, text.get_position())) > 0.9 * where[-1]:
                    text.remove()  # it would be cut off
            flat.plot(0, 0, '+', color='white', markersize=12)
            ticks = np.linspace(where[0], where[-1], 5)
            flat.set(aspect='equal', xlabel='first direction', ylabel='second direction', xticks=ticks, yticks=ticks)
            flat.set_title(f'{title}\nloss {surface[len(surface) // 2, len(surface) // 2]:.3g} at the center')
            _solid(figure.add_subplot(rows, 2, 2 * row + 2, projection='3d'), where, shown, norm, lines)
        bar = figure.colorbar(filled, ax=figure.axes[1::2], shrink=0.6, pad=0.08, ticks=lines, format='%g')
        bar.ax.minorticks_off()
        bar.set_label('cross-entropy' + (f' (clipped at {_HIGHEST:g})' if highest == _HIGHEST else ''))
        style.save(figure, out)


def _solid(axes, where, shown, norm, lines):
    """Draw the surface; its height is the logarithm of the loss."""
    face_colors = colormaps[_MAP](norm(shown))
    axes.plot_surface(
        *np.meshgrid(where, where), np.log10(shown), facecolors=face_colors, rstride=1, cstride=1, shade=False
    )
    axes.plot_wireframe(
        *np.meshgrid(where, where), np.log10(shown), rcount=25, ccount=25, color='black', linewidth=0.3, alpha=0.5
    )
    axes.set_zlim(np.log10([norm.vmin, norm.vmax]))
    tens = [value for value in lines if np.log10(value) % 1 == 0] or lines
    axes.set_zticks(np.log10(tens), [f'{value:g}' for value in tens])
    axes.set_xticks([where[0], 0, where[-1]])
    axes.set_yticks([where[0], 0, where[-1]])
    axes.set(xlabel='first', ylabel='second')
    axes.view_init(30, -55)
    axes.set_box_aspect((1, 1, 0.75), zoom=1.15)
