"""Shows and prepares data: `python data.py show --config configs/alexnet.py --out grid.png`.

`python data.py` lists the commands, `python data.py COMMAND` the flags of one.
"""

from runtime import interrupts  # first: Ctrl-C is handled from here on

if __name__ == '__main__':
    interrupts.listen()

from runtime import command_line  # noqa: I001  (next: its import starts the clock)

import inspect
import shlex
import sys
from pathlib import Path

from absl import flags

from runtime import files
from runtime.errors import UserError, nearest
from runtime.text import say

flags.DEFINE_string('out', '', 'The picture, the store (a folder) or the file to write.')
flags.DEFINE_integer('step', 0, 'The training step whose batch `show` draws.', lower_bound=0)
flags.DEFINE_integer('images', 32, 'Number of images that `show` draws.', lower_bound=1)
flags.DEFINE_integer('short_side', 256, 'Short side of the images in the store, in pixels.')
flags.DEFINE_bool('raw', False, 'Store pixels instead of JPEG.')
flags.DEFINE_enum('split', 'both', ['train', 'test', 'both'], 'Which splits of the config to pack.')
flags.DEFINE_integer('shard_records', 0, 'Examples per shard; 0: 10,000, or fewer if they would exceed about 1 GB.')
flags.DEFINE_integer('threads', 0, 'Threads that decode and encode; 0: one per core.')
flags.DEFINE_string('verify', '', 'A store whose checksums `pack` compares; nothing is packed.')
flags.DEFINE_string('data_dir', '', "Folder of TFDS's data sets (TFDS's default: ~/tensorflow_datasets).")


def show(out, step=0, images=32):
    """Draws the images of a training step, cropped and augmented as the network gets them."""
    from input_pipeline import datasets, show

    config, _ = _load_config()
    if Path(out).suffix.lower() not in ('.png', '.jpg', '.jpeg'):
        raise UserError(f'--out {out} is not a picture: pass --out FILE.png')
    files.check(out)
    source = datasets.open_split(config, config.train_split)
    pixels, labels, indices = (array[:images] for array in show.batch_to_show(config, step, source))
    captions = [f'{index} {source.class_names[label]}' for index, label in zip(indices, labels, strict=True)]
    with files.atomic_file(out, 'wb') as file:
        show.grid(pixels, captions).save(file, Path(out).suffix.lower().lstrip('.').replace('jpg', 'jpeg'))
    say(f'{len(pixels)} images of step {step} of {source.name}: {out}')


def pack(out='', short_side=256, raw=False, split='both', shard_records=0, threads=0, verify=''):
    """Writes a data set to a store of a few large files, for fast training."""
    from input_pipeline import pack, packed

    if verify:
        shards, examples = packed.verify(verify)
        say(f'{verify} is complete: {examples:,} examples in {shards:,} shards, all checksums match')
        return
    config, _ = _load_config()
    if not out:
        raise UserError('no store: pass --out STORE, a folder that is new or empty')
    sources = pack.sources_of(config, split, out)
    for note in (note for source in sources.values() for note in source.notes):
        say(f'note: {note}')
    command = shlex.join(['python', 'data.py', *sys.argv[1:]])
    interrupts.advise('the same command resumes')
    manifest = pack.pack(
        sources, out, short_side, raw, config.channels, shard_records, config.on_bad_image, threads, command
    )
    for name in sources:
        packed_split = manifest['splits'][name]
        shards = packed_split['shards']
        for error in (error for shard in shards for error in shard['left_out']):
            say(f'skipped: {error}')
        size = sum(shard['bytes'] for shard in shards) / 1e6
        say(f'{name}: {packed_split["num_examples"]:,} images in {len(shards):,} shard(s), {size:,.1f} MB')
    say(f'train from it: --config.dataset=pack --config.data_dir={shlex.quote(out)}')


def statistics(out=''):
    """Measures the mean image, the mean and standard deviation of each channel, and the principal components of RGB."""
    from input_pipeline import datasets, statistics

    config, name = _load_config()
    path = Path(out or Path('runs', name, statistics.NAME))
    path.parent.mkdir(parents=True, exist_ok=True)
    source = datasets.open_split(config, config.train_split)
    for note in source.notes:
        say(f'note: {note}')
    measured = statistics.measured(config, source)
    statistics.save(path, measured)
    size = len(measured['mean_image'])
    say(f'{source.name}: {int(measured["num_examples"]):,} images of {size}x{size}, in gray levels')
    for key in ('mean', 'std', 'deviations'):
        say(f'{key}: {", ".join(f"{value:.3f}" for value in measured[key])}')
    say(f'saved: {path}, which --config.statistics={path} uses')


def prepare(name, data_dir=''):
    """Downloads a data set with TensorFlow Datasets and writes it as ArrayRecord: data.py prepare NAME."""
    from input_pipeline import prepare

    prepare.prepare(name, data_dir or None)


def _load_config():
    config, name = command_line.load_config()
    from training import unread

    unread.refuse(config, *command_line.set_keys())
    return config, name


COMMANDS = {function.__name__: function for function in (show, pack, statistics, prepare)}


def main(arguments):
    if not arguments or arguments[0] not in COMMANDS:
        problem = 'name a command.'
        if arguments:
            problem = f'no command {arguments[0]!r}{nearest(arguments[0], COMMANDS)}'
        summary = ' '.join(f'{name}: {function.__doc__}' for name, function in COMMANDS.items())
        raise UserError(f'{problem} {summary}')
    command, *names = arguments
    parameters = inspect.signature(COMMANDS[command]).parameters
    own_flags = flags.FLAGS.get_flags_for_module(sys.modules[__name__])
    options = {flag.name: flag.value for flag in own_flags if flag.present}
    usage = ', '.join(f'--{key}' for key in parameters if key != 'name')
    for key in options:
        if key not in parameters:
            raise UserError(f'{command} has no flag --{key}; it takes {usage}')
    if len(names) != ('name' in parameters):
        expected = 'one name, such as mnist' if 'name' in parameters else f'only flags: {usage}'
        raise UserError(f'{command} takes {expected}; got {" ".join(names) or "none"}')
    for key, parameter in parameters.items():
        if key != 'name' and parameter.default is parameter.empty and key not in options:
            raise UserError(f'{command} needs --{key}; it takes {usage}')
    COMMANDS[command](*names, **options)
    return 0


if __name__ == '__main__':
    command_line.run(main, positional=True)
