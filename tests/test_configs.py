"""The recipes: the values that the papers print, and the changes of the variants."""

import functools
import re
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from conftest import ROOT
from ml_collections import ConfigDict, config_flags

import architectures
import papers
from architectures.catalogue import NETWORKS
from configs import base, listing, series, variants
from input_pipeline import datasets
from input_pipeline.pixels import Pixels
from runtime import command_line
from training import run, schedules

GOLDEN = ROOT / 'tests' / 'golden' / 'configs'
NAMES = listing.names()
SERIES = ('alexnet_ensemble', 'decade', 'googlenet_ensemble', 'googlenet_finetuned', 'lenet5_improved', 'vgg_chain')
RECIPES = [name for name in NAMES if name not in SERIES]
SMALL = [name for name in RECIPES if name not in ('lenet5_distorted', 'lenet5_digits')]
IMAGENET, CIFAR10 = 1_281_167, 50_000

load = functools.cache(listing.load)  # not to be changed


def frozen(name):
    return load(name).copy_and_resolve_references()


# As text


golden_texts = functools.cache(listing.golden_texts)
GOLDEN_FILES = listing.golden()


@pytest.mark.parametrize('file', ['base.txt', *GOLDEN_FILES])
def test_golden(file):
    advice = 'if the recipe is to change: python -m configs --write tests/golden/configs'
    assert (GOLDEN / file).is_file(), advice
    assert golden_texts()[file].splitlines() == (GOLDEN / file).read_text().splitlines(), advice


def test_no_golden_text_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == {'base.txt', *GOLDEN_FILES}


def member_files(file):
    """Yield (config, files that it is in, prefixes of its lines) of the config of a golden file, or of its members."""
    recipe, _, variant = GOLDEN_FILES[file].partition(':')
    config, files = load(GOLDEN_FILES[file]), [f'{recipe}.txt', *[file] * bool(variant)]
    if 'members' not in config:
        yield config, files, ('',)
        return
    for name, member in config.members.items():
        is_new = name not in load(recipe).members
        yield member, files[is_new:], ('members.*.', f'members.{name}.')


@pytest.mark.parametrize('file', GOLDEN_FILES)
def test_the_golden_texts_contain_every_value(file):
    """The base, with the changes of the recipe and of the variant, is the resolved config."""
    for config, files, prefixes in member_files(file):
        keys = {}
        for each in ['base.txt', *files]:
            for line in (GOLDEN / each).read_text().splitlines():
                key, value = line.split(': ', 1)
                for prefix in prefixes if each != 'base.txt' else ('',):
                    if key.startswith(prefix):
                        keys[key.removeprefix(prefix)] = value
        keys = {key: value for key, value in keys.items() if value != 'unset'}
        if any(key.startswith('architecture_options.') for key in keys):
            del keys['architecture_options']
        assert listing.text(config) == ''.join(f'{key}: {value}\n' for key, value in sorted(keys.items()))


@pytest.mark.parametrize('name', NAMES)
def test_a_recipe_and_each_member_of_a_series_have_every_key_of_the_base(name):
    config = load(name)
    for member in config.members.values() if 'members' in config else [config]:
        assert set(base.get_config()) == set(member)
        for key, value in base.get_config().items():
            if isinstance(value, ConfigDict) and key != 'architecture_options':
                assert set(value) == set(member[key])


def test_every_network_has_a_recipe_of_its_name():
    assert set(architectures.names()) <= set(NAMES)
    for name in architectures.names():
        assert load(name).architecture == name


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_can_be_run(name):
    for variant in ('', ':epochs=2') + (':cifar10',) * (name in SMALL):
        config = load(name + variant)
        assert config.reference_batch_size == config.batch_size
        run.check(config)
        run.build_model(config)
        _ = Pixels(config).train_form, Pixels(config).test_form
        group = config.architecture_options.get('group_size', 0)
        assert not group or config.batch_size % group == 0


@pytest.mark.parametrize('name', [name for name in architectures.names() if not name.startswith('lenet')])
def test_a_docstring_has_the_published_error_and_the_arithmetic(name):
    config, entry, text = load(name), NETWORKS[name], ' '.join(listing.docstring(name).split())
    if not entry.unpublished:
        top1, top5, *_ = papers.HEADLINES[name]
        assert top1 is None or re.search(rf'top-1 {top1}\b', text)
        assert top5 is None or re.search(rf'top-5 {top5}\b', text)
    examples = IMAGENET if config.dataset == 'imagenet' else CIFAR10
    operations, seconds = re.search(r'by arithmetic (\S+) FLOP, (\S+ \w+) at 100 TFLOP/s', text).groups()
    exact = 6 * entry.multiply_adds * examples * config.num_epochs
    assert float(operations) == float(f'{exact:.1e}')
    number, unit = seconds.split()
    unit = {'seconds': 1, 'minutes': 60, 'hours': 3600, 'days': 86_400}[unit]
    assert abs(float(number) * unit - exact / 1e14) < unit
    assert f'--config configs/{name}.py' in text


def test_each_is_listed_in_a_line_and_printed_on_demand():
    listed = subprocess.run([sys.executable, '-m', 'configs'], cwd=ROOT, capture_output=True, text=True).stdout
    assert [line.split()[0] for line in listed.splitlines()[: len(NAMES)]] == list(NAMES)
    assert '[s384, jitter, printed, lecture, fixed]' in listed
    printed = subprocess.run(
        [sys.executable, '-m', 'configs', 'alexnet:lecture'], cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert printed == listing.text(load('alexnet:lecture')) and "crop.kind: 'random'\n" in printed
    wrong = subprocess.run([sys.executable, '-m', 'configs', 'alexnt'], cwd=ROOT, capture_output=True, text=True)
    (line,) = wrong.stderr.splitlines()
    assert wrong.returncode == 2 and 'did you mean alexnet?' in line


# The papers' tables

BY_THREE = ((40, 0.1), (40, 0.01), (40, 0.001))
FB_90 = ((30, 0.1), (30, 0.01), (30, 0.001))
FB_100 = (*FB_90, (10, 0.0001))
QUARTERS = (0.01, 0.001, 0.0001, 0.00001)
ITERATIONS = ((32_000, 0.1), (16_000, 0.01), (16_000, 0.001))  # of CIFAR's ResNets, in steps
PLATEAUS = {  # the first rate, drops, epochs
    'alexnet': (0.01, 3, 90),
    'alexnet_owt': (0.01, 3, 90),
    'zfnet': (0.01, 3, 70),
    'zfnet_wide': (0.01, 3, 70),
    **{f'vgg_{column}': (0.01, 3, 74) for column in ('a', 'a_lrn', 'b', 'c', 'd', 'e')},
    **{f'prelu_net_{model}': (0.01, 2, 80) for model in 'abc'},
    **{f'resnet{depth}': (0.1, 2, 120) for depth in (18, 34, 50, 101, 152)},
    **{f'plain{depth}': (0.1, 2, 120) for depth in (18, 34)},
}
TABLES = {  # (epochs, rate)
    'alexnet:fixed': [(22.5, rate) for rate in QUARTERS],
    'alexnet_owt:fixed': [(22.5, rate) for rate in QUARTERS],
    'zfnet:fixed': [(17.5, rate) for rate in QUARTERS],
    'overfeat_fast': [(30, 0.05), (20, 0.025), (10, 0.0125), (10, 0.00625), (10, 0.003125), (10, 0.0015625)],
    'overfeat_accurate': [(30, 0.05), (20, 0.025), (10, 0.0125), (10, 0.00625), (10, 0.003125), (10, 0.0015625)],
    'vgg_d:fixed': list(zip((37, 18.5, 11.1, 7.4), QUARTERS, strict=True)),
    'vgg_d:s384,fixed': list(zip((37, 18.5, 11.1, 7.4), (0.001, 0.0001, 0.00001, 0.000001), strict=True)),
    'vgg_d:lecture,fixed': list(zip((37, 18.5, 11.1, 7.4), (0.1, 0.01, 0.001, 0.0001), strict=True)),
    'prelu_net_a:fixed': [(40, 0.01), (20, 0.001), (20, 0.0001)],
    'resnet18:fixed': BY_THREE,
    'resnet50:fixed': BY_THREE,
    'wide_resnet50_2': FB_90,
    'wrn_28_10': [(60, 0.1), (60, 0.02), (40, 0.004), (40, 0.0008)],
    'wrn_40_4': [(60, 0.1), (60, 0.02), (40, 0.004), (40, 0.0008)],
    'resnext50_32x4d': FB_100,
    'resnext101_64x4d': FB_100,
    'densenet121': FB_90,
    'densenet264': FB_90,
    'densenet161': FB_100,
    'densenet_bc_100_12': [(150, 0.1), (75, 0.01), (75, 0.001)],
    'se_resnet50': [(30, 0.6), (30, 0.06), (30, 0.006), (10, 0.0006)],
    'se_resnext101_32x4d': [(30, 0.6), (30, 0.06), (30, 0.006), (10, 0.0006)],
    'senet154': [(30, 1.0), (30, 0.1), (30, 0.01), (10, 0.001)],
}


def schedule_of(config, num_examples):
    """(step -> rate, epochs -> step), as a run has them."""
    steps_at = functools.partial(schedules.steps_at, num_examples=num_examples, batch_size=config.batch_size)
    schedule = schedules.create(
        config.schedule, config.learning_rates, config.learning_rate, config.decay_factor, config.decay_every,
        config.decay_power, config.num_epochs, num_examples, config.batch_size,
    )  # fmt: skip
    return schedule, steps_at


def check_table(schedule, ends, rates, total):
    """The rate changes at just these steps."""
    assert ends[-1] == total
    for start, stop, rate in zip((0, *ends), ends, rates, strict=False):
        for step in (start, (start + stop) // 2, stop - 1):
            assert float(schedule(step)) == pytest.approx(rate, rel=1e-6), step


@pytest.mark.parametrize('name', TABLES)
def test_rates_are_the_papers(name):
    config = load(name)
    schedule, steps_at = schedule_of(config, IMAGENET if config.dataset == 'imagenet' else CIFAR10)
    epochs = [sum(length for length, _ in TABLES[name][:end]) for end in range(1, len(TABLES[name]) + 1)]
    rates = [rate for _, rate in TABLES[name]]
    check_table(schedule, [steps_at(epoch) for epoch in epochs], rates, steps_at(config.num_epochs))


@pytest.mark.parametrize('name', [f'{kind}{depth}' for kind in ('resnet', 'plain') for depth in (20, 32, 44, 56)])
def test_cifars_resnets_count_in_steps(name):
    schedule, steps_at = schedule_of(load(name), CIFAR10)
    check_table(schedule, [32_000, 48_000, 64_000], [0.1, 0.01, 0.001], steps_at(load(name).num_epochs))


@pytest.mark.parametrize('name', PLATEAUS)
def test_rates_that_the_papers_divided_by_hand(name):
    config, (rate, drops, epochs) = load(name), PLATEAUS[name]
    assert (config.schedule, config.learning_rate, config.num_epochs) == ('plateau', rate, epochs)
    plateau = config.plateau
    assert (plateau.metric, plateau.factor, plateau.drops) == ('test_top1_error', 0.1, drops)
    assert (plateau.patience, plateau.threshold) == (5, 0.1)
    fixed = load(f'{name}:fixed')  # the same drops, over the same length
    assert fixed.schedule == 'steps' and [rate for _, rate in fixed.learning_rates] == pytest.approx(
        [rate * 0.1**drop for drop in range(drops + 1)]
    )
    assert sum(length for length, _ in fixed.learning_rates) == pytest.approx(epochs)


def test_no_other_recipe_waits_for_plateaus():
    assert {name for name in RECIPES if load(name).schedule == 'plateau'} == set(PLATEAUS)


def test_googlenet_takes_0_96_every_8_epochs():
    schedule, _ = schedule_of(load('googlenet'), IMAGENET)
    for epoch in (0, 7, 8, 15, 16, 100, 249):
        step = -(-epoch * IMAGENET // 32)
        assert float(schedule(step)) == pytest.approx(0.01 * 0.96 ** (epoch // 8), rel=1e-5)
    assert load('googlenet').num_epochs == 250


def test_bn_inception_takes_6_million_steps_from_30_times_the_rate_and_6_times_as_fast():
    config = load('bn_inception')
    schedule, steps_at = schedule_of(config, IMAGENET)
    assert steps_at(config.num_epochs) == 6_000_000
    assert float(schedule(0)) == pytest.approx(30 * 0.0015)
    assert float(schedule(steps_at(8) + 1)) == pytest.approx(30 * 0.0015 * 0.96**6, rel=1e-5)


@pytest.mark.parametrize(
    'names, batch, optimizer, momentum, inside, decayed, decay, group',
    [
        (('alexnet', 'alexnet_owt'), 128, 'momentum', 0.9, True, 'weights', 5e-4, 0),
        (('zfnet', 'zfnet_wide'), 128, 'momentum', 0.9, True, 'weights', 5e-4, 0),
        (('overfeat_fast', 'overfeat_accurate'), 128, 'momentum', 0.6, False, 'all', 1e-5, 0),
        (('googlenet',), 32, 'momentum', 0.9, True, 'weights', 2e-4, 0),
        (('bn_inception',), 32, 'momentum', 0.9, False, 'weights', 4e-5, 32),
        (('vgg_a', 'vgg_b', 'vgg_e'), 256, 'momentum', 0.9, True, 'weights', 5e-4, 0),
        (('prelu_net_a', 'prelu_net_c'), 128, 'momentum', 0.9, True, 'weights', 5e-4, 0),
        (('resnet18', 'resnet152', 'plain34'), 256, 'momentum', 0.9, True, 'weights', 1e-4, 32),
        (('resnet20', 'resnet1202', 'plain56'), 128, 'momentum', 0.9, True, 'weights', 1e-4, 64),
        (('wrn_28_10', 'wrn_40_4'), 128, 'nesterov', 0.9, False, 'all', 5e-4, 128),
        (('wide_resnet50_2',), 256, 'nesterov', 0.9, False, 'all', 1e-4, 32),
        (('resnext50_32x4d', 'resnext101_64x4d'), 256, 'nesterov', 0.9, False, 'all', 1e-4, 32),
        (('densenet121', 'densenet264'), 256, 'nesterov', 0.9, False, 'all', 1e-4, 64),
        (('densenet161',), 128, 'nesterov', 0.9, False, 'all', 1e-4, 32),
        (('densenet_bc_100_12',), 64, 'nesterov', 0.9, False, 'all', 1e-4, 64),
        (('se_resnet50', 'se_resnext101_32x4d'), 1024, 'momentum', 0.9, True, 'weights', 1e-4, 32),
        (('senet154',), 2048, 'momentum', 0.9, True, 'weights', 1e-4, 32),
    ],
)
def test_optimizers_are_the_papers(names, batch, optimizer, momentum, inside, decayed, decay, group):
    for name in names:
        config = load(name)
        assert (config.batch_size, config.optimizer, config.momentum) == (batch, optimizer, momentum)
        assert (config.rate_inside, config.decayed, config.weight_decay) == (inside, decayed, decay)
        assert config.architecture_options.get('group_size', 0) == group


def having(key, default):
    """The recipes that have a key at another value than the default."""
    values = {name: frozen(name) for name in RECIPES}
    for part in key.split('.'):
        values = {name: value[part] for name, value in values.items()}
    return {name: value for name, value in values.items() if value != default}


def test_what_one_paper_alone_does():
    assert having('filter_rms', 0.0) == {'zfnet': 0.1, 'zfnet_wide': 0.1}
    assert having('label_smoothing', 0.0) == {'senet154': 0.1}
    assert having('average', 'none') == {'googlenet': 'ema'}
    assert having('bias_rate', 1.0) == {'googlenet': 2.0, 'lenet_caffe': 2.0}
    assert having('warmup.learning_rate', 0.0) == {'resnet110': 0.01, 'resnet1202': 0.01}
    assert having('colour.padding_mode', 'zero') == {'wrn_28_10': 'reflect', 'wrn_40_4': 'reflect'}
    assert set(having('init_layers', ())) == {'vgg_b', 'vgg_c', 'vgg_d', 'vgg_e'}
    by_he = {f'{kind}{depth}' for kind in ('resnet', 'plain') for depth in (18, 20, 32, 34, 44, 56)}
    by_he |= {f'resnet{depth}' for depth in (50, 101, 152, 110, 1202)}
    assert having('recompute_batch_stats', 0) == dict.fromkeys(by_he, 200)


@pytest.mark.parametrize(
    'name, crop, short_side, size, jitter, lighting, normalize',
    [
        ('alexnet', 'random', (256, 256), 227, 'none', 'cc2', 'mean_image'),
        ('alexnet_owt', 'random', (256, 256), 224, 'none', 'cc2', 'mean_image'),
        ('zfnet', 'one_of_five', (256, 256), 224, 'none', 'none', 'mean_image'),
        ('overfeat_fast', 'random', (256, 256), 231, 'none', 'none', 'constant'),
        ('overfeat_accurate', 'random', (256, 256), 221, 'none', 'none', 'constant'),
        ('googlenet', 'area', None, 224, 'howard', 'cc2', 'constant'),
        ('bn_inception', 'area', None, 224, 'howard', 'cc2', 'constant'),
        ('vgg_e', 'random', (256, 256), 224, 'none', 'cc2', 'constant'),
        ('vgg_e:s384', 'random', (384, 384), 224, 'none', 'cc2', 'constant'),
        ('vgg_e:jitter', 'random', (256, 512), 224, 'none', 'cc2', 'constant'),
        ('prelu_net_b', 'random', (256, 512), 224, 'none', 'cc2', 'channel_mean_std'),
        ('resnet101', 'random', (256, 480), 224, 'none', 'fb', 'mean_image'),
        ('resnet56', 'none', None, 32, 'none', 'none', 'mean_image'),
        ('wrn_28_10', 'none', None, 32, 'none', 'none', 'constant'),
        ('wide_resnet50_2', 'area', None, 224, 'fb', 'fb', 'constant'),
        ('resnext101_32x4d', 'area', None, 224, 'fb', 'fb', 'constant'),
        ('densenet201', 'area', None, 224, 'fb', 'fb', 'constant'),
        ('densenet_bc_100_12', 'none', None, 32, 'none', 'none', 'constant'),
        ('se_resnet152', 'area', None, 224, 'none', 'none', 'channel_mean'),
        ('senet154', 'area', None, 224, 'none', 'none', 'channel_mean'),
    ],
)
def test_images_are_the_papers(name, crop, short_side, size, jitter, lighting, normalize):
    config = load(name)
    assert (config.crop.kind, config.image_size, config.normalize) == (crop, size, normalize)
    assert (config.colour.jitter, config.colour.lighting, config.colour.flip) == (jitter, lighting, True)
    assert short_side is None or config.crop.short_side == short_side
    assert config.crop.square == name.startswith(('alexnet', 'zfnet'))
    assert config.colour.padding == (4 if size == 32 else 0)


# Variants


@pytest.mark.parametrize(
    'name', ['alexnet', 'vgg_d', 'overfeat_fast', 'googlenet', 'resnet20', 'wrn_28_10', 'senet154']
)
def test_the_drops_of_a_shorter_run_stay_at_the_same_parts_of_it(name):
    whole = load(f'{name}:fixed' if load(name).schedule == 'plateau' else name)
    for variant, epochs in (('epochs=7.5', 7.5), ('cifar10', 30), ('cifar10,epochs=3', 3), ('epochs=3,cifar10', 3)):
        config = load(f'{name}:{variant}')
        assert config.num_epochs == epochs
        assert config.decay_every / epochs == pytest.approx(whole.decay_every / whole.num_epochs)
        for (length, rate), (whole_length, whole_rate) in zip(config.learning_rates, whole.learning_rates, strict=True):
            assert rate == whole_rate and length / epochs == pytest.approx(whole_length / whole.num_epochs)
    assert load('alexnet:epochs=7.5').plateau.patience == 1 and load('alexnet:epochs=180').plateau.patience == 10


def differences(name, other):
    """{key: the other's value} where two configs differ, as text has them."""
    one, two = (dict(line.split(': ', 1) for line in listing.text(load(n)).splitlines()) for n in (name, other))
    return {key: two.get(key) for key in one.keys() | two.keys() if one.get(key) != two.get(key)}


def leaves(config, prefix=''):
    """(path, value) of every value of a config."""
    for key, value in config.items():
        yield from leaves(value, f'{prefix}{key}.') if isinstance(value, ConfigDict) else [(prefix + key, value)]


def test_an_option_of_the_network():
    assert differences('alexnet', 'alexnet:option.hidden_bias=0.1,option.lrn=caffe') == {
        'architecture_options': None,
        'architecture_options.hidden_bias': '0.1',
        'architecture_options.lrn': "'caffe'",
    }
    options = load('vgg_a:option.initializer=gaussian_0.01,cifar10').architecture_options
    assert options.to_dict() == {'initializer': 'gaussian_0.01', 'window': 1}
    options = load('resnet18:option.batch_norm=false,option.preactivation=true').architecture_options
    assert options.batch_norm is False and options.preactivation is True


def test_fixed_changes_the_schedule_alone():
    assert differences('vgg_a', 'vgg_a:fixed') == {'schedule': "'steps'"}


def test_the_small_form_keeps_what_it_does_not_have_to_change():
    assert differences('vgg_d:fixed', 'vgg_d:cifar10') == {
        'architecture_options.window': '1',
        'checkpoint_every_steps': '0',
        'crop.short_side': '(37, 37)',
        'dataset': "'cifar10'",
        'decay_every': repr(8 * 30 / 74),
        'image_size': '32',
        'learning_rates': '((15.0, 0.01), (7.5, 0.001), (4.5, 0.0001), (3.0, 1e-05))',
        'log_every_steps': '10',
        'num_classes': '10',
        'num_epochs': '30.0',
        'plateau.patience': '2',
        'test_batch_size': '500',
        'test_crop.short_side': '(37, 37)',
        'test_split': "'test'",
    }


def test_networks_of_cifar_are_but_shortened_on_cifar():
    changed = set(differences('resnet20', 'resnet20:cifar10'))
    assert changed == {'num_epochs', 'learning_rates', 'decay_every', 'plateau.patience', 'recompute_batch_stats'}


def test_variants_on_other_small_images():
    assert differences('wrn_40_4', 'wrn_40_4:cifar100') == {'dataset': "'cifar100'", 'num_classes': '100'}
    of_densenet = differences('densenet_bc_100_12', 'densenet_bc_100_12:cifar100')
    assert of_densenet['mean'] == of_densenet['std'] == "'cifar100'"  # the authors of WRN keep CIFAR-10's
    config = load('densenet_bc_100_12:svhn')
    assert config.learning_rates == ((20, 0.1), (10, 0.01), (10, 0.001)) and config.num_epochs == 40
    assert config.pixel_range == (0, 1) and config.normalize == 'range' and not config.colour.flip
    for name in ('wrn_28_10:cifar100', 'densenet_bc_100_12:cifar100', 'densenet_bc_100_12:svhn'):
        config = load(name)
        run.check(config)
        assert len(datasets.find(config.dataset).class_names) == config.num_classes


def test_a_folder(tmp_path):
    for name in ('train/cat', 'train/dog', 'train/eel', 'train/.hidden', 'test/cat'):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / 'train' / 'README').touch()
    for name, size in (('resnet50', 64), ('googlenet', 80), ('resnet20', 32), ('lenet5', 32)):
        config = listing.load(f'{name}:folder={tmp_path},small,epochs=2')
        assert (config.dataset, config.data_dir, config.num_classes) == ('folder', str(tmp_path), 3)
        assert (config.train_split, config.test_split, config.channels) == ('train', 'test', 3)
        assert (config.image_size, config.num_epochs) == (size, 2)
        assert config.fit == ('resize' if size == 32 else 'pad')
    assert listing.load(f'lenet5:folder={tmp_path}').optimizer == 'sgd'  # SDLM samples from memory
    decade = listing.load(f'decade:folder={tmp_path}')
    assert {decade.members[name].data_dir for name in decade.order} == {str(tmp_path)}


@pytest.mark.parametrize(
    'name, says',
    [
        (
            'alexnet:lectur',
            'no variant .lectur. of alexnet, did you mean lecture. Known: lecture, cuda_convnet2, unscaled, ',
        ),
        ('alexnet:smoll', 'no variant .smoll. of alexnet, did you mean small. Known: lecture'),
        ('alexnet:cifar10,folder=/tmp', 'contradict each other'),
        ('wrn_28_10:cifar10,cifar100', 'cifar10 and cifar100 contradict each other'),
        ('alexnet:folder=/nowhere', 'no folder /nowhere: pass folder=DIR'),
        ('alexnet:epochs=0', "epochs must be a number above 0, not '0'"),
        ('alexnet:epochs=nan', "not 'nan'"),
        ('alexnet:epochs=inf', "not 'inf'"),
        ('alexnet:epochs=many', "not 'many'"),
        ('alexnet:epochs', 'epochs takes a value'),
        ('alexnet:epochs=1,epochs=2', 'epochs occurs twice'),
        ('alexnet:cifar10=2', 'cifar10 takes no value'),
        ('resnet18:shortcut', 'shortcut takes a value'),
        ('googlenet:fixed', 'no variant .fixed. of googlenet'),
        ('googlenet:lecture', 'the lecture says nothing about training googlenet'),
        ('senet154:lecture', 'the lecture says nothing about training senet154'),
        ('lenet5_1998:lecture', 'configs/lenet5.py:lecture'),
        ('vgg_chain:printed', 'no variant .printed. of vgg_chain.* Known: lecture'),
        ('decade:cifar10', 'no variant .cifar10. of decade'),
        ('alexnet_ensemble:lecture,seven', 'seven and lecture contradict each other'),
        ('alexnt', 'no recipe .alexnt., did you mean alexnet.'),
    ],
)
def test_what_a_user_gets_wrong_is_reported_in_one_line(name, says):
    with pytest.raises(ValueError, match=says) as error:
        listing.load(name)
    assert len(str(error.value).splitlines()) == 1


def test_a_recipe_is_found_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = f'{ROOT}/configs/alexnet.py'
    for name in ('alexnet', 'alexnet.py', 'configs/alexnet.py'):
        for variant in ('', ':cifar10,folder=alexnet'):
            spaced, joined = ['x', '--config', name + variant], ['x', f'--config={name}{variant}', '--a']
            assert command_line._with_recipes(spaced) == ['x', '--config', recipe + variant]
            assert command_line._with_recipes(joined) == ['x', f'--config={recipe}{variant}', '--a']
    for other in (['x', '--config', 'mine/alexnet.py'], ['x', '--config'], ['x', '--config=none'], ['x', 'alexnet']):
        assert command_line._with_recipes(other) == other
    (tmp_path / 'alexnet.py').write_text('')  # the user's own
    assert command_line._with_recipes(['x', '--config', 'alexnet.py']) == ['x', '--config', 'alexnet.py']


def test_the_scripts_say_so_too_and_name_runs_by_their_variants():
    argv = [sys.executable, 'train.py', '--config', 'configs/alexnet.py:epochs=0']
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "train.py: error: epochs must be a number above 0, not '0'\n"
    assert command_line.run_name('configs/alexnet.py') == 'alexnet'
    assert command_line.run_name('configs/vgg_d.py:s384') == 'vgg_d_s384'
    assert (
        command_line.run_name('alexnet.py:lecture,folder=/a/b.c/,epochs=3') == 'alexnet_lecture_folder_a_b.c_epochs_3'
    )


def test_own_variants_come_first_and_what_they_set_of_the_network_stays():
    config = load('vgg_d:cifar10,lecture')
    assert config.architecture_options.initializer == 'gaussian_0.316'
    assert config.crop.short_side == (37, 73) and config.crop.ends_only
    assert load('vgg_d:cifar10,s384').crop.short_side == (55, 55)
    assert load('resnet34:shortcut=C').architecture_options.shortcut == 'C'


# The lecture's values


def test_the_lectures_alexnet():
    assert differences('alexnet', 'alexnet:lecture') == {
        'architecture_options': None,
        'architecture_options.groups': '1',
        'architecture_options.hidden_bias': '0.0',
        'architecture_options.pool_before_norm': 'True',
        'crop.square': 'False',
        'crop.warp': 'True',
        'plateau.metric': "'train_loss'",
        'plateau.threshold': '0.01',
        'test_crop.square': 'False',
        'test_crop.warp': 'True',
    }


def test_the_lectures_zfnet():
    assert load('zfnet:lecture').architecture_options.widths == (512, 1024, 512)
    assert listing.text(load('zfnet:lecture')).replace("'zfnet'", "'zfnet_wide'") == listing.text(
        load('zfnet_wide:lecture')
    )


def test_the_lectures_vgg():
    assert differences('vgg_e', 'vgg_e:lecture') == {
        'architecture_options.initializer': "'gaussian_0.316'",
        'colour.lighting': "'none'",
        'crop.ends_only': 'True',
        'crop.short_side': '(256, 512)',
        'init_layers': '()',
        'learning_rate': '0.1',
        'learning_rates': '((37, 0.1), (18.5, 0.01), (11.1, 0.001), (7.4, 0.0001))',
        'test_crop.short_side': '(384, 384)',
        'weight_decay': '0.005',
    }


def test_the_lectures_resnet_and_lenet():
    assert differences('resnet152', 'resnet152:lecture') == {'weight_decay': '1e-05'}
    assert differences('lenet5', 'lenet5:lecture') == {}  # whose slide is true
    tanh = {'architecture_options.activation': "'tanh'"}
    assert differences('lenet5', 'lenet5:lecture_tanh') == tanh
    assert differences('lenet5', 'lenet5:lecture_sgd') == {**tanh, 'optimizer': "'sgd'"}
    for name in ('lecture', 'lecture_tanh', 'lecture_sgd'):
        config = load(f'lenet5:{name}')
        assert config.learning_rates == ((2, 5e-4), (3, 2e-4), (4, 5e-5), (11, 1e-5)) and config.batch_size == 1


# Series


@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')  # ml_collections'
def test_an_override_of_a_shared_key_reaches_every_member_and_one_of_a_member_stays_there():
    values, argv = flags.FlagValues(), ['train.py', f'--config={ROOT}/configs/alexnet_ensemble.py:seven']
    argv += ['--config.data_dir=/data', '--config.workers=3', '--config.fall_data_dir=/fall']
    argv += ['--config.members.alexnet_3.num_epochs=2']
    flag = config_flags.DEFINE_config_file('config', lock_config=True, flag_values=values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', argv)
        values(argv)
    config = flag.value
    folders = {name: config.members[name].data_dir for name in config.order}
    assert folders.pop('fall') == '/fall' and set(folders.values()) == {'/data'}
    assert {config.members[name].workers for name in config.order} == {3}
    assert [name for name in config.order if config.members[name].num_epochs == 2] == ['alexnet_3']
    assert '/data' in config.to_json_best_effort()


@pytest.mark.parametrize('name', [*SERIES, 'vgg_chain:lecture', 'alexnet_ensemble:seven', 'alexnet_ensemble:lecture'])
def test_members_start_from_earlier_ones(name):
    config = load(name)
    assert set(config.order) == set(config.members)
    for number, member in enumerate(config.order):
        before = config.members[member].init_from
        assert not before or before in config.order[:number] or before == 'runs/bvlc_googlenet'
        for key in series.SHARED:
            assert key in config


def test_vggs_stages():
    chain = load('vgg_chain')
    assert {name: chain.members[name].init_from for name in chain.order} == {
        **{'vgg_a': '', 'vgg_b': 'vgg_a', 'vgg_c': 'vgg_a', 'vgg_d': 'vgg_a', 'vgg_e': 'vgg_a'},
        **{'vgg_c_s384': 'vgg_c', 'vgg_d_s384': 'vgg_d', 'vgg_e_s384': 'vgg_e'},
        **{'vgg_c_jitter': 'vgg_c_s384', 'vgg_d_jitter': 'vgg_d_s384', 'vgg_e_jitter': 'vgg_e_s384'},
    }
    assert chain.members.vgg_c.init_layers == ('conv1_1', 'conv2_1', 'conv3_1', 'conv3_2', 'fc6', 'fc7', 'fc8')
    assert chain.members.vgg_c_s384.init_layers == () and chain.members.vgg_c_s384.learning_rate == 0.001
    lecture = load('vgg_chain:lecture')
    befores = {name: lecture.members[name].init_from for name in lecture.order}
    assert befores == {'vgg_a': '', 'vgg_b': 'vgg_a', 'vgg_c': 'vgg_b', 'vgg_d': 'vgg_b', 'vgg_e': 'vgg_d'}
    assert all(lecture.members[name].init_layers == () for name in lecture.order)
    small = load('vgg_chain:cifar10,epochs=2')
    assert all(small.members[name].num_epochs == 2 and small.members[name].image_size == 32 for name in small.order)


def test_ensembles():
    seven = load('googlenet_ensemble')
    assert [(seven.members[name].seed, seven.members[name].data_seed) for name in seven.order] == [
        (0, number) for number in range(7)
    ]
    assert [load('alexnet_ensemble').members[name].seed for name in load('alexnet_ensemble').order] == list(range(5))
    alexnets = load('alexnet_ensemble:seven')
    assert len(alexnets.order) == 8 and alexnets.members.fall.num_classes == 21_841
    for name in alexnets.order:
        assert alexnets.members[name].architecture_options.get('extra_conv', False) == (
            name in ('fall', 'alexnet_5', 'alexnet_6')
        )
    lecture = load('alexnet_ensemble:lecture')
    assert len(lecture.order) == 7 and len({lecture.members[name].seed for name in lecture.order}) == 7


def test_the_lectures_plan_is_one_change_at_a_time():
    config = load('lenet5_improved')
    members = {name: config.members[name].copy_and_resolve_references() for name in config.order}

    def changes(before, after):
        before, after = (dict(leaves(members[name])) for name in (before, after))
        return {key: after.get(key) for key in before | after if before.get(key) != after.get(key)}

    of_32 = ((2, 0.016), (3, 0.0064), (4, 0.0016), (11, 0.00032))
    every_32 = dict.fromkeys(('batch_size', 'reference_batch_size'), 32)
    assert members['lecture'].optimizer == 'sgd' and members['lecture'].architecture_options.activation == 'tanh'
    assert changes('lecture', 'activation') == {'architecture_options.activation': 'relu'}
    assert changes('activation', 'initialization') == {'architecture_options.initializer': 'he_fan_in'}
    batches = changes('initialization', 'batches')
    assert {key: batches.pop(key) for key in ('log_every_steps', 'steps_per_dispatch')}
    np.testing.assert_allclose(batches.pop('learning_rates'), of_32)
    assert batches == every_32
    assert changes('batches', 'batch_norm') == {'architecture_options.batch_norm': True}
    assert changes('batch_norm', 'momentum') == {'optimizer': 'momentum'}
    adam = changes('momentum', 'adam')
    assert adam.pop('optimizer') == 'adam' and set(adam) == {'learning_rates'}
    np.testing.assert_allclose(np.divide(adam['learning_rates'], members['lecture'].learning_rates)[:, 1], 2)
    assert changes('adam', 'flip') == {'colour.flip': True}
    assert changes('adam', 'dropout') == {'architecture_options.dropout': 0.5}  # digits are not flipped
    for seed in (1, 2):
        assert changes('dropout', f'seed_{seed}') == {'seed': seed}
    photographs = load('lenet5_improved:cifar10').members
    assert photographs.dropout.colour.flip and not photographs.adam.colour.flip


def test_the_decade_is_in_its_order_and_each_in_its_small_form():
    decade = load('decade')
    years = [NETWORKS[name].year for name in decade.order]
    assert len(years) == 13 and years == sorted(years)
    for name in decade.order:
        member = decade.members[name]
        assert (member.dataset, member.num_classes, member.num_epochs) == ('cifar10', 10, 30)
    assert {load('decade:epochs=2').members[name].num_epochs for name in decade.order} == {2}
    smallest = load('decade:smallest').members
    assert (smallest.lenet5.num_epochs, smallest.alexnet.num_epochs, smallest.resnet18.num_epochs) == (0.25, 1.5, 0.5)
    with pytest.raises(ValueError, match='smallest and epochs= contradict each other'):
        load('decade:smallest,epochs=2')


def test_a_variant_changes_no_other_config():
    before = listing.text(listing.load('alexnet'))
    listing.load('alexnet:lecture,cifar10')
    assert listing.text(listing.load('alexnet')) == before


def test_an_unknown_variant_tells_what_there_is():
    with pytest.raises(variants.UnknownVariant) as error:
        listing.load('vgg_d:?')
    general = ('fixed', 'cifar10', 'folder=', 'small', 'finetune', 'epochs=')
    assert error.value.known == ('s384', 'jitter', 'printed', 'lecture', *general)
