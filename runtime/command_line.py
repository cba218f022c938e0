"""Code that the scripts share: flags, setting up the process, and the handling of errors.

Exit codes: 0 success, 2 an error that the user can fix, 75 another process of the run was lost, 130 and 143 interrupted
by Ctrl-C and SIGTERM, 129 by the end of its terminal.
"""

import contextlib
import os
import re
import runpy
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from unittest import mock

START = time.time()  # before the slow imports, which count as start-up

from absl import app, flags, logging  # noqa: E402
from ml_collections import ConfigDict, config_flags  # noqa: E402

from configs import base, listing, variants  # noqa: E402
from runtime import distributed, interrupts, paths, stored_config, system  # noqa: E402
from runtime.errors import UserError, first_line, nearest, one_line  # noqa: E402

CONFIG = config_flags.DEFINE_config_file(
    'config', lock_config=True, help_string='The experiment, a file in configs/; --config.KEY=VALUE overrides a key.'
)


def define_processes():
    """Define the flags of a script that can run as several processes."""
    flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0, unless Slurm, Open MPI or a TPU pod provide it.')
    flags.DEFINE_integer('num_processes', None, 'The number of processes.')
    flags.DEFINE_integer('process_id', None, 'The number of this process, from 0.')


def load_config():
    """Return the resolved config and its name, from --config and its overrides, or else from --checkpoint.

    `training.unread.refuse` checks that the keys in `set_keys` have an effect.

    Raises:
      UserError: there is no config.
    """
    path = config_flags.get_config_filename(flags.FLAGS['config']) if CONFIG.present else None
    if not path:
        raise UserError('no config: pass --config configs/NAME.py, for example --config configs/lenet5_digits.py')
    paths.expand_config(CONFIG.value)
    return CONFIG.value, run_name(path)


def set_keys(reads=()):
    """Return the config keys that the user set: ({key: argument} of the command line, config, {key: line}).

    The last two are for the user's own config file, without a variant: its config, and the keys that its lines set. For
    a recipe they are None and {}. `reads` are keys to leave out, which the script reads whatever the config says.
    """
    path = config_flags.get_config_filename(flags.FLAGS['config'])
    file_config, lines = set_in_own_file(path.partition(':')[0])
    arguments = {**_options(path), **{key: _flag(key) for key in overrides()}}
    arguments, lines = ({key: text for key, text in keys.items() if key not in reads} for keys in (arguments, lines))
    return arguments, file_config, lines


def config_file():
    """Return the --config of this command line, with its variant."""
    return config_flags.get_config_filename(flags.FLAGS['config'])


def run_name(config_file):
    """Return a config's name for a folder: alexnet_lecture_cifar10 for configs/alexnet.py:lecture,cifar10."""
    file, _, variant = config_file.partition(':')
    return re.sub(r'[^\w.-]+', '_', f'{Path(file).stem}_{variant}').strip('_')


def overrides():
    """Return {key: value} of the --config.KEY=VALUE on this command line."""
    return config_flags.get_override_values(flags.FLAGS['config'])


def arguments_for(keys):
    """Return {key: the argument on this command line that sets it}: a flag, or a part of the config's variant."""
    file, _, variant = config_flags.get_config_filename(flags.FLAGS['config']).partition(':')
    parts, arguments = variant.split(',') if variant else [], {}
    values = base.flat(read_config(f'{file}:{variant}' if variant else file))
    for part in parts:
        rest = ','.join(other for other in parts if other != part)
        without = base.flat(read_config(f'{file}:{rest}' if rest else file))
        changed = {_in_member(key) for key in values if values[key] != without.get(key)}
        arguments |= {key: f':{part}' for key in keys if key in changed}
    return arguments | {_in_member(key): _flag(key) for key in overrides() if _in_member(key) in keys}


def _in_member(key):
    """Return the member's key for a key of a series: 'seed' for 'members.vgg_a.seed'."""
    return key.split('.', 2)[-1] if key.startswith('members.') else key


def _flag(key):
    return f'--config.{key}={overrides()[key]}'


def _options(config_file):
    """Return {key: the part of a config's variant that sets it} for the options of a network."""
    parts = [part for part in config_file.partition(':')[2].split(',') if part.startswith(variants.OPTION)]
    return {f'architecture_options.{part.partition("=")[0][len(variants.OPTION) :]}': f':{part}' for part in parts}


def _is_ours(file):
    """Return whether a config file is a recipe of this project or the reader of stored configs."""
    return any(Path(module.__file__).parent.samefile(Path(file).parent) for module in (listing, stored_config))


_FOR_FLAGS = ('reference_batch_size', 'init_layers')  # keys that a file may set for use with a flag


def set_in_own_file(file):
    """Return (config, {key: 'FILE, line N: KEY'}) of the keys that a user's own config file sets, without a variant.

    Keys set by the recipe that the file starts from are left out. For the recipes of this project the result is
    (None, {}), because their variants may read keys that the recipe itself does not.
    """
    if _is_ours(file):
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
        config = read_config(file)  # without its variant, which may not read all keys
    if config is None or not lines:
        return None, {}
    rates = ('learning_rate', 'learning_rates', 'plateau')  # set together for a variant `fixed`
    accepted = (*_FOR_FLAGS, *rates) if all((id(config), key) in lines for key in rates[:2]) else _FOR_FLAGS
    inner = {f'{key}.': value for key, value in config.items() if isinstance(value, ConfigDict)}
    return config, {
        f'{prefix}{key}': f'{file}, line {lines[id(part), key]}: {key}'
        for prefix, part in {'': config, **inner}.items()
        for key in part
        if (id(part), key) in lines and not {key, prefix.rstrip('.')} & set(accepted)
    }


def _config_file(argument, following):
    """Return the config file of a --config argument, or None; it may be in the following argument."""
    match = re.fullmatch(r'--?config(?:=(.*))?', argument)
    return match and (following if match[1] is None else match[1])


def _check_config_file(argv):
    """Raise UserError for a missing or invalid config file; ml_collections checks only at the first use."""
    for argument, following in zip(argv, [*argv[1:], ''], strict=True):
        value = _config_file(argument, following)
        if value is None:
            continue
        path = Path(value.partition(':')[0])
        if path.parts[-2:] == ('configs', 'checkpoint.py') and not path.is_file():  # its old place
            raise UserError(f'{path} is now runtime/stored_config.py')
        if not path.is_file():
            raise UserError(
                f'no config file {str(path)!r}{nearest(path.stem, listing.names())} `python -m configs` lists them.'
            )
        read_config(value)


def read_config(file_and_variant):
    """Return the config of 'FILE' or 'FILE:VARIANT'.

    Raises:
      UserError: the file cannot be read or run, or sets an unknown key or a wrong type; the message has file and line.
    """
    file, colon, variant = file_and_variant.partition(':')
    try:
        config = runpy.run_path(file)['get_config'](*[variant] if colon else [])
    except Exception as error:  # whatever a user's own file raises
        raise UserError(_describe_error(file, error)) from None
    if not isinstance(config, ConfigDict):
        raise UserError(f'{file}: get_config must return the config, not {type(config).__name__}')
    if missing := sorted(set(base.get_config()) - set(config)) if 'members' not in config else []:
        raise UserError(f'{file}: its config has no key {missing[0]}; start from configs.base.get_config()')
    if empty := [key for key, value in config.items() if value is None]:
        raise UserError(f'{file}: {empty[0]} is None; remove the line to use the default')
    return config


_WRONG_TYPE = re.compile(  # the message of ml_collections
    r"override field '(?P<key>\w+)' \(reference\)\. (?P<value>.*) is of original type <class '(?P<given>[\w.]+)'> and "
    r"cannot be casted to type <class '(?:.*\.)?(?P<wanted>\w+)'>"
)


def _describe_error(file, error):
    """Format an error of a config file in one line, with the line number."""
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
        return f'{where}: {field["key"]} must be of type {field["wanted"]}, and {field["value"]!r} is {field["given"]}'
    in_ours = not trace or Path(trace[-1].filename) != Path(file) or _is_ours(file)
    if isinstance(error, UserError) or (isinstance(error, ValueError) and in_ours):  # a message from configs/
        return text
    return f'{where}: {type(error).__name__}: {text}'


def _keys(config):
    """Return the names of a config's keys; nested keys without prefix."""
    return [*config] + [inner for value in config.values() if isinstance(value, ConfigDict) for inner in value]


def _with_recipes(argv):
    """Return the arguments, with its path for a recipe that is given by name, or as configs/NAME.py from elsewhere."""
    argv = list(argv)
    for place, (argument, following) in enumerate(zip(argv[:], [*argv[1:], ''], strict=True)):
        file, colon, variant = (_config_file(argument, following) or '').partition(':')
        name = Path(file).stem
        if name in listing.names() and file in (name, f'{name}.py', f'configs/{name}.py') and not Path(file).is_file():
            path = Path(listing.__file__).with_name(f'{name}.py')
            path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            if '=' in argument:
                argv[place] = f'--config={path}{colon}{variant}'
            else:
                argv[place + 1] = f'{path}{colon}{variant}'
    return argv


def _with_config_of_checkpoint(argv):
    """Return the arguments, with a --config for the config stored with --checkpoint if they have none."""
    has_config = any(_config_file(*pair) for pair in zip(argv, [*argv[1:], ''], strict=True))
    if has_config or 'checkpoint' not in flags.FLAGS:
        return argv
    for argument, following in zip(argv, [*argv[1:], ''], strict=True):
        match = re.fullmatch(r'--?checkpoint(?:=(.*))?', argument)
        if match:
            folder = following if match[1] is None else match[1]
            return [argv[0], f'--config={stored_config.__file__}:{folder}', *argv[1:]]  # before its overrides
    return argv


def _spread(argv):
    """Rewrite `--checkpoint A B C` as three flags, for flags that may be repeated."""
    repeatable = {name for name in flags.FLAGS if isinstance(flags.FLAGS[name], flags.MultiFlag)}
    spread, name, values = [], None, 0
    for argument in argv:
        flag = re.match(r'--?([\w.]+)(=?)', argument)
        if flag:
            name, values = flag[1], len(flag[2])
        elif name in repeatable:
            spread += [f'--{name}'] if values else []
            values += 1
        spread.append(argument)
    return spread


def _parse(argv):
    """Parse the flags; raise UserError for a wrong flag, with the nearest valid one."""
    argv = _with_config_of_checkpoint(_with_recipes(_spread([argv[0], *map(paths.expanded, argv[1:])])))
    _check_config_file(argv)
    try:
        return flags.FLAGS(argv)
    except SystemExit:  # --help, after which absl exits with 1
        sys.exit(0)
    except AttributeError as error:  # ml_collections: no such key
        key = re.search(r"'([^'\\]+)\\?'", str(error))
        key = key[1] if key else first_line(error)
        raise UserError(f'the config has no key {key}{_advice(argv, key)} configs/base.py lists the keys.') from None
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(_in_words(first_line(error))) from None


# What absl, ml_collections and Python say about a value, and the same for a user.
_IN_WORDS = (
    (r'invalid literal for int\(\) with base 10: (.*)', r'\1 is not a whole number'),
    (r'could not convert string to float: (.*)', r'\1 is not a number'),
    (r"\('Non-boolean argument to boolean flag', (.*)\)", r'\1 is neither true nor false'),
    (
        r'flag (--config\.[\w.]+)=(.*): Failed to parse .* as a ConfigDict.*',
        r'\1=\2: this is a group: pass \1.KEY=VALUE',
    ),
)


def _in_words(message):
    for pattern, words in _IN_WORDS:
        message = re.sub(pattern, words, message)
    return message


def _advice(argv, key):
    """Return ', did you mean KEY?' for a key of the config file, or how to set an option of the network."""
    file = next(value for value in map(_config_file, argv, [*argv[1:], '']) if value)
    if any(re.match(rf'--?(no)?config\.(.*\.)?architecture_options\.{key}\b', argument) for argument in argv):
        return f': set an option of the network with --config {file}{"," if ":" in file else ":"}option.{key}=VALUE.'
    return nearest(key, _keys(read_config(file)))


def set_up_jax():
    """Enable the persistent compilation cache, in JAX_COMPILATION_CACHE_DIR or the user's cache folder."""
    import jax

    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'imagenet-decade' / 'jax'
        jax.config.update('jax_compilation_cache_dir', str(cache))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
    system.check_platforms()


def run(main, positional=False):
    """Run `main()` as a script; user errors print one line on stderr and exit with code 2.

    Args:
      main: () -> exit code, or with `positional` (list of arguments that are not flags) -> exit code.
      positional: whether the script accepts such arguments.
    """

    def body(argv):
        if len(argv) > 1 and not positional:
            raise UserError(f'unknown argument {argv[1]!r}: every argument must be a flag, --flag=value')
        if not flags.FLAGS['verbosity'].present:
            logging.set_verbosity(logging.FATAL)  # Orbax logs every save, and errors that we raise
        is_one_of_several = 'coordinator' in flags.FLAGS and distributed.is_one_of_several(*_processes())
        try:
            if is_one_of_several:
                _join(script)
            set_up_jax()
            return main(argv[1:]) if positional else main()
        except Exception as error:
            if 'RESOURCE_EXHAUSTED' in str(error) and type(error).__name__ == 'JaxRuntimeError':
                advice = 'set a smaller --config.batch_size or --config.test_batch_size'
                error = UserError(f'the memory of the devices is not enough: {advice} ({first_line(error)})')
            if is_one_of_several and not any(map(distributed.is_of_all, _chain(error))):
                _leave(script, error)
            raise error

    script = Path(sys.argv[0]).name
    for name in ('config', 'coordinator', 'num_processes', 'process_id'):  # defined here, for the --help of all scripts
        if name in flags.FLAGS:
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])
    try:
        app.run(body, flags_parser=_parse)
    except SystemExit as ended:
        if not ended.code and interrupts.output_failed():
            _end(2)
        raise
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise
        print(f'{script}: error: {one_line(error)}', file=sys.stderr, flush=True)
        _end(2)
    except KeyboardInterrupt as interrupt:
        print(f'{script}: {interrupts.interrupted()}', file=sys.stderr, flush=True)
        sys.exit(128 + (interrupt.args[0] if interrupt.args else signal.SIGINT))


def _end(code):
    """End the process at once if a failure left threads behind, which would keep it or print more; else exit."""
    sys.stdout.flush()
    if any(thread is not threading.main_thread() for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def _processes():
    return flags.FLAGS.coordinator, flags.FLAGS.num_processes, flags.FLAGS.process_id


def _join(script):
    """Connect to the other processes of this run.

    Raises:
      UserError: they cannot be reached, or run another command or another version of the project.
    """
    import jax

    distributed.fork_worker(script)
    distributed.initialize(*_processes())
    with distributed.Agreed() as facts:
        facts |= _command(script) | distributed.code()
    with distributed.Agreed() as facts:
        facts['the number of devices'] = jax.local_device_count()


_OF_EACH = ('coordinator', 'process_id')  # flags that may differ between the processes of a run
_OF_EACH_KEYS = ('data_dir', 'labels', 'statistics', 'workers')  # config keys likewise: places on each machine


def _command(script):
    """Return {flag or key: value} of what this command line sets and the config contains."""
    names = [flag.name for flag in flags.FLAGS.flags_by_module_dict()[sys.argv[0]]] + ['num_processes']
    values = {f'--{name}': flags.FLAGS[name].value for name in names if name not in _OF_EACH}
    config = base.flat(CONFIG.value if CONFIG.present and CONFIG.value else {})
    keys = {f'--config.{key}': value for key, value in config.items() if key.rpartition('.')[2] not in _OF_EACH_KEYS}
    return {'the script': script} | values | keys


def _leave(script, error):
    """End one of several processes immediately; a normal exit would wait for its peers."""
    if lost := next(filter(distributed.is_lost, _chain(error)), None):
        print(f'{script}: error: {distributed.LOST} ({first_line(lost)})', file=sys.stderr, flush=True)
        os._exit(distributed.LOST_CODE)
    if isinstance(error, (UserError, OSError)):
        print(f'{script}: error: {one_line(error)}', file=sys.stderr, flush=True)
        os._exit(2)
    traceback.print_exc()
    os._exit(1)


def _chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
