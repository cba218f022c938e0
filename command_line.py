"""What the scripts share: flags, the process's set-up, and how an error ends.

Exit codes: 0 done, 2 something the user can mend, 130 and 143 interrupted by Ctrl-C and SIGTERM.
"""

import os
import re
import sys
import time
from pathlib import Path

START = time.time()  # before the slow imports: start-up counts as time, too

from absl import app, flags  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from errors import UserError, first_line, nearest  # noqa: E402

CONFIG = config_flags.DEFINE_config_file(
    'config', lock_config=True, help_string='The experiment, a file of configs/; --config.KEY=VALUE overrides a key.'
)


def load_config():
    """The resolved config and its name, from --config and its overrides.

    Raises:
      UserError: no config is given, or the file is missing or broken.
    """
    path = config_flags.get_config_filename(flags.FLAGS['config']) if CONFIG.present else None
    if not path:
        raise UserError('no config: pass --config configs/NAME.py, for example --config configs/lenet5_digits.py')
    name, _, variant = Path(path).name.partition(':')
    return CONFIG.value, name.removesuffix('.py') + (f'_{variant}' if variant else '')


def _check_config_file(argv):
    """ml_collections stays silent about a missing file until the config is first used, so look first."""
    for i, argument in enumerate(argv):
        match = re.fullmatch(r'--?config(?:=(.*))?', argument)
        if not match:
            continue
        value = match[1] if match[1] is not None else (argv[i + 1] if i + 1 < len(argv) else '')
        path = Path(value.partition(':')[0])
        if not path.is_file():
            there = sorted(p.stem for p in Path(__file__).with_name('configs').glob('*.py') if p.stem != 'base')
            raise UserError(
                f'no config file {path}{nearest(path.stem, there)} The configs are {", ".join(there)} (in configs/).'
            )


def _parse(argv):
    """Parses the flags; a wrong one raises UserError with the nearest right one."""
    _check_config_file(argv)
    try:
        return flags.FLAGS(argv)
    except AttributeError as error:  # ml_collections: no such key
        key = re.search(r"'([^'\\]+)\\?'", str(error))
        key = key[1] if key else first_line(error)
        raise UserError(f'the config has no key {key}{_nearest_key(key)} See the file for its keys.') from None
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(first_line(error)) from None
    except (ImportError, SyntaxError, NameError) as error:
        raise UserError(f'the config file cannot be read: {first_line(error)}') from None


def _nearest_key(key):
    config = flags.FLAGS['config'].value
    keys = [path.split('.')[-1] for path, _ in config.items()] if config is not None else []
    return nearest(key, keys) or '.'


def set_up_jax():
    """Turns the persistent compilation cache on: in JAX_COMPILATION_CACHE_DIR, or below the user's cache folder."""
    import jax

    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'imagenet-decade' / 'jax'
        jax.config.update('jax_compilation_cache_dir', str(cache))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def run(main):
    """Runs `main()` as a script's body; what a user can mend ends in one line on stderr and exit code 2."""

    def body(argv):
        if len(argv) > 1:
            raise UserError(f'what is {argv[1]!r}? Every argument is a flag: --flag=value')
        set_up_jax()
        return main()

    def guarded():
        try:
            app.run(body, flags_parser=_parse)
        except (UserError, OSError) as error:
            if isinstance(error, OSError) and error.errno is None:
                raise
            print(f'{Path(sys.argv[0]).name}: error: {_one_line(error)}', file=sys.stderr, flush=True)
            sys.exit(2)

    guarded()


def _one_line(error):
    if isinstance(error, UserError):
        return ' '.join(str(error).split())
    where = f' ({error.filename})' if error.filename else ''
    return f'{error.strerror or first_line(error)}{where}'
