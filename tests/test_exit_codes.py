"""How `command_line.run` ends a script: the codes that other programs see."""

import errno
import tokenize

import pytest

from runtime import command_line
from runtime.errors import UserError, first_line, one_line


@pytest.mark.parametrize(
    'error, code, says',
    [
        (UserError('no such network;\n  pass another'), 2, 'error: no such network; pass another'),
        (OSError(errno.ENOSPC, 'No space left on device', 'x.npz'), 2, 'error: No space left on device (x.npz)'),
        (KeyboardInterrupt(), 130, 'interrupted'),  # 128 and the number of SIGINT
    ],
)
def test_what_ends_a_script_is_a_line_and_a_code(monkeypatch, capsys, error, code, says):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(command_line.app, 'run', fail)
    monkeypatch.setattr(command_line.sys, 'argv', ['folder/script.py'])
    with pytest.raises(SystemExit) as ended:
        command_line.run(lambda: 0)
    assert ended.value.code == code
    assert capsys.readouterr().err == f'script.py: {says}\n'


@pytest.mark.parametrize('error', [ValueError('a fault of ours'), OSError('without a number')])
def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(command_line.app, 'run', fail)
    with pytest.raises(type(error), match=str(error)):
        command_line.run(lambda: 0)


@pytest.mark.parametrize(
    'error, says',
    [
        (tokenize.TokenError('EOF in multi-line statement', (2, 0)), 'EOF in multi-line statement'),
        (ValueError('first\nsecond'), 'first'),
        (ValueError('x' * 1000), 'x' * 200),
        (ValueError(), 'ValueError'),
        (OSError(errno.ENOENT, 'No such file or directory', 'x'), "[Errno 2] No such file or directory: 'x'"),
    ],
)
def test_a_library_is_quoted_by_its_first_line(error, says):
    assert first_line(error) == says


def test_a_message_is_one_printable_line_of_bounded_length():
    path = '/folder' * 60
    assert one_line(UserError(f'{path} is\n  wrong')) == f'{path} is wrong'
    name = 'layer' * 1000
    line = one_line(UserError(f'{path}: {name}\x1b[31m\udcff is missing; convert it again'))
    assert line.startswith(f'{path}: layer') and line.endswith(r'\x1b[31m\udcff is missing; convert it again')
    assert len(line) < len(path) + 600
    line = one_line(UserError(f'{path}: it lacks {"a, " * 9999}; convert it again'))
    assert len(line) < 2100 and line.startswith(f'{path}: it lacks a, ') and line.endswith('; convert it again')
