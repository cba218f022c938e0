"""The one place where `~` becomes a home folder. A shell does that to `--workdir ~/runs`, not to `--workdir=~/runs`."""

import os
import re

KEYS = ('data_dir', 'labels', 'statistics', 'init_from')  # of a config; of a series also NAME_data_dir


def expanded(text):
    """The text with `~` and `~USER` at its beginning, or after an equals sign, as folders; others stay as they are.

    `text` is a path, or an argument of a command line that may hold one: `--workdir=~/runs`, `real=~/real.json`.
    """
    return re.sub(r'(?:(?<==)|^)~[^/=]*(?=/|$)', lambda home: os.path.expanduser(home[0]), text)


def expand_config(config):
    """Expands the paths of a config, or of a series and its members, in place."""
    for key in config:
        if key in KEYS or key.endswith('_data_dir'):
            config[key] = expanded(config[key])
    for member in config.get('members', {}).values():
        expand_config(member)
