"""Ctrl-C and SIGTERM at any moment: the process ends, with a line and its exit code."""

import ast
import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent import futures

import pytest
from conftest import ROOT

from runtime import interrupts

SCRIPTS = ('train.py', 'evaluate.py', 'predict.py', 'convert.py', 'visualize.py', 'data.py')
COMMANDS = ('benchmark.py', 'architectures/__main__.py', 'evaluation/published.py')


def run(code):
    """The exit code, output and errors of a program that listens first."""
    program = f'from runtime import interrupts; interrupts.listen()\nimport os, signal, weakref\n{code}'
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


SWALLOWS = """
class Thing:
    pass

thing = Thing()
held = weakref.ref(thing, lambda _: signal.raise_signal(signal.{}))  # where an exception is printed and lost
del thing
print('went on')
"""
CONVERTS = """
try:
    signal.raise_signal(signal.SIGINT)
except BaseException:
    raise ImportError('a library could not be loaded')
"""


@pytest.mark.parametrize(
    'code, number', [(SWALLOWS.format('SIGINT'), 130), (SWALLOWS.format('SIGTERM'), 143), (CONVERTS, 130)]
)
def test_a_signal_in_a_callback_or_an_import_ends_the_process(code, number):
    returned, out, errors = run(f"print('before')\n{code}")
    assert (returned, out, errors) == (number, 'before\n', '-c: interrupted\n')


def test_a_signal_is_raised_where_there_is_something_to_clean_up():
    held = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as error, interrupts.Raised():
        signal.raise_signal(signal.SIGTERM)
    assert error.value.args == (signal.SIGTERM,) and signal.getsignal(signal.SIGINT) is held
    with pytest.raises(KeyboardInterrupt), interrupts.Raised():  # an import that replaced it by another error
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError from None
    with interrupts.Raised() as interrupt:
        interrupt.check()
        with contextlib.suppress(KeyboardInterrupt):  # a callback that swallows it
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()


@pytest.mark.parametrize('file', (*SCRIPTS, *COMMANDS))
def test_a_script_listens_before_it_imports_anything_else(file):
    _, first, second, *_ = ast.parse((ROOT / file).read_text()).body  # after the docstring
    assert ast.unparse(first) == 'from runtime import interrupts'
    assert ast.unparse(second).startswith("if __name__ == '__main__':\n    interrupts.listen(")


@pytest.mark.parametrize('file', ['architectures/__init__.py', 'evaluation/__init__.py'])
def test_a_package_with_commands_listens_before_it_imports_anything_else(file):
    _, first, second, *_ = ast.parse((ROOT / file).read_text()).body
    assert ast.unparse(first) == 'from runtime import interrupts'
    assert ast.unparse(second) == "if interrupts.runs_as_module(__name__):\n    interrupts.listen('list')"


TRAIN = ('train.py', '--config', 'configs/lenet5_digits.py', '--workdir')


def interrupted(env, arguments, seconds):
    command = [sys.executable, '-W', 'error', '-W', 'ignore::DeprecationWarning', *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    return process.returncode, out, errors


def check(returned, out, errors):
    assert 'Traceback' not in out + errors and 'Error' not in out + errors
    if returned == -signal.SIGINT:  # when the interpreter had not begun, or had ended the program
        assert not errors
    elif returned:
        assert returned == 130
        says = errors.removesuffix('; the same command resumes\n').removesuffix('\n')
        assert says.endswith('.py: interrupted') or 'The same command resumes' in out


def test_ctrl_c_among_the_imports(script, tmp_path):
    check(*interrupted(script.env, (*TRAIN, tmp_path / 'run'), 0.4))


@pytest.mark.slow
def test_ctrl_c_at_any_moment_of_the_first_seconds(script, digits_run, tmp_path):
    commands = (
        lambda place: (*TRAIN, place / 'run'),
        lambda place: ('evaluate.py', '--checkpoint', place),
        lambda place: ('predict.py', '--checkpoint', place, ROOT / 'docs/gallery', '--grid', place / 'grid.png'),
        lambda place: ('convert.py', '--to', 'stablehlo', '--checkpoint', place, '--out', place / 'out'),
    )
    moments = [0.4 + 4.6 * (number + random.random()) / 16 for number in range(16)]  # one in each sixteenth
    places = [tmp_path / str(number) for number in range(16)]

    def one(number):
        shutil.copytree(digits_run[1], places[number])
        return interrupted(script.env, commands[number % 4](places[number]), moments[number])

    with futures.ThreadPoolExecutor(3) as threads:  # most of it is waiting
        for ended in threads.map(one, range(16)):
            check(*ended)
    assert not list(tmp_path.glob('*/.out.*'))  # of an export that was not complete
