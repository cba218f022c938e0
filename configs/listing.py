"""The list of recipes, and resolved configs as text."""

import difflib
import importlib
import re
from pathlib import Path

from ml_collections import ConfigDict

from configs import base, variants

# Files of this folder that are not recipes.
SHARED = ('__init__', '__main__', 'base', 'checkpoint', 'cifar', 'fb', 'imagenet', 'listing', 'series', 'variants')


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
    """Return the names of a recipe's variants; those that take a value end with '='."""
    try:
        _module(name).get_config('?')
    except variants.UnknownVariant as error:
        return error.known
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
    return ''.join(f'{key}: {value!r}\n' for key, value in sorted(_flat(config, '')))


def differences(config):
    """Return the lines of `text` that differ from the base; in a series, lines begin with `members.NAME.`."""
    defaults = set(text(base.get_config()).splitlines(keepends=True))
    lines = text(config).splitlines(keepends=True)
    return ''.join(line for line in lines if re.sub(r'^members\.\w+\.', '', line) not in defaults)


def golden_texts():
    """Return {golden file: text}: the base, and the differences of each of `golden` from it."""
    return {'base.txt': text(base.get_config())} | {file: differences(load(name)) for file, name in golden().items()}


def _flat(config, prefix):
    for key, value in config.items():
        if isinstance(value, ConfigDict) and len(value):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield prefix + key, dict(value) if isinstance(value, ConfigDict) else value
