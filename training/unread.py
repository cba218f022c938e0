"""Config keys without effect: which keys the values of others disable, and which key counts instead."""

from typing import NamedTuple

from input_pipeline import crops, datasets, statistics
from runtime.errors import UserError
from training.run import build_model

_IN_MEMORY = datasets.names_where(lambda data: data.in_memory)  # stored on the device, unless it is cropped


class _Rule(NamedTuple):
    """Keys that are read only for some values of another key.

    Fields:
      keys: keys of the config; 'crop.' stands for all keys in it.
      by: the other key.
      wanted: its values for which they are read, or a predicate on the value.
      instead: the key that counts for other values, if there is one.
    """

    keys: tuple
    by: str
    wanted: object
    instead: str = ''


def _is_on(value):
    return value not in ('', 'none', 0, False, ())


def _not(*values):
    return lambda value: value not in values


RULES = (
    _Rule(('learning_rates',), 'schedule', ('steps',), 'learning_rate'),
    _Rule(('learning_rate',), 'schedule', _not('steps'), 'learning_rates'),
    _Rule(('decay_every',), 'schedule', ('every', 'inverse'), 'learning_rates'),
    _Rule(('decay_factor',), 'schedule', ('every',)),
    _Rule(('decay_power',), 'schedule', ('polynomial', 'inverse')),
    _Rule(('plateau.',), 'schedule', ('plateau',)),
    _Rule(('warmup.until_error', 'warmup.steps'), 'warmup.learning_rate', _is_on),
    _Rule(('num_epochs',), 'steps', (0,), 'steps'),
    _Rule(('reference_batch_size',), 'scale_lr', (True,)),
    _Rule(('momentum',), 'optimizer', ('momentum', 'nesterov')),
    _Rule(('rate_inside',), 'optimizer', ('momentum', 'nesterov', 'rmsprop')),
    _Rule(('adagrad.',), 'optimizer', ('adagrad',)),
    _Rule(('rmsprop.',), 'optimizer', ('rmsprop',)),
    _Rule(('adam.',), 'optimizer', ('adam',)),
    _Rule(('sdlm_mu', 'sdlm_memory', 'sdlm_samples'), 'optimizer', ('sdlm',)),
    _Rule(('decayed',), 'weight_decay', _is_on),
    _Rule(('rubbish_penalty',), 'loss', ('discriminative_penalty',)),
    _Rule(('label_smoothing',), 'loss', ('cross_entropy',)),
    _Rule(('average_decay',), 'average', ('ema',)),
    _Rule(('average_start',), 'average', ('uniform',)),
    _Rule(('init_layers', 'init_input'), 'init_from', _is_on),
    _Rule(('distortion.',), 'distortion.versions', _not(1)),
    _Rule(('colour.jitter_strength',), 'colour.jitter', _is_on),
    _Rule(('colour.lighting_deviation',), 'colour.lighting', _is_on),
    _Rule(('colour.padding_mode',), 'colour.padding', _is_on),
    _Rule(('colour.mean_under_crop',), 'normalize', ('mean_image',)),
    _Rule(('pixel_range',), 'normalize', ('range',)),
    _Rule(('mean', 'std'), 'normalize', ('constant',)),
    _Rule(('channel_order',), 'channels', (3,)),
    _Rule(('data_dir',), 'dataset', _not(*datasets.names_where(lambda data: not data.data_dir))),
    _Rule(('labels',), 'dataset', datasets.names_where(lambda data: data.labels)),
    _Rule(('val_fraction',), 'dataset', ('folder',)),
    _Rule(('val_seed',), 'val_fraction', _is_on),
)


_OF_NETWORK = {  # key: the option of the network without which it has no effect
    'auxiliary_weight': 'auxiliary_heads',
    'recompute_batch_stats': 'batch_norm',
    'architecture_options.group_size': 'batch_norm',
}


def why(config, key):
    """Return why a key has no effect, such as "schedule='steps': learning_rates counts", or '' if it has one.

    Args:
      config: the config of a run.
      key: a key such as 'colour.flip'.
    """
    for by, wanted, instead in _rules_of(config, key):
        value = _value(config, by)
        if not (wanted(value) if callable(wanted) else value in wanted):
            return f'{by}={value!r}: ' + (f'{instead} counts' if instead else _when_read(by, wanted))
    if key in _OF_NETWORK and not getattr(build_model(config), _OF_NETWORK[key], False):
        return f'architecture={config.architecture!r}: it has no {_OF_NETWORK[key]}'
    return ''


def _when_read(by, wanted):
    """Describe the values of `by` for which a key is read."""
    if callable(wanted):
        return f'it is read with another {by}'
    return f'it is read with {by}={" or ".join(map(str, wanted))}'


def _rules_of(config, key):
    """Yield (deciding key, its values, key that counts instead) for each rule of a key."""
    for rule in RULES:
        if key in rule.keys or (key != rule.by and any(k.endswith('.') and key.startswith(k) for k in rule.keys)):
            yield rule[1:]
    crop, _, part = key.partition('.')
    if crop in ('crop', 'test_crop') and part not in ('', 'kind'):
        measured = part in ('square', 'warp', 'short_side') and statistics.needed(config)
        kinds = tuple(kind for kind, (_, keys) in crops.KINDS.items() if part in keys)
        if not measured and config[crop].kind in ('none', *crops.KINDS):
            yield f'{crop}.kind', kinds, ''
    cropped = [name for name in ('crop', 'test_crop') if config[name].kind != 'none']
    if key == 'fit' and len(cropped) == 2:
        yield 'crop.kind', ('none',), 'crop'
    if key == 'rate_inside' and config.optimizer == 'rmsprop':
        yield 'rmsprop.momentum', _is_on, ''
    if key == 'steps_per_dispatch':
        yield 'dataset', _IN_MEMORY, ''
        yield 'crop.kind', ('none',), ''
    if key in ('workers', 'on_bad_image') and not cropped:
        unread = datasets.names_where(lambda data: data.in_memory and (key == 'workers' or not data.image_folders))
        yield 'dataset', _not(*unread), ''
    if key == 'statistics' and not statistics.needed(config):
        yield 'normalize', statistics.MEASURED, ''


def _value(config, key):
    folder, _, name = key.rpartition('.')
    return (config[folder] if folder else config).get(name, False)


def refuse(config, typed, file_config=None, lines=None):
    """Raise UserError if a key that the user set has no effect.

    Args:
      config: the config of a run, or of a series, where a key must have an effect in at least one member.
      typed: {key: the argument that sets it}.
      file_config: the config returned by the user's own file, without command line arguments.
      lines: {key: the line that sets it} of that file; keys with an effect in `file_config` are accepted.
    """
    lines = {key: line for key, line in (lines or {}).items() if 'members' in file_config or why(file_config, key)}
    for key, setting in {**lines, **typed}.items():
        reasons = [why(member, inner) for member, inner in _members(config, key)]
        if reasons and all(reasons):
            raise UserError(f'{setting} has no effect with {reasons[0]}')


def _members(config, key):
    """Return [(config of a run, its key)] for the runs of a config that have the key."""
    if 'members' not in config:
        return [(config, key)]
    parts = key.split('.', 2)
    if parts[0] == 'members' and len(parts) == 3:
        return [(config.members[parts[1]], parts[2])]
    return [(member, key) for member in config.members.values() if parts[0] in member]
