"""What the scripts share: flags, the process's set-up, and how an error ends.

Exit codes: 0 done, 2 something the user can mend, 75 another process of the run was lost, 130 and 143 interrupted by
Ctrl-C and SIGTERM.
"""

import contextlib
import os
import re
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from unittest import mock

START = time.time()  # before the slow imports: start-up counts as time, too

from absl import app, flags, logging  # noqa: E402
from ml_collections import ConfigDict, config_flags  # noqa: E402

from configs import base, listing, variants  # noqa: E402
from runtime import paths  # noqa: E402
from runtime.errors import UserError, first_line, nearest  # noqa: E402

CONFIG = config_flags.DEFINE_config_file(
    'config', lock_config=True, help_string='The experiment, a file of configs/; --config.KEY=VALUE overrides a key.'
)


def define_processes():
    """The flags of a script that can run as several processes."""
    flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, where Slurm, Open MPI or a TPU pod do not tell.')
    flags.DEFINE_integer('num_processes', None, 'How many processes work together.')
    flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')


def load_config():
    """The resolved config and its name, from --config and its overrides; of a script with --checkpoint, that one's own.

    `training.unread.refuse` tells whether what `set_keys` names has an effect in it.

    Raises:
      UserError: no config is given.
    """
    path = config_flags.get_config_filename(flags.FLAGS['config']) if CONFIG.present else None
    if not path:
        raise UserError('no config: pass --config configs/NAME.py, for example --config configs/lenet5_digits.py')
    paths.expand_config(CONFIG.value)
    return CONFIG.value, run_name(path)


def set_keys(reads=()):
    """What the user set of the config, {key: the words that set it}: ({...} on the command line, config, {...}).

    The last two are the config that the user's own file makes, without its variant, and what its lines set; None and {}
    of a recipe. `reads` are keys to leave out, which the script reads whatever the config says.
    """
    path = config_flags.get_config_filename(flags.FLAGS['config'])
    own, lines = set_in_own_file(path.partition(':')[0])
    typed = {**_options(path), **{key: _flag(key) for key in overrides()}}
    typed, lines = ({key: words for key, words in keys.items() if key not in reads} for keys in (typed, lines))
    return typed, own, lines


def run_name(config_file):
    """The name of a config's runs, fit for a folder: alexnet_lecture_cifar10 of configs/alexnet.py:lecture,cifar10."""
    file, _, variant = config_file.partition(':')
    return re.sub(r'[^\w.-]+', '_', f'{Path(file).stem}_{variant}').strip('_')


def overrides():
    """{key: value} of the --config.KEY=VALUE on this command line."""
    return config_flags.get_override_values(flags.FLAGS['config'])


def typed(keys):
    """{key: the words on this command line that set it}: a flag, or a part of the config's variant; not the others."""
    file, _, variant = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
    parts, words = variant.split(',') if variant else [], {}
    whole = dict(_leaves(read_config(f'{file}:{variant}' if variant else file)))
    for part in parts:
        rest = ','.join(other for other in parts if other != part)
        without = dict(_leaves(read_config(f'{file}:{rest}' if rest else file)))
        changed = {_in_member(key) for key in whole if whole[key] != without.get(key)}
        words |= {key: f':{part}' for key in keys if key in changed}
    return words | {_in_member(key): _flag(key) for key in overrides() if _in_member(key) in keys}


def _in_member(key):
    """A key of a series as its member has it: 'seed' of 'members.vgg_a.seed'."""
    return key.split('.', 2)[-1] if key.startswith('members.') else key


def _flag(key):
    return f'--config.{key}={overrides()[key]}'


def _options(config_file):
    """{key: the words that set it} of the options of a network in a config's variant."""
    parts = [part for part in config_file.partition(':')[2].split(',') if part.startswith(variants.OPTION)]
    return {f'architecture_options.{part.partition("=")[0][len(variants.OPTION) :]}': f':{part}' for part in parts}


_FOR_FLAGS = ('reference_batch_size', 'init_layers')  # what a file may say for the day when a flag makes it count


def set_in_own_file(file):
    """(config, {key: its place, in words}) of what the lines of a user's own config file set, without a variant.

    What a recipe sets on which it builds is left out, and so are the recipes of this project: their variants read what
    they do not.
    """
    if Path(file).resolve().parent == Path(listing.__file__).resolve().parent:
        return None, {}
    config, lines, set_item = None, {}, ConfigDict.__setitem__

    def recorded(config, key, value):
        frame = sys._getframe(1)
        while frame.f_globals.get('__name__', '').startswith('ml_collections.'):  # from setattr and update
            frame = frame.f_back
        if frame.f_code.co_filename == file:
            lines[id(config), key] = frame.f_lineno
        set_item(config, key, value)

    with mock.patch.object(ConfigDict, '__setitem__', recorded), contextlib.suppress(UserError):
        config = read_config(file)  # without its variant, which may have no use for some of it
    if config is None or not lines:
        return None, {}
    both = ('learning_rate', 'learning_rates', 'plateau')  # of a recipe that has a variant `fixed`
    waiting = (*_FOR_FLAGS, *both) if all((id(config), key) in lines for key in both[:2]) else _FOR_FLAGS
    inner = {f'{key}.': value for key, value in config.items() if isinstance(value, ConfigDict)}
    return config, {
        f'{prefix}{key}': f'{file}, line {lines[id(part), key]}: {key}'
        for prefix, part in {'': config, **inner}.items()
        for key in part
        if (id(part), key) in lines and not {key, prefix.rstrip('.')} & set(waiting)
    }


def _leaves(config, prefix=''):
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f'{prefix}{key}.')
        else:
            yield prefix + key, value


def config_flags_given():
    """The flags of this command line that name and override the config."""
    given = []
    for argument, following in zip(sys.argv[1:], [*sys.argv[2:], ''], strict=True):
        if re.match(r'--?config(\.|=|$)', argument):
            given += [argument] if '=' in argument else [argument, following]
    return given


def _config_file(argument, following):
    """The config file that a flag names, or None; its value may be the argument that follows it."""
    match = re.fullmatch(r'--?config(?:=(.*))?', argument)
    return match and (following if match[1] is None else match[1])


def _check_config_file(argv):
    """ml_collections stays silent about a missing file until the config is first used, so look first."""
    for argument, following in zip(argv, [*argv[1:], ''], strict=True):
        value = _config_file(argument, following)
        if value is None:
            continue
        path = Path(value.partition(':')[0])
        if not path.is_file():
            raise UserError(
                f'no config file {value!r}{nearest(path.stem, listing.names())} `python -m configs` lists them.'
            )
        read_config(value)


def read_config(file_and_variant):
    """The config that a file makes: 'FILE' or 'FILE:VARIANT'.

    Raises:
      UserError: it cannot be read or run, or sets a key or a type that the base does not have; the message names the
        file and the line.
    """
    file, colon, variant = file_and_variant.partition(':')
    try:
        config = runpy.run_path(file)['get_config'](*[variant] if colon else [])
    except Exception as error:  # whatever a user's own file raises
        raise UserError(_what_is_wrong(file, error)) from None
    if not isinstance(config, ConfigDict):
        raise UserError(f'{file}: get_config must return the config, not {type(config).__name__}')
    if missing := sorted(set(base.get_config()) - set(config)) if 'members' not in config else []:
        raise UserError(f'{file}: its config has no key {missing[0]}; begin it with configs.base.get_config()')
    if empty := [key for key, value in config.items() if value is None]:
        raise UserError(f'{file}: {empty[0]} is None; leave it out for its default')
    return config


_WRONG_TYPE = re.compile(  # ml_collections's words
    r"override field '(?P<key>\w+)' \(reference\)\. (?P<value>.*) is of original type <class '(?P<given>[\w.]+)'> and "
    r"cannot be casted to type <class '(?:.*\.)?(?P<wanted>\w+)'>"
)


def _what_is_wrong(file, error):
    """An error of a config file as a line: where in it, and what."""
    if isinstance(error, SyntaxError):
        return f'{file}, line {error.lineno}: the config file cannot be read: {error.msg}'
    trace = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in trace if Path(frame.filename) == Path(file)]
    where = f'{file}, line {lines[-1]}' if lines else file
    text = first_line(error)
    if isinstance(error, (AttributeError, KeyError)):
        if not lines and 'get_config' in text:
            return f'{file} defines no get_config()'
        key = re.search(r"""["'\\]+(\w+)["'\\]+( does not exist|$)""", text.partition('\\n')[0])
        if key and 'attribute' not in text:
            return f'{where}: the config has no key {key[1]}{nearest(key[1], _keys(base.get_config()))}'
    if isinstance(error, TypeError) and (field := _WRONG_TYPE.search(text)):
        return (
            f'{where}: {field["key"]} is of type {field["wanted"]}, and {field["value"]!r} is of type {field["given"]}'
        )
    ours = Path(listing.__file__).parent
    in_ours = not trace or Path(trace[-1].filename) != Path(file) or Path(file).resolve().parent == ours.resolve()
    if isinstance(error, UserError) or (isinstance(error, ValueError) and in_ours):  # of configs/, in words for a user
        return text
    return f'{where}: {type(error).__name__}: {text}'


def _keys(config):
    """The names of a config's keys, inner ones without what is before them."""
    return [*config] + [inner for value in config.values() if isinstance(value, ConfigDict) for inner in value]


def _with_config_of_checkpoint(argv):
    """The arguments, with the config that lies with --checkpoint where no --config is given."""
    named = any(_config_file(*pair) for pair in zip(argv, [*argv[1:], ''], strict=True))
    if named or 'checkpoint' not in flags.FLAGS:
        return argv
    for argument, following in zip(argv, [*argv[1:], ''], strict=True):
        match = re.fullmatch(r'--?checkpoint(?:=(.*))?', argument)
        if match:
            folder = following if match[1] is None else match[1]
            file = Path(listing.__file__).with_name('checkpoint.py')
            return [argv[0], f'--config={file}:{folder}', *argv[1:]]  # before its overrides
    return argv


def _spread(argv):
    """`--checkpoint A B C` as three flags, where a flag may be given several times."""
    several = {name for name in flags.FLAGS if isinstance(flags.FLAGS[name], flags.MultiFlag)}
    found, name, values = [], None, 0
    for argument in argv:
        flag = re.match(r'--?([\w.]+)(=?)', argument)
        if flag:
            name, values = flag[1], len(flag[2])
        elif name in several:
            found += [f'--{name}'] if values else []
            values += 1
        found.append(argument)
    return found


def _parse(argv):
    """Parses the flags; a wrong one raises UserError with the nearest right one."""
    argv = _with_config_of_checkpoint(_spread([argv[0], *map(paths.expanded, argv[1:])]))
    _check_config_file(argv)
    try:
        return flags.FLAGS(argv)
    except AttributeError as error:  # ml_collections: no such key
        key = re.search(r"'([^'\\]+)\\?'", str(error))
        key = key[1] if key else first_line(error)
        raise UserError(f'the config has no key {key}{_advice(argv, key)} See the file for its keys.') from None
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(first_line(error)) from None


def _advice(argv, key):
    """', did you mean KEY?' from the keys of the config file on the command line; of an option how it is written."""
    file = next(value for value in map(_config_file, argv, [*argv[1:], '']) if value)
    if any(re.match(rf'--?(no)?config\.(.*\.)?architecture_options\.{key}\b', argument) for argument in argv):
        return f': an option of the network is set by --config {file}{"," if ":" in file else ":"}option.{key}=VALUE.'
    return nearest(key, _keys(read_config(file)))


def set_up_jax():
    """Turns the persistent compilation cache on: in JAX_COMPILATION_CACHE_DIR, or below the user's cache folder."""
    import jax

    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'imagenet-decade' / 'jax'
        jax.config.update('jax_compilation_cache_dir', str(cache))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def run(main, positional=False):
    """Runs `main()` as a script's body; what a user can mend ends in one line on stderr and exit code 2.

    Args:
      main: () -> exit code, or with `positional` (arguments that are no flags) -> exit code.
      positional: whether there may be such arguments.
    """

    def body(argv):
        if len(argv) > 1 and not positional:
            raise UserError(f'what is {argv[1]!r}? Every argument is a flag: --flag=value')
        if not flags.FLAGS['verbosity'].present:
            logging.set_verbosity(logging.FATAL)  # Orbax logs every save, and what we raise anyway
        several = 'coordinator' in flags.FLAGS and _join(script)
        set_up_jax()
        try:
            return main(argv[1:]) if positional else main()
        except Exception as error:
            if several:
                _leave(script, error)
            raise

    script = Path(sys.argv[0]).name
    try:
        app.run(body, flags_parser=_parse)
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise
        print(f'{script}: error: {_one_line(error)}', file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        print(f'{script}: interrupted', file=sys.stderr, flush=True)
        sys.exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))


def _join(script):
    """Joins the other processes of this run, where the flags or the environment name some."""
    from runtime import distributed

    told = flags.FLAGS.coordinator, flags.FLAGS.num_processes, flags.FLAGS.process_id
    if not distributed.check(*told):
        return False
    distributed.watched(script)
    distributed.begin(*told)
    return True


def _leave(script, error):
    """Ends one of several processes, at once: its peers would wait for it at the end, and it for them."""
    import jax

    from runtime import distributed

    if any(isinstance(cause, jax.errors.JaxRuntimeError) for cause in _chain(error)):  # in a collective, or in a save
        print(f'{script}: error: {distributed.LOST} ({first_line(error)})', file=sys.stderr, flush=True)
        os._exit(distributed.LOST_CODE)
    if isinstance(error, (UserError, OSError)):
        print(f'{script}: error: {_one_line(error)}', file=sys.stderr, flush=True)
        os._exit(2)
    traceback.print_exc()
    os._exit(1)


def _chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _one_line(error):
    if isinstance(error, UserError):
        return ' '.join(str(error).split())
    where = f' ({error.filename})' if error.filename else ''
    return f'{error.strerror or first_line(error)}{where}'
