"""How `command_line.run` ends a script: the codes that other programs see."""

import errno

import pytest

from runtime import command_line
from runtime.errors import UserError


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
