"""Contestants take turns: each is a process of its own, the others stopped, and ratios are taken round by round."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

HUGE_PAGES = 'glibc.malloc.hugetlb=1'


class Ended(SystemExit):
    """A contestant's process ended by itself; what it said is on stderr."""


def version(name):
    """The installed version of a package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine():
    """The machine, the date and the versions, for a result."""
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    packages = ('jax', 'jaxlib', 'flax', 'optax', 'torch', 'torchvision', 'timm', 'numpy')
    return {
        'machine': f'{os.cpu_count()} cores, {names[0] if names else platform.processor()}',
        'date': datetime.date.today().isoformat(),
        'versions': {name: version(name) for name in packages},
    }


def load():
    """What else the machine is doing: the processes that wanted a core in the last minute, over the cores.

    Threads that wait for each other by spinning, PyTorch's among them, lose a factor of ten and more where there is
    anything: a ratio taken then is none.
    """
    return os.getloadavg()[0] / os.cpu_count() if hasattr(os, 'getloadavg') else 0.0


def compete(benchmark, names, rounds, huge_pages=False, facts=None):
    """Runs the contestants in turn, after a round that warms up.

    Args:
      benchmark: the word after `benchmark.py`.
      names: of the contestants, each a command line's `--contestant`.
      rounds: timed.
      huge_pages: whether their memory is backed by huge pages (glibc on Linux).
      facts: a dict that gets what each contestant says at its end, by name; see `take_turns`.

    Returns:
      {name: [seconds of each round]}, {name: seconds of its first round, compilation included}.

    Raises:
      Ended: a contestant ended by itself.
    """
    root = Path(__file__).parents[1]
    # JAX takes most of a GPU's memory at its start, and the others would have none.
    env = (
        {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
        | dict(os.environ)
        | ({'GLIBC_TUNABLES': HUGE_PAGES} if huge_pages else {})
    )
    processes = {
        name: subprocess.Popen(
            [sys.executable, 'benchmark.py', benchmark, '--contestant', name],
            cwd=root,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    }
    seconds, first, last = {name: [] for name in names}, {}, {}
    try:
        for number in range(rounds + 1):
            for name, process in processes.items():
                process.send_signal(signal.SIGCONT)
                with contextlib.suppress(BrokenPipeError):  # it ended: there is no answer, either
                    process.stdin.write('go\n')
                    process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    raise Ended(f'benchmark.py: error: {name} ended by itself')
                first.setdefault(name, float(answer))
                if number:
                    seconds[name].append(float(answer))
                process.send_signal(signal.SIGSTOP)  # its idle threads would wait for work by spinning
    finally:
        for name, process in processes.items():
            process.send_signal(signal.SIGCONT)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            last[name] = process.stdout.read()
            process.stdout.close()
            process.wait()
    if facts is not None:
        facts |= {name: json.loads(text) for name, text in last.items()}
    return seconds, first


def take_turns(step, facts=None):
    """A contestant's process: a turn at each line that comes in, and out the seconds of a step, the mean of two.

    A step before them is not timed: it brings back what the machine took from a process that stood still, memory above
    all. After the last turn it says `facts()`, what JSON holds, where there are any.
    """
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what a library prints is no answer
    for turn, _ in enumerate(sys.stdin):
        begin = time.perf_counter()
        step()
        if turn:
            begin = time.perf_counter()
            step()
            step()
        print((time.perf_counter() - begin) / (2 if turn else 1), file=answers, flush=True)
    if facts:
        print(json.dumps(facts()), file=answers, flush=True)


def faster(seconds, ours):
    """The fastest of the others by its median, and the ratio to it of each round; above 1, ours is faster."""
    others = {name: times for name, times in seconds.items() if name != ours}
    if not others:
        return None, []
    peer = min(others, key=lambda name: statistics.median(others[name]))
    return peer, [theirs / own for theirs, own in zip(others[peer], seconds[ours], strict=True)]
