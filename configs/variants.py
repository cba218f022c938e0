"""Variants: what follows the colon of `--config configs/NAME.py:VARIANT,VARIANT`, changes to a recipe by name.

Beside a recipe's own there are

    fixed               a rate that the paper divided by hand is divided after fixed lengths (`learning_rates`)
    cifar10             the small-budget form, on CIFAR-10: 30 epochs, small images, the rest of the recipe as it is
    folder=DIR          the same on DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE
    epochs=N            N epochs, and every change of the rate at the same part of them
    option.NAME=VALUE   an option of the network, as in configs/alexnet.py:option.hidden_bias=0.1

A recipe's own come first, in their order; then the data; then the length.
"""

import ast
import difflib
import inspect
import math
import os

SMALL_EPOCHS = 30.0
OPTION = 'option.'
DATA = ('cifar10', 'cifar100', 'svhn', 'folder=')  # another data set; the second and third are of some recipes
GENERAL = ('fixed', 'cifar10', 'folder=', 'epochs=')  # '=' where a value belongs


class Small:
    """A network's small-budget form: the side of its images, and the options of the network that go with it."""

    def __init__(self, image_size, **options):
        self.image_size, self.options = image_size, options


class UnknownVariant(ValueError):
    """No variant of that name; `known` are those there are."""

    def __init__(self, message, known=()):
        super().__init__(message)
        self.known = known


def apply(config, variant, small=None, **own):
    """The config, changed as `variant` says.

    Args:
      config: the recipe; it is changed in place.
      variant: the names, separated by commas; '' for none.
      small: the `Small` of a network for large images.
      **own: variants of this recipe: config -> None, or (config, value) -> None for NAME=VALUE; a string is the reason
        why there is none of that name.

    Raises:
      ValueError: an unknown name, a wrong value, or two that contradict each other, in a line.
    """
    name = config.architecture
    own.setdefault('lecture', f"the lecture says nothing of {name}'s training")
    functions = {key + _equals(function): function for key, function in own.items() if not isinstance(function, str)}
    general = [key for key in GENERAL if key != 'fixed' or config.schedule == 'plateau']
    reasons = {key: reason for key, reason in own.items() if isinstance(reason, str)}
    options = [part.partition('=')[0] + '=' for part in variant.split(',') if part.startswith(OPTION)]
    chosen = parse(variant, (*functions, *general, *options), name, reasons)
    for key, value in chosen.items():
        if key in functions:
            functions[key](config, *([] if value is None else [value]))
        elif key.startswith(OPTION):
            config.architecture_options[key[len(OPTION) : -1]] = _value(value)
    if 'fixed' in chosen:
        config.schedule = 'steps'
    if 'cifar10' in chosen:
        _use_cifar10(config, small)
    if 'folder=' in chosen:
        _use_folder(config, small, chosen['folder='])
    if 'epochs=' in chosen:
        _set_length(config, _above_0(chosen['epochs=']))
    elif 'cifar10' in chosen or 'folder=' in chosen:
        _set_length(config, SMALL_EPOCHS)
    return config


def _value(text):
    """The Python value that is written, true and false as in --config.KEY=true, or the text itself where it is none."""
    try:
        return {'true': True, 'false': False}[text] if text in ('true', 'false') else ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _equals(function):
    return '=' if len(inspect.signature(function).parameters) == 2 else ''


def parse(variant, known, of, reasons=None):
    """The parts of a variant: {name: value}, the value None and the name one of `known`, or its text and 'NAME='.

    Args:
      variant: NAME or NAME=VALUE, separated by commas.
      known: the names, with '=' at their end where they take a value.
      of: what they are variants of, for messages.
      reasons: {name: why there is none}.
    """
    chosen = {}
    for part in filter(None, variant.split(',')):
        name, equals, value = part.partition('=')
        key = name + equals
        if name in (reasons or {}):
            raise ValueError(reasons[name])
        if key not in known:
            raise UnknownVariant(_unknown(part, name, known, of), known)
        if key in chosen:
            raise ValueError(f'{name} is there twice in {variant!r}')
        chosen[key] = value if equals else None
    data = [name for name in DATA if name in chosen]
    if len(data) > 1:
        raise ValueError(f'{data[0]} and {data[1]} contradict each other in {variant!r}: keep one of them')
    return chosen


def split(variant, own, of):
    """What of a variant is `own`, and the rest, which is the members': for a series; see `parse`."""
    chosen = parse(variant, (*own, *GENERAL), of)
    rest = ','.join(key + (value or '') for key, value in chosen.items() if key not in own)
    return {key: value for key, value in chosen.items() if key in own}, rest


def _unknown(part, name, known, of):
    if name + '=' in known:
        return f'{name} takes a value: {name}=VALUE'
    if name in known:
        return f'{name} takes no value, and has one in {part!r}'
    close = difflib.get_close_matches(name, [key.removesuffix('=') for key in known], n=1, cutoff=0.5)
    close = f', did you mean {close[0]}?' if close else '.'
    return f'no variant {part!r} of {of}{close} There are: {", ".join(known)}.'


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
    if config.dataset != 'cifar10':  # CIFAR-10's own networks are but shortened
        _set_data(config, 'cifar10', 10)
        _shrink(config, small)


def _use_folder(config, small, folder):
    train = os.path.join(folder, 'train')
    if not os.path.isdir(train):
        raise ValueError(f'no folder {train}: folder=DIR reads DIR/train/CLASS/IMAGE and DIR/test/CLASS/IMAGE')
    with os.scandir(train) as entries:
        classes = sum(entry.is_dir() and not entry.name.startswith('.') for entry in entries)
    _set_data(config, 'folder', classes)
    config.data_dir = folder
    _shrink(config, small)
    if config.crop.kind == 'none':
        config.fit = 'resize'


def _set_data(config, dataset, num_classes):
    config.dataset, config.num_classes, config.channels = dataset, num_classes, 3
    config.train_split, config.test_split = 'train', 'test'


def _shrink(config, small):
    """The recipe of a network for large images, on small ones; what a variant has set of its options stays."""
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
    if config.schedule == 'plateau':
        config.schedule = 'steps'
    config.test_batch_size = 500
    config.log_every_steps = 10
    config.checkpoint_every_steps = 0


def _set_length(config, epochs):
    was = config.num_epochs
    config.learning_rates = tuple((length * epochs / was, rate) for length, rate in config.learning_rates)
    config.decay_every = config.decay_every * epochs / was
    config.plateau.patience = max(1, round(config.plateau.patience * epochs / was))
    if config.recompute_batch_stats:  # no more of it than of the training
        config.recompute_batch_stats = max(10, round(config.recompute_batch_stats * min(1, epochs / was)))
    config.num_epochs = epochs
