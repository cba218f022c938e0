"""Expansion of `~` to the home folder. A shell expands `--workdir ~/runs`, but not `--workdir=~/runs`."""

import os
import re

KEYS = ('data_dir', 'labels', 'statistics', 'init_from')  # config keys that are paths; in a series also NAME_data_dir


def expanded(text):
    """Expand `~` and `~USER` at the beginning of the text or after an equals sign.

    `text` is a path, or a command line argument that may contain one: `--workdir=~/runs`, `real=~/real.json`.
    """
    return re.sub(r'(?:(?<==)|^)~[^/=]*(?=/|$)', lambda home: os.path.expanduser(home[0]), text)


def expand_config(config):
    """Expand the paths of a config, or of a series and its members, in place."""
    for key in config:
        if key in KEYS or key.endswith('_data_dir'):
            config[key] = expanded(config[key])
    for member in config.get('members', {}).values():
        expand_config(member)
