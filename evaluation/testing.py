"""Checkpoints, one or several as an ensemble, tested by the papers' protocols: `open_checkpoint`, then `test`."""

import hashlib
import json
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from configs import checkpoint as checkpoint_config
from errors import UserError
from evaluation import check_recipe, label_sets, protocols, results, scoring
from input_pipeline import loader, recipe
from training import checkpoints, mesh
from training.run import build_model, check
from weights import passport

DATA = ('dataset', 'data_dir', 'labels', 'test_split', 'on_bad_image', 'workers', 'test_batch_size')


class Opened(NamedTuple):
    """A checkpoint, ready to be tested.

    Fields:
      member: see `scoring.Member`.
      where: the checkpoint's folder.
      step: its number.
      chosen: whether it was chosen from a workdir.
      card: its passport, or None.
    """

    member: scoring.Member
    where: Path
    step: int
    chosen: bool
    card: dict | None


def open_checkpoint(config, checkpoint, which='best', protocol='single', average='', trimmed=False, weight=1.0):
    """A checkpoint with its network, its weights on the devices, and how it is to look at images.

    Args:
      config: an ml_collections config with the keys of `configs/base.py`.
      checkpoint: a run's workdir, a converted checkpoint, or one checkpoint.
      which: of a workdir's checkpoints, 'best' (smallest test error seen in training), 'latest', or a step.
      protocol: see `protocols`.
      average: 'softmax' or 'logits' in place of the protocol's; '' for the protocol's.
      trimmed: see `protocols.create`.
      weight: in an ensemble.

    Raises:
      UserError: no such checkpoint, one that does not fit the config or the protocol, or converted weights that do not
        answer their probe image as their passport says.
    """
    check(config)
    made = _protocol(config, protocol, average, trimmed)
    folder, given = checkpoints.locate(checkpoint)
    model = build_model(config)
    shape = (1, config.image_size, config.image_size, config.channels)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, 'float32'))
    with checkpoints.Checkpoints(folder, read_only=True) as kept:
        step = kept.choose(which) if given is None else given
        where = Path(folder) / str(step)
        info = kept.info(step)
        if info['architecture'] != config.architecture:
            raise UserError(
                f'{where} holds {info["architecture"]}, and the config names {config.architecture}; '
                'pass the config that made it'
            )
        check_recipe(where, info, config, model)
        wanted = {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}
        restored = jax.device_put(kept.deployed_model(wanted, step), mesh.replicated(mesh.create(jax.device_count())))
    measured = recipe.statistics_of(config, Path(folder).parent)
    member = scoring.Member(model, restored, config, made, measured, weight)
    _check_fits(member)
    card = passport.read(Path(folder).parent)
    if card:
        own = checkpoint_config.get_config(str(Path(folder).parent))
        passport.check(card, passport.answers(model, restored, own, measured), Path(folder).parent)
    return Opened(member, where, step, given is None, card)


def beside(config, checkpoint):
    """The config that lies with a further member of an ensemble, its data those of the first."""
    try:
        own = checkpoint_config.get_config(str(checkpoint))
    except ValueError as error:
        raise UserError(str(error)) from None
    if own.num_classes != config.num_classes:
        raise UserError(f'{checkpoint} has {own.num_classes} classes, and the first checkpoint {config.num_classes}')
    for key in DATA:
        own[key] = config[key]
    return own


def test(config, *opened, labels='', partial='', resume=False, progress=None):
    """Tests a checkpoint, or several as an ensemble, on the config's test split, every image counted exactly once.

    Args:
      config: whose data it is: the first checkpoint's.
      *opened: of `open_checkpoint`.
      labels: see `label_sets.create`.
      partial: a file for the rows that are done, so that an interrupted evaluation can go on; '' for none.
      resume: whether it may go on from that file.
      progress: called with 1 for each image that is done.

    Returns:
      (result, rows, the split's class names). The result has the keys of `results.summary` and 'protocol', 'average',
      'checkpoint', 'step', 'chosen', 'passport' (lists in an ensemble), 'labels', 'seconds', 'images_per_second',
      'compiled' (how many sizes of images), 'evaluated' (images this time).

    Raises:
      UserError: an image that cannot be read, unless `config.on_bad_image` is 'skip': then it counts as wrong; what
        the partial file holds is of another evaluation.
    """
    source = recipe.open_split(config, config.test_split, any_classes=bool(labels))
    chosen = label_sets.create(labels, source, config.num_classes)
    members = [entry.member for entry in opened]
    grid = mesh.create(jax.device_count())
    dense_batch = 1 if jax.default_backend() == 'cpu' else 8
    scorer = scoring.Scorer(
        members, grid.size, config.test_batch_size, lambda batch: jax.device_put(batch, mesh.batched(grid)), dense_batch
    )
    began = time.perf_counter()

    def rows_of(numbers):
        examples = loader.map_images(
            source, scorer.items, max(m.config.channels for m in members), config.on_bad_image, numbers=numbers
        )
        for example, probabilities in scorer.probabilities(examples):
            index = example['index']
            yield results.row(
                index,
                example['name'],
                chosen.label(example['label']) if example['label'] >= 0 else -1,
                label_sets.chosen(probabilities, chosen.classes),
                chosen.accepted(index) if chosen.accepted else None,
            )
            if progress:
                progress(1)

    done = []
    if partial:
        with results.Partial(partial, _what(config, opened, source, labels), resume) as kept:
            done = kept.rows
            had = {row.index for row in done}
            numbers = [number for number in range(len(source)) if number not in had]
            if progress:
                progress(len(had))
            for row in rows_of(numbers):
                kept.add(row)
    else:
        numbers = range(len(source))
        done = list(rows_of(None))
    seconds = time.perf_counter() - began
    names = source.class_names
    single = len(opened) == 1

    def each(values):
        values = list(values)
        return values[0] if single else values

    result = results.summary(done) | {
        'protocol': each(m.protocol.name for m in members),
        'average': each(m.protocol.average for m in members),
        'labels': chosen.name,
        'step': each(entry.step for entry in opened),
        'chosen': each(entry.chosen for entry in opened),
        'checkpoint': each(str(entry.where) for entry in opened),
        'passport': each(entry.card for entry in opened),
        'seconds': seconds,
        'evaluated': len(numbers),
        'images_per_second': len(numbers) / seconds,
        'compiled': len(scorer.programs),
    }
    return result, sorted(done), names


def _protocol(config, name, average, trimmed):
    """The protocol of a name, 'single' under the name that it has for this config."""
    made = protocols.create(name, trimmed)
    crop, size = config.test_crop, config.image_size
    if name == 'single' and crop.kind == 'center' and not crop.warp:
        for known in ('single_224', f'single_{size}_square', f'single_{size}_of_{crop.short_side[0]}'):
            scale = protocols.create(known).scales[0]
            if (scale.short_side, scale.square, protocols.create(known).size) == (
                crop.short_side[0],
                crop.square,
                size,
            ):
                made = made._replace(name=known, what=protocols.create(known).what)
                break
    elif name == 'single' and config.dataset in ('cifar10', 'mnist') and crop.kind == 'none':
        made = made._replace(name=f'{config.dataset.rstrip("10")}_single')
    if average:
        if average not in ('softmax', 'logits'):
            raise UserError(f'--average is softmax or logits, not {average!r}')
        if average != made.average:
            made = made._replace(name=f'{made.name}+{average}', average=average)
    return made


def fitting(member):
    """The protocols that a member's network can be tested by."""
    found = []
    for name in protocols.names():
        try:
            scoring.check(member._replace(protocol=protocols.create(name)))
        except (UserError, TypeError, ValueError, ZeroDivisionError):
            continue
        found.append(name)
    return found


def _check_fits(member):
    """Raises UserError where the network cannot look at images so; it says which protocols do."""
    try:
        scoring.check(member)
    except (UserError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = str(error).splitlines()[0]
        known = ', '.join(fitting(member))
        raise UserError(
            f'{member.protocol.name} does not fit {member.config.architecture} ({reason}); these do: {known}'
        ) from None


def _what(config, opened, source, labels):
    """What an evaluation is of: equal for equal checkpoints, data and protocols."""
    return {
        'checkpoints': [str(entry.where) for entry in opened],
        'parameters': [_digest(entry.member.variables) for entry in opened],
        'protocols': [entry.member.protocol.name for entry in opened],
        'average': [entry.member.protocol.average for entry in opened],
        'weights': [entry.member.weight for entry in opened],
        'pixels': [json.dumps(passport.pixels_of(entry.member.config), sort_keys=True) for entry in opened],
        'data': f'{config.dataset} {config.data_dir} {config.test_split}',
        'images': len(source),
        'labels': labels,
    }


def _digest(variables):
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()
