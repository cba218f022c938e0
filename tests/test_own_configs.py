"""A user's config file: errors are reported with their line, and nothing in it is ignored."""

import functools

import pytest
from conftest import ROOT

from configs import base, listing, series
from runtime import command_line
from runtime.errors import UserError
from training import unread

FILE = """from configs import lenet5_digits


def get_config(variant=''):
    config = lenet5_digits.get_config()
    {}
    return config
"""
LINES = {  # line 6 of the file: its error
    "config.optimiser = 'adam'": 'line 6: the config has no key optimiser, did you mean optimizer?',
    'config.momentumm = 0.5': 'line 6: the config has no key momentumm, did you mean momentum?',
    "config['momentumm'] = 0.5": 'line 6: the config has no key momentumm, did you mean momentum?',
    'config.update(momentumm=0.5)': 'line 6: the config has no key momentumm, did you mean momentum?',
    "config.colour.jiter = 'fb'": 'line 6: the config has no key jiter, did you mean jitter?',
    'config.colour.jiter': 'line 6: the config has no key jiter, did you mean jitter?',
    "config.colour.update(jiter='fb')": 'line 6: the config has no key jiter, did you mean jitter?',
    'config.test_crop.short_sides = (1, 2)': 'line 6: the config has no key short_sides, did you mean short_side?',
    "config.momentum = 'high'": "line 6: momentum must be of type float, and 'high' is str",
    'config.batch_size = 3.5': "line 6: batch_size must be of type int, and '3.5' is float",
    'config.learning_rates = 0.1': "line 6: learning_rates must be of type tuple, and '0.1' is float",
    'config.colour = 3': "line 6: colour must be of type ConfigDict, and '3' is int",
    'config.batch_size = None': 'batch_size is None; remove the line to use the default',
    '1 / 0': 'line 6: ZeroDivisionError: division by zero',
    'return 3': 'get_config must return the config, not int',
    'return type(config)({"dataset": "mnist"})': 'its config has no key accumulate; start from configs',
    'def (': 'line 6: the config file cannot be read: ',
    'import no_such_module': "line 6: ModuleNotFoundError: No module named 'no_such_module'",
}


@pytest.mark.parametrize('line, says', LINES.items())
def test_an_error_is_reported_with_its_line(tmp_path, line, says):
    file = tmp_path / 'mine.py'
    file.write_text(FILE.format(line))
    with pytest.raises(UserError) as error:
        command_line.read_config(str(file))
    assert str(error.value).startswith(str(file)) and says in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_without_get_config(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text('config = 3\n')
    with pytest.raises(UserError, match=r'mine\.py defines no get_config\(\)'):
        command_line.read_config(str(file))


def test_valid_lines_are_accepted(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(FILE.format('config.momentum = 0; config.architecture_options.anything = 3'))
    config = command_line.read_config(str(file))
    assert config.momentum == 0.0 and type(config.momentum) is float and config.architecture_options.anything == 3


UNREAD = {  # lines of a file: their error
    'config.learning_rate = 7.0': "learning_rate has no effect with schedule='steps': learning_rates counts",
    "config.optimizer = 'adam'; config.momentum = 0.5": "momentum has no effect with optimizer='adam'",
    'config.distortion.versions = 1; config.distortion.shear = 0.1': 'shear has no effect with distortion.versions=1',
    'config.update(average_decay=0.5)': "average_decay has no effect with average='none'",
}


def refused(file):
    """The error for a config file with these lines, or ''."""
    try:
        unread.refuse(command_line.read_config(str(file)), {}, *command_line.set_in_own_file(str(file)))
    except UserError as error:
        return str(error)
    return ''


@pytest.mark.parametrize('line, says', UNREAD.items())
def test_a_line_without_effect_is_refused(tmp_path, line, says):
    file = tmp_path / 'mine.py'
    file.write_text(FILE.format(line))
    assert refused(file).startswith(f'{file}, line 6: {says}')


def test_what_a_recipe_sets_is_not_the_users(tmp_path):
    file = tmp_path / 'mine.py'
    file.write_text(FILE.format("config.schedule, config.optimizer = 'cosine', 'adam'"))  # which has learning_rates
    assert refused(file) == ''


@pytest.mark.parametrize('name', listing.names())
def test_a_copy_of_a_recipe_has_no_such_line(tmp_path, name):
    """Its variants read what it does not: `fixed` the table of rates, a flag the batch that they are for."""
    file = tmp_path / f'{name}.py'
    file.write_bytes((ROOT / 'configs' / f'{name}.py').read_bytes())
    for variant in ('', *(f':{key}' for key in listing.variants_of(name) if not key.endswith('='))):
        assert refused(f'{file}{variant}') == ''


def leaves(config, prefix=''):
    for key, value in config.items():
        yield from (
            leaves(value, f'{prefix}{key}.') if hasattr(value, 'items') and len(value) else [(prefix + key, value)]
        )


@pytest.mark.parametrize(
    'make', [base.get_config, *(functools.partial(listing.load, name) for name in listing.names())]
)
def test_every_config_is_locked_and_typed(make):
    config = make()
    members = [config.members[name] for name in config.order] if 'members' in config else []
    for one in (config, *members):
        inner = [value for key, value in one.items() if hasattr(value, 'items') and key != 'architecture_options']
        for part in (one, *inner):
            with pytest.raises(AttributeError, match='locked'):
                part.no_such_key = 1
        if one is config and members:
            continue
        one.architecture_options.an_option = 1
        for key, value in leaves(one):
            folder, _, name = key.rpartition('.')
            if isinstance(value, (bool, int, float, str)) and folder != 'architecture_options':
                with pytest.raises(TypeError):
                    (one[folder] if folder else one)[name] = 3 if isinstance(value, str) else 'three'


def test_a_series_is_locked_too():
    config = series.create(one=base.get_config())
    with pytest.raises(AttributeError, match='locked'):
        config.dta_dir = ''


def test_words_that_set_a_key_are_found_in_the_variant(monkeypatch):
    """What the message of another run names: `:epochs=60` sets half a dozen keys."""
    given = {'members.two.seed': 3, 'batch_size': 64}
    monkeypatch.setattr(command_line, 'overrides', lambda: given)
    file = f'{ROOT}/configs/alexnet.py:epochs=60,option.lrn=none'
    monkeypatch.setattr(command_line.config_flags, 'get_config_filename', lambda _: file)
    keys = ('num_epochs', 'learning_rates', 'architecture_options.lrn', 'seed', 'momentum', 'batch_size')
    assert command_line.arguments_for(keys) == {
        'num_epochs': ':epochs=60', 'learning_rates': ':epochs=60', 'architecture_options.lrn': ':option.lrn=none',
        'seed': '--config.members.two.seed=3', 'batch_size': '--config.batch_size=64',
    }  # fmt: skip
