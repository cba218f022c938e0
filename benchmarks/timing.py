"""Time peers in turn: each is a separate process, the others are stopped, and ratios are computed round by round."""

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
    """A peer's process ended early; its message is on stderr."""


def version(name):
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine():
    """Return the machine, the date and the versions, for a result."""
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    packages = ('jax', 'jaxlib', 'flax', 'optax', 'torch', 'torchvision', 'timm', 'numpy')
    return {
        'machine': f'{os.cpu_count()} cores, {names[0] if names else platform.processor()}',
        'date': datetime.date.today().isoformat(),
        'versions': {name: version(name) for name in packages},
    }


def load():
    """Return the load of the machine: runnable processes in the last minute, divided by the number of cores.

    Under load, threads that wait by spinning, such as PyTorch's, are ten times slower or worse, and ratios are
    meaningless.
    """
    return os.getloadavg()[0] / os.cpu_count() if hasattr(os, 'getloadavg') else 0.0


def run_peers(benchmark, names, rounds, huge_pages=False, facts=None):
    """Run peers in turn, after a warm-up round.

    Args:
      benchmark: the argument of `benchmark.py`.
      names: names of the peers, our own program included; each is the `--peer` of a process.
      rounds: number of timed rounds.
      huge_pages: whether to back their memory with huge pages (glibc on Linux).
      facts: a dict that receives the facts of each peer, by name; see `interleave`.

    Returns:
      {name: [seconds of each round]}, {name: seconds of its first round, including compilation}.

    Raises:
      Ended: if the process of a peer ended early.
    """
    root = Path(__file__).parents[1]
    # By default, JAX allocates most of a GPU's memory at its start, which leaves none for the others.
    env = (
        {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
        | dict(os.environ)
        | ({'GLIBC_TUNABLES': HUGE_PAGES} if huge_pages else {})
    )
    processes = {
        name: subprocess.Popen(
            [sys.executable, 'benchmark.py', benchmark, '--peer', name],
            cwd=root,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    }
    seconds, first, output = {name: [] for name in names}, {}, {}
    try:
        for number in range(rounds + 1):
            for name, process in processes.items():
                process.send_signal(signal.SIGCONT)
                with contextlib.suppress(BrokenPipeError):  # it ended early: there is no answer, either
                    process.stdin.write('go\n')
                    process.stdin.flush()
                answer = process.stdout.readline()
                if not answer:
                    raise Ended(f'benchmark.py: error: {name} ended early')
                first.setdefault(name, float(answer))
                if number:
                    seconds[name].append(float(answer))
                process.send_signal(signal.SIGSTOP)  # otherwise its idle threads would spin
    finally:
        for name, process in processes.items():
            process.send_signal(signal.SIGCONT)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            output[name] = process.stdout.read()
            process.stdout.close()
            process.wait()
    if facts is not None:
        facts |= {name: json.loads(text) for name, text in output.items()}
    return seconds, first


def interleave(step, facts=None):
    """Run the process of a peer: for each line on stdin, print the mean seconds of two steps.

    An untimed step before them restores what the stopped process lost, above all memory. After the last turn, print
    `facts()` as JSON, if given.
    """
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # send the output of libraries to stderr
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


def ratios_to_fastest(seconds, ours):
    """Return the fastest other peer by median, and its seconds over ours in each round; above 1, ours is faster."""
    others = {name: times for name, times in seconds.items() if name != ours}
    if not others:
        return None, []
    peer = min(others, key=lambda name: statistics.median(others[name]))
    return peer, [theirs / mine for theirs, mine in zip(others[peer], seconds[ours], strict=True)]
