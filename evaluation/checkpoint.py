"""Open checkpoints: the network, its weights on the devices, and the protocol to test it with."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax

import architectures
from architectures import layers
from evaluation import protocols, scoring
from input_pipeline import classes, datasets, statistics
from input_pipeline.pixels import Pixels
from runtime import mesh, stored_config
from runtime.errors import UserError
from training import checkpoints
from training.run import build_model, check
from weights import passport

DATA = (
    'dataset', 'data_dir', 'labels', 'test_split', 'val_fraction', 'val_seed', 'on_bad_image', 'workers',
    'test_batch_size',
)  # fmt: skip


class Checkpoint(NamedTuple):
    """A checkpoint that is ready for testing.

    Fields:
      member: see `scoring.Member`.
      where: the checkpoint's folder.
      step: the training step it was saved at.
      chosen: how it was chosen from a workdir: 'best', 'latest' or its step; '' if the path names one checkpoint.
      card: its passport, or None.
    """

    member: scoring.Member
    where: Path
    step: int
    chosen: str
    card: dict | None


def open_checkpoint(config, checkpoint, which='best', protocol='single', average='', trimmed=False, weight=1.0):
    """Open a checkpoint: build its network, put its weights on the devices and choose its protocol.

    Args:
      config: an ml_collections config with the keys of `configs/base.py`.
      checkpoint: path of a run's workdir, a converted checkpoint, or a single checkpoint.
      which: which checkpoint of a workdir: 'best' (smallest test error during training), 'latest', or a step.
      protocol: see `protocols`.
      average: 'softmax' or 'logits', replacing the protocol's own; '' keeps it.
      trimmed: see `protocols.create`.
      weight: weight in an ensemble.

    Returns:
      A `Checkpoint`.

    Raises:
      UserError: if there is no such checkpoint, it does not fit the config or the protocol, or converted weights give
        other outputs for the probe image than their passport records.
    """
    check(config)
    protocols.create(protocol, trimmed)  # report a wrong name before reading the weights
    model, shape = build_model(config), (config.image_size, config.image_size, config.channels)

    def check_recipe(where, info):
        _check_recipe(where, info, config, model)

    saved = checkpoints.read_deployed(model, shape, checkpoint, which, check_recipe)
    variables = jax.device_put(saved.variables, mesh.replicated(mesh.of_this_process()))
    workdir = saved.where.parent.parent
    measured, card = statistics.of_run(config, workdir), passport.read(workdir)
    if card:
        saved_config = stored_config.get_config(str(workdir))
        passport.check(card, passport.answers(model, variables, Pixels(saved_config, measured)), workdir)
    names = _class_names(saved.info, card, workdir)
    member = scoring.Member(
        model, variables, config, protocols.create('single'), Pixels(config, measured), weight, names
    )
    return with_protocol(Checkpoint(member, saved.where, saved.step, saved.chosen, card), protocol, average, trimmed)


def _class_names(info, card, folder):
    """Return the names of a checkpoint's classes, or None if unknown.

    Older versions did not save them; for published weights the order is known.
    """
    if 'class_names' in info:
        return tuple(info['class_names'])
    if not card:
        return None
    return datasets.class_names(stored_config.get_config(str(folder)).dataset, info['num_classes'], released=True)


def with_protocol(checkpoint, protocol, average='', trimmed=False):
    """Return a `Checkpoint` with another protocol; see `open_checkpoint` for the arguments."""
    member = checkpoint.member._replace(protocol=_protocol(checkpoint.member.config, protocol, average, trimmed))
    _check_fits(member)
    return checkpoint._replace(member=member)


def open_members(config, paths, which='best', names=(), average='', trimmed=False, weights=()):
    """Open the members of an ensemble, or a single checkpoint; see `open_checkpoint`.

    Args:
      config: config of the first checkpoint, whose data all members use; each further member uses the config that is
        stored with it.
      paths: paths of the checkpoints.
      which: which checkpoint of each path that is a workdir.
      names: names of protocols: none ('single'), one for all, or one per checkpoint.
      average, trimmed: applied to all.
      weights: none (equal weights), or one positive number per checkpoint, as text.

    Returns:
      A list of `Checkpoint`.
    """
    count = len(paths)
    if len(names) not in (0, 1, count):
        raise UserError(f'{len(names)} protocols for {count} checkpoints: pass one, or one per checkpoint')
    if weights and len(weights) != count:
        raise UserError(f'{len(weights)} weights for {count} checkpoints: pass one per checkpoint')
    names = names if len(names) == count else [*(names or ['single'])] * count
    weights = [_weight(text) for text in weights or ['1'] * count]
    members = []
    for path, name, weight in zip(paths, names, weights, strict=True):
        member_config = _member_config(config, path) if members else config
        members.append(open_checkpoint(member_config, path, which, name, average, trimmed, weight))
        first, last = (checkpoint.member.class_names for checkpoint in (members[0], members[-1]))
        if first and last and not classes.same_classes(last, first):
            raise UserError(
                f'{path} has other classes than the first checkpoint: {classes.first_difference(first, last)}; '
                'an ensemble needs the same classes in the same order'
            )
    return members


def _weight(text):
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float('inf'):
        raise UserError(f'--weights must be positive numbers, as in 2,1, not {text!r}')
    return weight


def _member_config(config, path):
    """Return the config stored with a further member of an ensemble, with the data of the first member."""
    try:
        member_config = stored_config.get_config(str(path))
    except ValueError as error:
        raise UserError(str(error)) from None
    if member_config.num_classes != config.num_classes:
        raise UserError(
            f'{path} has {member_config.num_classes} classes, and the first checkpoint {config.num_classes}'
        )
    for key in DATA:
        member_config[key] = config[key]
    return member_config


def fitting(member):
    """Return the names of the protocols that a member's network can be tested with."""
    network = member.config.architecture
    return [
        name
        for name in protocols.names()
        if not _misfit(member._replace(protocol=protocols.create(name, network=network)))
    ]


def view_of(config, name):
    """Return the name of a protocol; if images are crops already, 'single' is the one that sees them whole."""
    is_whole = name == 'single' and datasets.find(config.dataset).is_cropped
    return f'single_{config.image_size}_of_{config.image_size}' if is_whole else name


def _protocol(config, name, average, trimmed):
    """Return the named protocol; for 'single', the one that equals the config's own view, if there is one."""
    name = view_of(config, name)
    protocol = protocols.create(name, trimmed, config.architecture)
    if name == 'single':
        protocol = _own_view(config) or protocol
    if average not in ('', 'softmax', 'logits'):
        raise UserError(f'--average must be softmax or logits, not {average!r}')
    if average and average != protocol.average:
        protocol = protocol._replace(name=f'{protocol.name}+{average}', average=average)
    return protocol


def _own_view(config):
    """Return the protocol, as the papers' tables name it, that equals a config's own view; None if there is none."""
    crop, size = config.test_crop, config.image_size
    view = datasets.find(config.dataset).view
    if crop.kind == 'none' and view:
        return protocols.create(view)
    if crop.kind != 'center' or crop.short_side[0] < size:
        return None
    for kind in ('', '_square', '_warped', f'_of_{crop.short_side[0]}'):
        name = f'single_{size}{kind}'
        protocol = protocols.create(name)
        (scale,) = protocol.scales
        if (scale.short_side, scale.square, scale.warp) == (crop.short_side[0], crop.square, crop.warp):
            return protocol
    return None


def _misfit(member):
    """Return why the member's network cannot be tested with its protocol, or '' if it can."""
    try:
        with layers.plain_forms():  # faster to trace
            scoring.check(member)
    except (UserError, TypeError, ValueError, ZeroDivisionError) as error:  # raised by a network for a wrong shape
        return str(error).splitlines()[0]
    return ''


def _check_fits(member):
    """Raise UserError, listing the protocols that fit, if the network cannot be tested with the member's protocol."""
    reason = _misfit(member)
    if reason:
        raise UserError(
            f'{member.protocol.name} does not fit {member.config.architecture} ({reason}); these fit: '
            f'{", ".join(fitting(member))}'
        )


_TRAINING_ONLY = (  # options that do not change the output of a trained network
    'initializer', 'init_power', 'hidden_bias', 'dropout', 'dropout_first', 'auxiliary_dropout', 'auxiliary_heads',
    'auxiliary_window', 'group_size', 'frozen_norm', 'dtype', 'param_dtype', 'scan', 'remat', 'parent', 'name',
)  # fmt: skip


def _check_recipe(where, info, config, model):
    """Raise UserError if a checkpoint is of another network, or of a recipe whose weights have the same shapes."""
    if info['architecture'] != config.architecture:
        raise UserError(
            f'{where} holds {info["architecture"]}, and the config names {config.architecture}; leave out --config to '
            'use its own'
        )
    saved_model = architectures.create(
        info['architecture'], num_classes=info['num_classes'], **info['architecture_options']
    )
    for field in dataclasses.fields(model):
        saved, expected = getattr(saved_model, field.name), getattr(model, field.name)
        if field.name not in _TRAINING_ONLY and saved != expected:
            raise UserError(
                f'{where} has {field.name}={saved!r} and the config {expected!r}: it is of another recipe; '
                'leave out --config to use its own'
            )
    for key, saved in info.get('input', {}).items():
        expected = getattr(config, key)
        if saved != (list(expected) if isinstance(expected, tuple) else expected):
            raise UserError(
                f'{where} was trained on images with {key}={saved!r}, and the config has {expected!r}: it is of '
                'another recipe; leave out --config to use its own'
            )
