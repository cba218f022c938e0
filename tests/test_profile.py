"""Traces of some steps, and runs that end during a trace."""

import re

import jax
import pytest
from conftest import digits

from runtime.errors import UserError
from training import loop, profile
from training.run import check


def orders(folder):
    """How many dispatches asked for their examples in the one trace below a folder, read as TensorBoard reads it."""
    (path,) = folder.glob('profile/plugins/profile/*/*.xplane.pb')
    held = jax.profiler.ProfileData.from_file(str(path))
    names = [event.name for plane in held.planes for line in plane.lines for event in line.events]
    return sum(bool(re.match(r'\$run\.py:\d+ order$', name)) for name in names)


def test_the_steps_asked_for_are_traced_in_a_run_that_is_resumed(tmp_path, capfd, linear):
    loop.train(digits(architecture='linear', stop_at_step=5), tmp_path)
    assert not (tmp_path / 'profile').exists()
    loop.train(digits(architecture='linear', stop_at_step=20, profile_steps='10:15', steps_per_dispatch=1), tmp_path)
    assert orders(tmp_path) == 5
    assert f'tensorboard --logdir {tmp_path}/profile' in capfd.readouterr().out


def test_a_dispatch_of_many_steps_is_cut_at_both_ends():
    trace = profile.Trace('10:15', 'run')
    assert [trace.bounds(at) for at in (0, 10, 14, 15)] == [[10, 15], [15], [15], []]
    assert profile.Trace('', 'run').bounds(0) == []


def test_a_run_that_ends_earlier_leaves_its_trace(tmp_path, linear):
    loop.train(digits(architecture='linear', stop_at_step=3, profile_steps='1:100', steps_per_dispatch=1), tmp_path)
    assert orders(tmp_path) == 2


def test_an_interrupted_trace_is_written(tmp_path):
    said = []
    with pytest.raises(loop.Interrupted), profile.Trace('10:15', tmp_path, said.append) as trace:
        trace.reached(9)
        assert not list(tmp_path.iterdir())
        trace.reached(12)  # a run that resumes within the steps
        raise loop.Interrupted(15)
    assert len(said) == 1 and list(tmp_path.glob('profile/plugins/profile/*/*.xplane.pb'))


@pytest.mark.parametrize('text', ['10', '15:10', '10:10', ':', 'a:b', '-1:5', '10:15:20', '1.5:3'])
def test_wrong_steps_are_refused(text):
    with pytest.raises(UserError, match=f"profile_steps must be FIRST:LAST.*not '{text}'"):
        check(digits(profile_steps=text))
