"""The list of recipes, and resolved configs as text."""

import difflib
import functools
import importlib
import operator
from pathlib import Path

from configs import base, variants

# Files of this folder that are not recipes.
SHARED = '__init__', '__main__', 'base', 'cifar', 'fb', 'imagenet', 'listing', 'series', 'variants'


def names():
    """Return the names of the recipes, sorted."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob('*.py') if path.stem not in SHARED))


def load(name_and_variant):
    """Return the config of 'NAME' or 'NAME:VARIANT'.

    Raises:
      ValueError: the recipe or variant is unknown.
    """
    name, _, variant = name_and_variant.partition(':')
    return _module(name).get_config(variant)


def _module(name):
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        close = f', did you mean {close[0]}?' if close else '.'
        raise ValueError(f'no recipe {name!r}{close} `python -m configs` lists them.')
    return importlib.import_module(f'configs.{name}')


def docstring(name):
    """Return the docstring of a recipe."""
    return _module(name).__doc__


def title(name):
    """Return the first line of a recipe's docstring."""
    return docstring(name).splitlines()[0]


def variants_of(name):
    """Return the names of a recipe's variants, without those of `folder=`; those that take a value end with '='."""
    try:
        _module(name).get_config('?')
    except variants.UnknownVariant as error:
        return tuple(key for key in error.known if key not in variants.OF_FOLDER)
    raise AssertionError(f'{name} accepts unknown variants')


def golden():
    """Return {golden file: 'NAME:VARIANT'}: all recipes, their special variants, and CIFAR-10 once per family."""
    files = {}
    for name in names():
        special = [
            key for key in variants_of(name) if key == 'fixed' or not (key in variants.GENERAL or key.endswith('='))
        ]
        small = ['cifar10'] if hasattr(_module(name), 'recipe') else []
        for variant in ('', *special, *small):
            files[f'{name}_{variant}.txt' if variant else f'{name}.txt'] = f'{name}:{variant}'
    return files


def text(config):
    """Format a resolved config with one sorted line per key: `crop.kind: 'random'`."""
    return _lines({key: repr(value) for key, value in base.flat(config).items()})


def golden_texts():
    """Return {golden file: text}; each text has the differences to another, so that a fact is in one place.

    The base has all its keys, a recipe those that differ from the base, and a variant those that differ from its
    recipe. `unset` is an option that only the other config has. A series has its members' differences from the base, a
    variant of it those from the recipe's members of the same name; `members.*` is what they have in common.
    """
    texts = {'base.txt': text(base.get_config())}
    for file, name in golden().items():
        recipe, _, variant = name.partition(':')
        texts[file] = _lines(_differences(load(name), load(recipe) if variant else None))
    return texts


def _differences(config, recipe):
    """Return {key: text} of the differences of a config from its recipe, or from the base if that is None."""
    if 'members' not in config:
        return _changes(config, recipe or base.get_config())
    others = recipe.members if recipe else {}
    members = {name: _changes(member, others.get(name, base.get_config())) for name, member in config.members.items()}
    common = functools.reduce(operator.and_, (member.items() for member in members.values()))
    keys = {f'members.*.{key}': value for key, value in common}
    for name, member in members.items():
        keys |= {f'members.{name}.{key}': value for key, value in member.items() - common}
    config, recipe = ({key: each[key] for key in each if key != 'members'} for each in (config, recipe or {}))
    return keys | _changes(config, recipe)


def _changes(config, other):
    config, other = ({key: repr(value) for key, value in base.flat(each).items()} for each in (config, other))
    unset = {key: 'unset' for key in other.keys() - config.keys() if other[key] != '{}'}
    return dict(config.items() - other.items()) | unset


def _lines(keys):
    return ''.join(f'{key}: {value}\n' for key, value in sorted(keys.items()))
