"""The recipes that there are, and a resolved config as text."""

import difflib
import importlib
import re
from pathlib import Path

from ml_collections import ConfigDict

from configs import base, variants

# Files of this folder that are no recipes.
SHARED = ('__init__', '__main__', 'base', 'checkpoint', 'cifar', 'fb', 'imagenet', 'listing', 'series', 'variants')


def names():
    """The recipes, sorted."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob('*.py') if path.stem not in SHARED))


def load(name_and_variant):
    """The config of 'NAME' or 'NAME:VARIANT'.

    Raises:
      ValueError: no such recipe or variant, in a line.
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
    """A recipe's, whole."""
    return _module(name).__doc__


def title(name):
    """The first line of a recipe's docstring."""
    return docstring(name).splitlines()[0]


def variants_of(name):
    """The names of a recipe's variants, with '=' at the end of those that take a value."""
    try:
        _module(name).get_config('?')
    except variants.UnknownVariant as error:
        return error.known
    raise AssertionError(f'{name} takes any variant')


def golden():
    """What the tests hold, {file: 'NAME:VARIANT'}: recipes, their own variants, and a family's head on CIFAR-10."""
    held = {}
    for name in names():
        own = [key for key in variants_of(name) if key == 'fixed' or not (key in variants.GENERAL or key.endswith('='))]
        head = ['cifar10'] if hasattr(_module(name), 'recipe') else []
        for variant in ('', *own, *head):
            held[f'{name}_{variant}.txt' if variant else f'{name}.txt'] = f'{name}:{variant}'
    return held


def text(config):
    """A config, resolved: a line for each key, sorted, `crop.kind: 'random'`."""
    return ''.join(f'{key}: {value!r}\n' for key, value in sorted(_flat(config, '')))


def differences(config):
    """The lines of `text` whose value is not the base's; those of a series' members begin with `members.NAME.`."""
    usual = set(text(base.get_config()).splitlines(keepends=True))
    lines = text(config).splitlines(keepends=True)
    return ''.join(line for line in lines if re.sub(r'^members\.\w+\.', '', line) not in usual)


def golden_texts():
    """{file: text} of what the tests hold: the base, and how each of `golden` differs from it."""
    return {'base.txt': text(base.get_config())} | {file: differences(load(name)) for file, name in golden().items()}


def _flat(config, prefix):
    for key, value in config.items():
        if isinstance(value, ConfigDict) and len(value):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield prefix + key, dict(value) if isinstance(value, ConfigDict) else value
