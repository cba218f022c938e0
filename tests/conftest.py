"""The process that runs the tests: eight CPU devices, programs that compile fast, and expensive fixtures built once."""

import os
import tempfile

# Before JAX starts. NPROC: with more devices than cores, collectives wait for threads that XLA would not make.
os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=8'
os.environ['NPROC'] = os.environ['PJRT_NPROC'] = '16'
os.environ['JAX_PLATFORMS'] = 'cpu'
# Most of the time of the tests was spent in the compiler. Its optimizations are left out except where a test asks for
# what a user runs (the marker `optimized`), and workers and scripts share what they compiled: a folder of this run
# alone, or JAX_COMPILATION_CACHE_DIR. JAX keys its entries by the program, the options and the versions.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
os.environ['JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES'] = '-1'
if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):  # the workers of pytest-xdist inherit it
    CACHE = tempfile.TemporaryDirectory(prefix='jax-cache-')
    os.environ['JAX_COMPILATION_CACHE_DIR'] = CACHE.name

import contextvars
import dataclasses
import functools
import gc
import json
import shutil
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import absl.flags
import flax.linen as nn
import jax
import pytest
from jax._src import compiler
from warm import Warm

import evaluation
import weights
from architectures import catalogue, inception, layers, resnet, senet, wide_resnet
from configs import lenet5_digits
from runtime import mesh
from training import loop

jax.config.update('jax_numpy_rank_promotion', 'raise')
absl.flags.FLAGS.mark_as_parsed()

ROOT = Path(__file__).parents[1]
MODULE_LOADER = 'ignore:the load_module() method is deprecated:DeprecationWarning'  # how ml_collections loads a config
PYTHON = [sys.executable, '-W', 'error', '-W', MODULE_LOADER]


# Half the time that a deep network takes to compile; JAX 0.12 no longer has the option, and ends at the flag.
QUICK_OPTIONS = {'xla_cpu_use_fusion_emitters': False} if jax.__version_info__ < (0, 11) else {}
QUICK_FLAGS = '--xla_cpu_use_fusion_emitters=false' if QUICK_OPTIONS else ''  # the same for a script


@functools.wraps(compiler.get_compile_options)
def quick_options(*arguments, make=compiler.get_compile_options, **keywords):
    """JAX's options of a program, with `QUICK_OPTIONS` where most optimizations are left out."""
    options = make(*arguments, **keywords)
    if jax.config.read('jax_disable_most_optimizations'):
        options.env_option_overrides = [*options.env_option_overrides, *QUICK_OPTIONS.items()]
    return options


compiler.get_compile_options = quick_options
MODULE = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption('--photographs', type=int, default=2, help='how many test_protocols.py tests')


def pytest_configure(config):
    config.stash[MODULE] = None


def pytest_collection_finish():
    """Takes the modules out of what the garbage collector looks through while networks are traced."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Frees the programs of the module before; compiles for an `optimized` test as for a user."""
    quick = item.get_closest_marker('optimized') is None
    if item.config.stash[MODULE] != item.module or quick != jax.config.read('jax_disable_most_optimizations'):
        jax.config.update('jax_disable_most_optimizations', quick)
        jax.clear_caches()  # its keys know nothing of that flag
    item.config.stash[MODULE] = item.module


@pytest.fixture(autouse=True)
def programs_end_with_a_slow_test(request):
    """Free the programs of a slow test: Linux gives a process 65,530 memory maps, a deep network takes a thousand."""
    yield
    if request.node.get_closest_marker('slow'):
        jax.clear_caches()


def digits(**changes):
    """LeNet-5 on scikit-learn's digits, whose programs are soon compiled."""
    config = lenet5_digits.get_config()
    config.distortion.versions = 1
    config.update(changes)
    return config


def epoch_row(epoch, train_error, test_error):
    """The values of an epoch's row in a log."""
    errors = {'train_error': train_error, 'test_top1_error': test_error, 'test_top5_error': test_error / 2}
    return {'epoch': epoch, 'learning_rate': 0.1, 'train_loss': 2.0, 'test_loss': 2.5, **errors}


def evaluate_folder(config, folder, which='best', protocol='single'):
    """The result of `evaluation.evaluate` of a folder's checkpoint on the config's test split."""
    return evaluation.evaluate(config, evaluation.open_checkpoint(config, folder, which, protocol))[0]


def quickly(trace):
    """Traces in half the seconds: in a thread of its own, for JAX records the stack at every operation and pytest's is
    deep, and without the garbage collector, which would find all in use."""
    gc.disable()
    try:
        with futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(contextvars.copy_context().run, trace).result()
    finally:
        gc.enable()


INCEPTION_MODULES = {'GOOGLENET': ('3b', '4a', '4d', '4e'), 'BN_INCEPTION': ('3a', '3c', '4e', '5b')}


def quarter(patch):
    """Networks of a fourth of the features, fully connected layers of a sixteenth; every layer and classes stay.

    `patch` is a pytest.MonkeyPatch.
    """
    conv, fc, stage = layers.Layers.conv, layers.Layers.fc, resnet.stage

    def narrow_conv(self, name, x, features, *args, groups=1, **kwargs):
        if not isinstance(self.unit, resnet.ResidualBlock):  # what is added must be as wide: see `narrow_stage`
            features = max(features // 4, groups)
        return conv(self, name, x, features, *args, groups=groups, **kwargs)

    def narrow_fc(self, name, x, features, *args, **kwargs):
        return fc(self, name, x, features // 16 if features >= 1000 else features, *args, **kwargs)

    less = {'width': 4, 'features': 4, 'reduce': 2}  # as many as there are groups at least

    def narrow_stage(net, name, kind, depth, options, *args, **kwargs):
        options = {key: value // less[key] if key in less else value for key, value in options.items()}
        return stage(net, name, kind, depth, options, *args, **kwargs)

    patch.setattr(layers.Layers, 'conv', narrow_conv)
    patch.setattr(layers.Layers, 'fc', narrow_fc)
    for module in (resnet, senet, wide_resnet):
        patch.setattr(module, 'stage', narrow_stage)


def narrow(patch):
    """`quarter`, and fewer Inception modules: for tests of what surrounds a network."""
    quarter(patch)
    for table, names in INCEPTION_MODULES.items():
        rows = getattr(inception, table)
        patch.setattr(inception, table, {name: rows[name] for name in names})


class Linear(layers.Network):
    """One fully connected layer over the pixels, and batch norm of them where it is asked for."""

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        return net.logits('fc', net.norm('bn', images), dense, window=images.shape[1])


@pytest.fixture
def linear(monkeypatch):
    """Makes 'linear' a network, of LeNet-5's year: for tests of the loop, whose programs are compiled in no time."""
    entry = dataclasses.replace(catalogue.NETWORKS['lenet5'], module=Linear)
    monkeypatch.setitem(catalogue.NETWORKS, 'linear', entry)


EIGHT = mesh.create, mesh.of_this_process


@pytest.fixture(scope='session', autouse=True)
def one_device():
    """Use one device for the runs and evaluations of this process, which compile faster and replicate nothing."""

    def create(batch_size, devices=None, model=1):
        return EIGHT[0](batch_size, jax.devices()[:1] if devices is None else devices, model)

    mesh.create, mesh.of_this_process = create, lambda: create(1)


@pytest.fixture
def eight_devices(monkeypatch):
    """Runs and evaluations take the eight devices: for tests of sharding."""
    monkeypatch.setattr(mesh, 'create', EIGHT[0])
    monkeypatch.setattr(mesh, 'of_this_process', EIGHT[1])


@pytest.fixture(scope='session')
def digits_run(tmp_path_factory):
    """(config, workdir) of LeNet-5 after some passes over scikit-learn's digits, on one device."""
    config, workdir = digits(num_epochs=3.0, learning_rates=((3, 0.02),)), tmp_path_factory.mktemp('runs') / 'digits'
    loop.train(config, workdir)
    return config, workdir


@pytest.fixture(scope='session')
def warm():
    """Forks for every command (`warm.Warm`), on one device."""
    server = Warm(PYTHON, ROOT, one_device_environment())
    yield server
    server.close()


def one_device_environment():
    """The environment of a script: a user's, but for the platform, the compiler's effort and its cache."""
    kept = {k: v for k, v in os.environ.items() if k not in ('NPROC', 'PJRT_NPROC')}
    return kept | {'XLA_FLAGS': QUICK_FLAGS}


@pytest.fixture
def script(request, warm):
    """Runs a script of the root, on one device: script('train.py', '--config', ...).

    In a fork of a process that has imported the packages. `script.fresh` starts a new interpreter, as a user does.
    """
    env = one_device_environment()
    if request.node.get_closest_marker('optimized'):
        del env['JAX_DISABLE_MOST_OPTIMIZATIONS'], env['XLA_FLAGS']

    def fresh(name, *arguments):
        command = [*PYTHON, name, *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)

    def call(name, *arguments):
        return warm.run(name, *map(str, arguments))

    if request.node.get_closest_marker('optimized'):
        fresh.env, fresh.fresh = env, fresh
        return fresh
    call.env, call.fresh = env, fresh
    return call


@pytest.fixture(scope='session')
def test_data():
    """The folder of real data that `DECADE_TEST_DATA` names; without it the test is skipped."""
    folder = os.environ.get('DECADE_TEST_DATA')
    if not folder or not Path(folder).is_dir():
        pytest.skip('DECADE_TEST_DATA names no folder with real data (CONTRIBUTING.md)')
    return Path(folder)


@pytest.fixture(scope='session')
def converted(tmp_path_factory, test_data):
    """(file of `weights`, network) -> the folder of its checkpoint; skips the test where the file is missing."""
    folder = tmp_path_factory.mktemp('converted')

    def make(file, arch):
        source, out = test_data / 'weights' / file, folder / file
        if not source.is_file():
            pytest.skip(f'{source} is not there')
        if not out.exists():
            weights.convert_file(source, arch, out)
        return out

    return make


@pytest.fixture(scope='session')
def chromium(tmp_path_factory):
    """A headless Chromium without a network, driven by Selenium; without a Chromium the test is skipped."""
    binary = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    driver = shutil.which('chromedriver')
    if not binary or not driver:
        pytest.skip('no Chromium or no chromedriver is installed (CONTRIBUTING.md)')
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        'headless', 'no-sandbox', 'disable-gpu', 'disable-quic', 'no-first-run', 'disable-background-networking',
        'disable-component-update', 'disable-sync', 'window-size=1280,1000', 'host-resolver-rules=MAP * ~NOTFOUND',
        f'user-data-dir={tmp_path_factory.mktemp("chromium")}',
    ):  # fmt: skip
        options.add_argument(f'--{flag}')
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver, log_output=subprocess.DEVNULL))
    browser.get('about:blank')  # not the page of a new tab
    yield browser
    browser.quit()


def page_requests(browser):
    """The addresses that pages in a Chromium (the fixture) requested since the last call, without embedded data."""
    entries = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
    asked = [entry['params']['request']['url'] for entry in entries if entry['method'] == 'Network.requestWillBeSent']
    return [address for address in asked if not address.startswith(('data:', 'chrome'))]
