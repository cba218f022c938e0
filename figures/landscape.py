"""The loss over a plane of the weights' space (Li et al., "Visualizing the Loss Landscape of Neural Nets", 2018)."""

import hashlib
import io
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec
from matplotlib import colormaps, colors

from architectures import layers
from figures import style
from figures.opened import open_several
from input_pipeline import classes, datasets, loader
from input_pipeline.progress import bar
from runtime import mesh
from runtime.errors import UserError
from runtime.files import write_atomically
from training import losses, metrics
from weights import passport

_LOWEST, _HIGHEST = 1e-4, 1e4  # of what is drawn, cross-entropy in nats
_ONE_TWO_FIVE = [float(f'{digit}e{power}') for power in range(-4, 5) for digit in (1, 2, 5)]  # where lines are drawn
_MAP = style.SURFACE


def make(out, config, checkpoint, step='best', split='', count=1000, points=21, span=1.0, seed=0):
    """Draws the loss around checkpoints as contours and as surfaces, all to the same scale.

    The numbers lie beside the figure, in `OUT.npz` (`read`), which is written after every row: the same command goes on
    where an interrupted one ended, and draws a finished one again.

    Args:
      out: the file.
      config: of the first checkpoint, and the data of all; see `figures.opened.open_several`.
      checkpoint, step: see `figures.opened.open_several`.
      split: of the config's data; '' is the one it was trained on. Images are seen as a test sees them.
      count: of the split's images, drawn at random.
      points: a side of the grid; odd, so that its centre is the checkpoint.
      span: the grid reaches from -span to span, in lengths of the filters.
      seed: of the two directions and of the choice of images.

    Raises:
      UserError: numbers out of range, or `OUT.npz` is of another landscape.
    """
    if points < 3 or points % 2 == 0:
        raise UserError(f'--points must be odd and at least 3, so that the centre is the checkpoint, not {points}')
    if count < 1 or not 0 < span < float('inf'):
        raise UserError(f'--count and --span must be above 0, not {count} and {span}')
    split = split or config.train_split
    opened = open_several(config, checkpoint, step)
    grid = mesh.of_this_process()
    values = Path(out).with_name(Path(out).name + '.npz')
    kept = _Kept(values, {'points': points, 'span': span, 'seed': seed})
    surfaces = []
    for place, one in enumerate(opened):
        data = images(one.member, split, count, seed)
        surface = kept.surface(place, _what(one, data), (points, points))
        _fill(surface, one, data, span, seed, grid, kept.save)
        surfaces.append(surface)
    number = int(data['mask'].sum())
    of = f'{config.dataset}/{split}, {number:,} images\ntwo filter-normalised random directions (seed {seed})'
    _draw(out, [one.title for one in opened], surfaces, axis(points, span), of)


# The plane


def direction(parameters, seed, number):
    """A random direction in the space of the weights, filter-normalised (section 4).

    Each filter of it is drawn from a Gaussian and has the norm of the network's own filter: of a convolution
    [h, w, C, N] or a fully connected layer [C, N] the weights of one of the N outputs; of a partial table (LeNet-5)
    those of one input of one map. Biases, and batch norm's scales and biases, stay: they are 0 in it, as in the
    paper's experiments.

    Args:
      parameters: tree of arrays.
      seed, number: of the draw.

    Returns:
      A tree like `parameters`.
    """
    draws = np.random.Generator(np.random.Philox(key=[seed, number]))

    def of(weights):
        weights = np.asarray(weights)
        if weights.ndim < 2:
            return np.zeros_like(weights)
        drawn = draws.standard_normal(weights.shape, np.float32)
        return (drawn * (_norms(weights) / _norms(drawn))).astype(weights.dtype)

    return jax.tree.map(of, parameters)


def _norms(weights):
    return np.sqrt(np.sum(np.square(weights, dtype=np.float64), tuple(range(weights.ndim - 1)), keepdims=True))


def axis(points, span):
    """The places along a side of the grid, float32 [points]; the middle one is 0 exactly."""
    half = points // 2
    return (span * np.arange(-half, half + 1) / half).astype(np.float32)


def images(member, split, count, seed):
    """Images of a split drawn at random, as a test sees them, in batches of `loader.stream`: a dict of [M, B, ...].

    Their labels count in the names of the network's classes, where these are told (`classes.known_names`).
    """
    config, names = member.config, member.class_names
    source = datasets.open_split(config, split, any_classes=names is not None)
    if names is not None:
        source = classes.relabel_to(source, names, 'the network', config.on_bad_image)
    count = min(count, len(source))
    batch_size = min(count, config.test_batch_size)
    chosen = loader.example_order(0, count, len(source), seed)[0]

    def order(start, stop):
        numbers = np.concatenate([chosen, np.full(batch_size, -1, np.int32)])[start:stop]
        return numbers, np.zeros(stop - start, np.int32)

    batches = loader.stream(
        source, member.pixels.test_form, order, -(-count // batch_size), batch_size,
        on_bad_image=config.on_bad_image, replace=False,
    )  # fmt: skip
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)


def losses_of(member, first, second, data, devices):
    """The mean cross-entropy at places of the plane, as a function of the places.

    Each device has the weights, the directions and the images, and takes its own part of the places. Batch norm's
    statistics are the checkpoint's, wherever the weights are.

    Args:
      member: see `scoring.Member`.
      first, second: of `direction`.
      data: of `images`.
      devices: a mesh, whose axis 'data' the places are cut over.

    Returns:
      float32 [P, 2] places -> float32 [P] losses. It is compiled once for each P, a multiple of the devices.
    """

    def at(place, variables, first, second, data):
        moved = jax.tree.map(lambda w, a, b: w + place[0] * a + place[1] * b, variables['params'], first, second)

        def of_batch(batch):
            return metrics.count_errors(
                {**variables, 'params': moved}, batch,
                model=member.model, loss=losses.cross_entropy, preprocess=member.pixels.test,
            )  # fmt: skip

        sums = lax.map(of_batch, data)
        return jnp.sum(sums['loss']) / jnp.sum(sums['count'])

    def own(places, *rest):
        return lax.map(lambda place: at(place, *rest), places)

    cut, whole = PartitionSpec('data'), PartitionSpec()
    sharded = jax.shard_map(
        own, mesh=devices, in_specs=(cut, whole, whole, whole, whole), out_specs=cut, check_vma=False
    )
    program = jax.jit(sharded, compiler_options=layers.compiler_options())
    resident = jax.device_put((member.variables, first, second, data), mesh.replicated(devices))

    def evaluate(places):
        return np.asarray(
            program(jax.device_put(np.asarray(places, np.float32), mesh.batch_sharding(devices)), *resident)
        )

    return evaluate


def _fill(surface, one, data, span, seed, devices, save):
    """Evaluates what of a surface [points, points] is not a number yet, in place; `save` is called after each part."""
    where = axis(len(surface), span)
    every = np.stack(np.meshgrid(where, where, indexing='ij'), -1).reshape(-1, 2)
    values = surface.reshape(-1)
    missing = np.flatnonzero(np.isnan(values))
    if not len(missing):
        return
    parameters = one.member.variables['params']
    evaluate = losses_of(one.member, *(direction(parameters, seed, number) for number in (0, 1)), data, devices)
    part = devices.size * -(-len(surface) // devices.size)  # a row, a whole number of points a device
    with bar(f'{one.member.config.architecture}, {len(values):,} points', len(values)) as progress:
        progress(len(values) - len(missing))
        for start in range(0, len(missing), part):
            numbers = missing[start : start + part]
            found = evaluate(every[np.resize(numbers, part)])[: len(numbers)]
            values[numbers] = np.where(np.isnan(found), np.inf, found)
            save()
            progress(len(numbers))


# The numbers


def read(path):
    """The numbers of a drawn landscape.

    Args:
      path: `OUT.npz` of the figure OUT.

    Returns:
      (what, [surface of each checkpoint]): a dict that says what they are of, and float32 [points, points], whose first
      axis is the first direction; NaN where it was interrupted, infinite where the loss is no number.

    Raises:
      UserError: it is no such file.
    """
    try:
        with np.load(path) as file:
            what = json.loads(str(file['what']))
            return what, [file[f'losses{place}'] for place in range(len(what['networks']))]
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f'{path} holds no landscape of ours ({type(error).__name__}): remove it') from None


class _Kept:
    """The surfaces in their file; one that is of something else is not gone on with."""

    def __init__(self, path, what):
        self.path, self.what, self.surfaces, self.had = path, {**what, 'networks': []}, [], []
        if path.exists():
            there, self.had = read(path)
            self._same(there, what)
            self.networks = there['networks']

    def _same(self, there, here):
        for key, value in here.items():
            if there.get(key) != value:
                raise UserError(
                    f'{self.path} is of another landscape: {key} was {there.get(key)!r} and is {value!r}; remove it to '
                    'begin anew, or draw to another --out'
                )

    def surface(self, place, what, shape):
        """The surface of a network, as far as it is known; the rest is NaN."""
        surface = np.full(shape, np.nan, np.float32)
        if place < len(self.had):
            self._same(self.networks[place], what)
            surface = self.had[place]
        self.what['networks'].append(what)
        self.surfaces.append(surface)
        return surface

    def save(self):
        """Writes all there is."""
        rest = range(len(self.surfaces), len(self.had))  # of networks that are not come to yet
        networks = self.what['networks'] + [self.networks[place] for place in rest]
        surfaces = self.surfaces + [self.had[place] for place in rest]
        file = io.BytesIO()
        arrays = {f'losses{place}': surface for place, surface in enumerate(surfaces)}
        np.savez(file, what=np.array(json.dumps({**self.what, 'networks': networks})), **arrays)
        write_atomically(self.path, file.getvalue())


def _what(one, data):
    """What a surface is of besides the plane: equal for equal weights, images and pixels."""
    pixels = json.dumps(passport.pixels_of(one.member.config), sort_keys=True)
    return {
        'checkpoint': one.title,
        'weights': _digest(one.member.variables),
        'images': _digest({key: data[key] for key in ('image', 'label', 'offset', 'mask')}),
        'pixels': hashlib.sha256(pixels.encode()).hexdigest()[:16],
    }


def _digest(arrays):
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        sha.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    return sha.hexdigest()[:16]


# The picture


def _draw(out, titles, surfaces, where, of):
    lowest = max(min(surface.min() for surface in surfaces), _LOWEST)
    highest = min(max(surface[np.isfinite(surface)].max(initial=lowest) for surface in surfaces), _HIGHEST)
    norm = colors.LogNorm(lowest, max(highest, 2 * lowest))
    lines = [value for value in _ONE_TWO_FIVE if norm.vmin < value < norm.vmax]
    rows = len(surfaces)
    with style.look():
        made = style.figure(13, 1 + 5.3 * rows)
        made.get_layout_engine().set(w_pad=0.15)
        whose = 'one checkpoint' if rows == 1 else f'{rows} checkpoints, to the same scale'
        made.suptitle(f'The loss around {whose}: {of}')
        for row, (title, surface) in enumerate(zip(titles, surfaces, strict=True)):
            shown = np.clip(surface, norm.vmin, norm.vmax).T  # the first direction to the right
            flat = made.add_subplot(rows, 2, 2 * row + 1)
            filled = flat.contourf(where, where, shown, np.geomspace(norm.vmin, norm.vmax, 41), norm=norm, cmap=_MAP)
            named = flat.contour(where, where, shown, lines, colors='white', linewidths=1)
            for text in flat.clabel(named, fmt='%g', fontsize=11):
                if max(map(abs, text.get_position())) > 0.9 * where[-1]:
                    text.remove()  # half of it would be cut off
            flat.plot(0, 0, '+', color='white', markersize=12)
            ticks = np.linspace(where[0], where[-1], 5)
            flat.set(aspect='equal', xlabel='first direction', ylabel='second direction', xticks=ticks, yticks=ticks)
            flat.set_title(f'{title}\nloss {surface[len(surface) // 2, len(surface) // 2]:.3g} at the centre')
            _solid(made.add_subplot(rows, 2, 2 * row + 2, projection='3d'), where, shown, norm, lines)
        bar = made.colorbar(filled, ax=made.axes[1::2], shrink=0.6, pad=0.08, ticks=lines, format='%g')
        bar.ax.minorticks_off()
        bar.set_label('cross-entropy' + (f' (higher is drawn as {_HIGHEST:g})' if highest == _HIGHEST else ''))
        style.save(made, out)


def _solid(axes, where, shown, norm, lines):
    """The surface itself; its height is the logarithm of the loss."""
    colours = colormaps[_MAP](norm(shown))
    axes.plot_surface(
        *np.meshgrid(where, where), np.log10(shown), facecolors=colours, rstride=1, cstride=1, shade=False
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
