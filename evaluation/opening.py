"""Checkpoints with their networks, their weights on the devices, and the protocol that each is tested by."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax

import architectures
from architectures import layers
from configs import checkpoint as checkpoint_config
from evaluation import protocols, scoring
from input_pipeline import classes, datasets, statistics
from input_pipeline.pixels import Pixels
from runtime import mesh
from runtime.errors import UserError
from training import checkpoints
from training.run import build_model, check
from weights import passport

DATA = ('dataset', 'data_dir', 'labels', 'test_split', 'on_bad_image', 'workers', 'test_batch_size')


class Opened(NamedTuple):
    """A checkpoint, ready to be tested.

    Fields:
      member: see `scoring.Member`.
      where: the checkpoint's folder.
      step: its number.
      chosen: 'best', 'latest' or its step, where it was chosen so from a workdir; ''.
      card: its passport, or None.
    """

    member: scoring.Member
    where: Path
    step: int
    chosen: str
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

    Returns:
      An `Opened`.

    Raises:
      UserError: no such checkpoint, one that does not fit the config or the protocol, or converted weights that do not
        answer their probe image as their passport says.
    """
    check(config)
    protocols.create(protocol, trimmed)  # a wrong name is told before the weights are read
    model, shape = build_model(config), (config.image_size, config.image_size, config.channels)

    def of_this_recipe(where, info):
        _check_recipe(where, info, config, model)

    read = checkpoints.read_deployed(model, shape, checkpoint, which, of_this_recipe)
    variables = jax.device_put(read.variables, mesh.replicated(mesh.of_this_process()))
    workdir = read.where.parent.parent
    measured, card = statistics.of_run(config, workdir), passport.read(workdir)
    if card:
        own = checkpoint_config.get_config(str(workdir))
        passport.check(card, passport.answers(model, variables, Pixels(own, measured)), workdir)
    names = _class_names(read.info, card, workdir)
    member = scoring.Member(
        model, variables, config, protocols.create('single'), Pixels(config, measured), weight, names
    )
    return under(Opened(member, read.where, read.step, read.chosen, card), protocol, average, trimmed)


def _class_names(info, card, folder):
    """The names of a checkpoint's classes. An older version wrote none: of published weights the order is known."""
    if 'class_names' in info:
        return tuple(info['class_names'])
    if not card:
        return None
    return datasets.class_names(checkpoint_config.get_config(str(folder)).dataset, info['num_classes'], released=True)


def under(opened, protocol, average='', trimmed=False):
    """An opened checkpoint under another protocol; see `open_checkpoint`."""
    member = opened.member._replace(protocol=_protocol(opened.member.config, protocol, average, trimmed))
    _check_fits(member)
    return opened._replace(member=member)


def open_members(config, checkpoints, which='best', names=(), average='', trimmed=False, weights=()):
    """The members of an ensemble, or the only one; see `open_checkpoint`.

    Args:
      config: of the first checkpoint, and the data of all; the others have the config that lies with them.
      checkpoints, which: of each.
      names: of protocols: none ('single'), one for all, or one a checkpoint.
      average, trimmed: of all.
      weights: none (all weigh the same), or texts of numbers above 0, one a checkpoint.
    """
    members = len(checkpoints)
    if len(names) not in (0, 1, members):
        raise UserError(f'{len(names)} protocols for {members} checkpoints: pass one, or one a checkpoint')
    if weights and len(weights) != members:
        raise UserError(f'{len(weights)} weights for {members} checkpoints: pass one a checkpoint')
    names = names if len(names) == members else [*(names or ['single'])] * members
    weights = [_weight(text) for text in weights or ['1'] * members]
    opened = []
    for checkpoint, name, weight in zip(checkpoints, names, weights, strict=True):
        own = _beside(config, checkpoint) if opened else config
        opened.append(open_checkpoint(own, checkpoint, which, name, average, trimmed, weight))
        names, others = (entry.member.class_names for entry in (opened[0], opened[-1]))
        if names and others and not classes.same_classes(others, names):
            raise UserError(
                f'{checkpoint} has other classes than the first checkpoint: {classes.first_difference(names, others)}; '
                'an ensemble needs the same classes in the same order'
            )
    return opened


def _weight(text):
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float('inf'):
        raise UserError(f'--weights are numbers above 0, as in 2,1, not {text!r}')
    return weight


def _beside(config, checkpoint):
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


def fitting(member):
    """The protocols that a member's network can be tested by."""
    network = member.config.architecture
    return [
        name
        for name in protocols.names()
        if not _misfit(member._replace(protocol=protocols.create(name, network=network)))
    ]


def _protocol(config, name, average, trimmed):
    """The protocol of a name; 'single' is the one that this config's own view has a name for, where there is one."""
    made = protocols.create(name, trimmed, config.architecture)
    if name == 'single':
        made = _own_view(config) or made
    if average not in ('', 'softmax', 'logits'):
        raise UserError(f'--average is softmax or logits, not {average!r}')
    if average and average != made.average:
        made = made._replace(name=f'{made.name}+{average}', average=average)
    return made


def _own_view(config):
    """The protocol that 'single' is for a config: one that papers' tables know by a name, or None."""
    crop, size = config.test_crop, config.image_size
    view = datasets.find(config.dataset).view
    if crop.kind == 'none' and view:
        return protocols.create(view)
    if crop.kind != 'center' or crop.short_side[0] < size:
        return None
    for kind in ('', '_square', '_warped', f'_of_{crop.short_side[0]}'):
        name = f'single_{size}{kind}'
        known = protocols.create(name)
        (scale,) = known.scales
        if (scale.short_side, scale.square, scale.warp) == (crop.short_side[0], crop.square, crop.warp):
            return known
    return None


def _misfit(member):
    """Why the member's network cannot be tested by its protocol, or ''."""
    try:
        with layers.plain_forms():  # sooner traced
            scoring.check(member)
    except (UserError, TypeError, ValueError, ZeroDivisionError) as error:  # what a network raises of a shape
        return str(error).splitlines()[0]
    return ''


def _check_fits(member):
    """Raises UserError where the network cannot look at images so; it says which protocols do."""
    reason = _misfit(member)
    if reason:
        raise UserError(
            f'{member.protocol.name} does not fit {member.config.architecture} ({reason}); these do: '
            f'{", ".join(fitting(member))}'
        )


_TRAINING_ONLY = (  # options that change nothing of a trained network's answer
    'initializer', 'init_power', 'hidden_bias', 'dropout', 'dropout_first', 'auxiliary_dropout', 'auxiliary_heads',
    'auxiliary_window', 'group_size', 'frozen_norm', 'dtype', 'param_dtype', 'scan', 'remat', 'parent', 'name',
)  # fmt: skip


def _check_recipe(where, info, config, model):
    """Raises UserError where a checkpoint is of another network, or of a recipe whose network has the same shapes."""
    if info['architecture'] != config.architecture:
        raise UserError(
            f'{where} holds {info["architecture"]}, and the config names {config.architecture}; '
            'pass the config that made it'
        )
    theirs = architectures.create(info['architecture'], num_classes=info['num_classes'], **info['architecture_options'])
    for field in dataclasses.fields(model):
        there, here = getattr(theirs, field.name), getattr(model, field.name)
        if field.name not in _TRAINING_ONLY and there != here:
            raise UserError(
                f'{where} has {field.name}={there!r} and the config {here!r}: it is of another recipe; pass the config '
                'that made it'
            )
    for key, there in info.get('input', {}).items():
        here = getattr(config, key)
        if there != (list(here) if isinstance(here, tuple) else here):
            raise UserError(
                f'{where} was trained on images of {key}={there!r}, and the config has {here!r}: it is of another '
                'recipe; pass the config that made it'
            )
