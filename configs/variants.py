"""Variants: named changes to a recipe, after the colon in `--config configs/NAME.py:VARIANT,VARIANT`.

In addition to a recipe's special variants there are

    fixed               divide the rate after fixed lengths (`learning_rates`), where the paper divided it manually
    cifar10             a small-budget version on CIFAR-10: 30 epochs, small images, the recipe otherwise unchanged
    folder=DIR          your own photographs, at the network's own size: DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE
                        (or val/), or DIR/CLASS/IMAGE, of which a fifth is held out; 30 epochs
    small               with folder=DIR: small images, as for cifar10
    finetune            with folder=DIR: from the weights of --config.init_from, see `_use_finetuning`
    epochs=N            N epochs, with every change of the rate at the same fraction of the run
    option.NAME=VALUE   an option of the network, as in configs/alexnet.py:option.hidden_bias=0.1

A recipe's special variants are applied first, in the given order; then the data; then fine-tuning; then the length.
"""

import ast
import difflib
import inspect
import math
import os

SMALL_EPOCHS = 30.0
HELD_OUT = 0.2  # the fraction of a folder that is tested on if it has no split for that
OPTION = 'option.'
DATA = ('cifar10', 'cifar100', 'svhn', 'folder=')  # data sets; only some recipes have the second and third
OF_FOLDER = ('small', 'finetune')  # only together with folder=DIR
GENERAL = ('fixed', 'cifar10', 'folder=', *OF_FOLDER, 'epochs=')  # those with '=' take a value


class Small:
    """The small-budget version of a network: the side of its images, and the options that fit it."""

    def __init__(self, image_size, **options):
        self.image_size, self.options = image_size, options


class UnknownVariant(ValueError):
    """The variant does not exist; `known` has those that do."""

    def __init__(self, message, known=()):
        super().__init__(message)
        self.known = known


def apply(config, variant, small=None, **special):
    """Apply variants to a config in place; return it.

    Args:
      config: the config of the recipe.
      variant: names of variants, separated by commas, or ''.
      small: the `Small` of a network for large images.
      **special: variants of this recipe: config -> None, or (config, value) -> None for NAME=VALUE; a string is the
        reason why there is no variant of that name.

    Raises:
      ValueError: a name is unknown, a value is invalid, or two variants contradict each other.
    """
    name = config.architecture
    special.setdefault('lecture', f'the lecture says nothing about training {name}')
    functions = {
        key + _equals(function): function for key, function in special.items() if not isinstance(function, str)
    }
    general = [key for key in GENERAL if key != 'fixed' or config.schedule == 'plateau']
    reasons = {key: reason for key, reason in special.items() if isinstance(reason, str)}
    options = [part.partition('=')[0] + '=' for part in variant.split(',') if part.startswith(OPTION)]
    values = parse(variant, (*functions, *general, *options), name, reasons)
    for key, value in values.items():
        if key in functions:
            functions[key](config, *([] if value is None else [value]))
        elif key.startswith(OPTION):
            config.architecture_options[key[len(OPTION) : -1]] = _value(value)
    if 'fixed' in values:
        config.schedule = 'steps'
    if alone := [key for key in OF_FOLDER if key in values and 'folder=' not in values]:
        raise ValueError(f'{alone[0]} is for your own photographs: folder=DIR,{alone[0]}')
    if 'cifar10' in values:
        _use_cifar10(config, small)
    if 'folder=' in values:
        _use_folder(config, values['folder='])
        _shorten(config, small)
    if 'small' in values:
        _shrink(config, small)
    if 'finetune' in values:
        _use_finetuning(config)
    if 'epochs=' in values:
        _set_length(config, _above_0(values['epochs=']))
    elif 'cifar10' in values or 'folder=' in values:
        _set_length(config, SMALL_EPOCHS)
    return config


def _value(text):
    """Parse a Python literal, true or false (as in --config.KEY=true); return any other text unchanged."""
    try:
        return {'true': True, 'false': False}[text] if text in ('true', 'false') else ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _equals(function):
    return '=' if len(inspect.signature(function).parameters) == 2 else ''


def parse(variant, known, recipe, reasons=None):
    """Parse variants to {'NAME': None, 'NAME=': 'VALUE'}.

    Args:
      variant: NAME or NAME=VALUE, separated by commas.
      known: the valid names; those that take a value end with '='.
      recipe: the recipe's name, for messages.
      reasons: {name: why there is no such variant}.
    """
    values = {}
    for part in filter(None, variant.split(',')):
        name, equals, value = part.partition('=')
        key = name + equals
        if name in (reasons or {}):
            raise ValueError(reasons[name])
        if key not in known:
            raise UnknownVariant(_unknown(part, name, known, recipe), known)
        if key in values:
            raise ValueError(f'{name} occurs twice in {variant!r}')
        values[key] = value if equals else None
    data = [name for name in DATA if name in values]
    if len(data) > 1:
        raise ValueError(f'{data[0]} and {data[1]} contradict each other in {variant!r}: keep one of them')
    return values


def split(variant, special, series):
    """Split the variants of a series into its special ones, parsed, and the text of the rest, for its members."""
    values = parse(variant, (*special, *GENERAL), series)
    rest = ','.join(key + (value or '') for key, value in values.items() if key not in special)
    return {key: value for key, value in values.items() if key in special}, rest


def _unknown(part, name, known, recipe):
    if name + '=' in known:
        return f'{name} takes a value: {name}=VALUE'
    if name in known:
        return f'{name} takes no value: {part!r}'
    close = difflib.get_close_matches(name, [key.removesuffix('=') for key in known], n=1, cutoff=0.5)
    close = f', did you mean {close[0]}?' if close else '.'
    return f'no variant {part!r} of {recipe}{close} Known: {", ".join(known)}.'


def _above_0(text):
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f'epochs must be a number above 0, not {text!r}')
    return number


# Data


def _use_cifar10(config, small):
    if config.dataset != 'cifar10':  # networks for CIFAR-10 only get shorter
        _set_data(config, 'cifar10', 10)
        _shorten(config, small)
        _shrink(config, small)


def _use_folder(config, folder):
    if not os.path.isdir(folder):
        raise ValueError(f'no folder {folder}: pass folder=DIR (a comma ends DIR)')
    train = os.path.join(folder, 'train')
    classes = _folders(train if os.path.isdir(train) else folder)
    if len(classes) < 2:
        raise ValueError(
            f'{folder} does not have two classes: folder=DIR reads DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE, or '
            'DIR/CLASS/IMAGE'
        )
    _set_data(config, 'folder', len(classes))
    config.data_dir = folder
    if not (os.path.isdir(train) and {'test', 'val', 'validation'} & set(_folders(folder))):
        config.val_fraction = HELD_OUT
    if config.crop.kind == 'none':
        config.fit = 'resize'


def _folders(folder):
    """Return the names of the folders in a folder, without hidden ones; [] if it does not exist."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith('.')]


def _use_finetuning(config):
    """Fine-tune weights that were trained on more images: a low rate, and nothing that needs a long run.

    The network's options and pixels are those of the checkpoint in `init_from` (`training.finetune`). Batch norm keeps
    its statistics, too few images are left to measure them; photographs are cut to 30% of their area or more, and
    colors stay. The rate is a tenth of that of most networks for ImageNet, as in Girshick et al. 2014, section 2.3.
    """
    config.init_input, config.init_layers = True, ()
    if 'frozen_norm' not in config.architecture_options:
        config.architecture_options.frozen_norm = True
    if 'group_size' in config.architecture_options:
        del config.architecture_options.group_size
    config.recompute_batch_stats = 0
    config.auxiliary_weight = 0.0
    config.average = 'none'
    config.colour.jitter = config.colour.lighting = 'none'
    config.crop.area = (0.3, 1.0)
    config.optimizer = 'momentum'
    config.momentum, config.rate_inside, config.bias_rate = 0.9, True, 1.0
    config.weight_decay, config.decayed = 1e-4, 'weights'
    config.batch_size = config.reference_batch_size = 16
    config.schedule = 'steps'
    config.learning_rate, config.learning_rates = 0.001, ((20, 0.001), (10, 0.0001))
    config.warmup.learning_rate = 0.0
    config.num_epochs = SMALL_EPOCHS


def _set_data(config, dataset, num_classes):
    config.dataset, config.num_classes, config.channels = dataset, num_classes, 3
    config.train_split, config.test_split = 'train', 'test'


def _shorten(config, small):
    """Adapt the recipe of a network for ImageNet to a short run."""
    if small is None:
        return
    if config.schedule == 'plateau':
        config.schedule = 'steps'
    config.log_every_steps = 10
    config.checkpoint_every_steps = 0


def _shrink(config, small):
    """Adapt the recipe of a network for large images to small ones; keep options that a variant has set."""
    if small is None:
        return
    for crop in (config.crop, config.test_crop):
        crop.short_side = tuple(
            math.floor(side * small.image_size / config.image_size + 0.5) for side in crop.short_side
        )
    config.image_size = small.image_size
    for key, value in small.options.items():
        if key not in config.architecture_options:
            config.architecture_options[key] = value
    config.test_batch_size = 500


def _set_length(config, epochs):
    old = config.num_epochs
    config.learning_rates = tuple((length * epochs / old, rate) for length, rate in config.learning_rates)
    config.decay_every = config.decay_every * epochs / old
    config.plateau.patience = max(1, round(config.plateau.patience * epochs / old))
    if config.recompute_batch_stats:  # shortened in proportion, but never lengthened
        config.recompute_batch_stats = max(10, round(config.recompute_batch_stats * min(1, epochs / old)))
    config.num_epochs = epochs
