"""`train.py --verify_resume`: does a run that was killed and resumed end like one that was not?

A short training runs twice in separate processes: once without interruption, and once killed with SIGKILL at random
moments (one of them while a checkpoint is being written) and resumed each time. Then the results are compared.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from input_pipeline import datasets
from runtime.errors import UserError
from training import checkpoints, schedules
from training.log import read
from training.run import Run, check

KILLS = 4
_CHECKPOINTS = 12  # number of checkpoints of the short run


def verify_resume(argv, config, say=print):
    """Run the check and print what agrees.

    Args:
      argv: the command line of train.py, whose flags the runs get.
      config: the resolved config.
      say: prints a line.

    Returns:
      Whether parameters, optimizer, statistics, data order and log agree bit for bit.

    Raises:
      UserError: a run failed.
    """
    check(config)
    # Nothing here may use a device before the runs are over: they need it, and accelerators cannot be shared.
    num_examples = len(datasets.open_split(config, config.train_split))
    epoch, total = (schedules.steps_at(n, num_examples, config.batch_size) for n in (1, config.num_epochs))
    every = max(1, min(epoch, total // _CHECKPOINTS))
    steps = min(total, every * _CHECKPOINTS)
    flags = [a for a in argv[1:] if 'verify_resume' not in a]
    flags += [f'--config.checkpoint_every_steps={every}', f'--config.stop_at_step={steps}', '--config.tracker=']
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = Path(folder, 'straight'), Path(folder, 'killed')
        say(f'running {steps:,} steps without interruption, with a checkpoint every {every:,}')
        start = time.monotonic()
        _finish(_start(argv[0], flags, straight), straight)
        say(f'  {time.monotonic() - start:.0f} s. Now killed {KILLS} times and resumed:')
        rng = random.Random()
        for kill in range(KILLS):
            before = _progress(killed)
            target = before + rng.randint(1, max(1, (steps - before) // (KILLS - kill + 1)))
            process = _start(argv[0], flags, killed)
            if kill == 0:
                _kill_in_checkpoint(process, killed, say)
            else:
                _kill_after(process, killed, target, rng, say)
        _finish(_start(argv[0], flags, killed), killed)
        say('  resumed to the end')
        return compare(Run(config), straight, killed, say)


def _start(script, flags, workdir):
    log = workdir.with_suffix('.txt').open('a')
    return subprocess.Popen([sys.executable, script, *flags, '--workdir', str(workdir)], stdout=log, stderr=log)


def _finish(process, workdir):
    if process.wait():
        last = workdir.with_suffix('.txt').read_text().strip().splitlines()[-1:]
        raise UserError(f'the run ended with exit code {process.returncode}: {"".join(last)}')


def _kill_in_checkpoint(process, workdir, say):
    """Kill a run as soon as it is writing a checkpoint."""
    folder = workdir / checkpoints.FOLDER
    while process.poll() is None and not (folder.is_dir() and any('tmp' in entry.name for entry in folder.iterdir())):
        time.sleep(0.001)
    _kill(process, workdir, ', writing a checkpoint', say)


def _kill_after(process, workdir, target, rng, say):
    """Kill a run a random moment after it logged step `target`."""
    while process.poll() is None and _progress(workdir) < target:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.1))
    _kill(process, workdir, '', say)


def _kill(process, workdir, where, say):
    ended = process.poll() is not None
    process.kill()
    process.wait()
    if process.returncode > 0:
        _finish(process, workdir)  # raises its error
    event = 'finished' if ended else 'killed'
    say(f'  {event} after step {_progress(workdir):,} was logged{where}')


def _progress(workdir):
    return max((row['step'] for row in read(workdir) if row['kind'] != 'resume'), default=0)


def compare(run, one, other, say=print):
    """Return whether two runs' last checkpoints and logs agree bit for bit; print the result for each part."""
    first, second = _last_state(run, one), _last_state(run, other)
    parts = {
        'parameters': (first.params, second.params),
        'optimizer': (first.opt_state, second.opt_state),
        'statistics': ((first.batch_stats, first.epoch), (second.batch_stats, second.epoch)),
        'data order': ((first.step, first.order_digest), (second.step, second.order_digest)),
        'log': (_without_times(one), _without_times(other)),
    }
    agrees = True
    for name, (a, b) in parts.items():
        same = a == b if name == 'log' else _equal(a, b)
        say(f'{name}: {"identical" if same else "DIFFERENT"}')
        agrees &= same
    return agrees


def _last_state(run, workdir):
    with checkpoints.Checkpoints(workdir / checkpoints.FOLDER, read_only=True) as manager:
        return manager.restore(run.abstract_state(), manager.latest())


def _equal(a, b):
    return all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes()
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def _without_times(workdir):
    return [{k: v for k, v in row.items() if k != 'time'} for row in read(workdir) if row['kind'] != 'resume']
