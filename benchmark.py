"""Speed beside a named peer, in one run: `python benchmark.py lenet5 [--output FILE]`.

Each contestant is a process of its own; they take turns, the others asleep, and the ratio is taken round by round.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 7


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('benchmark', choices=['lenet5'])
    parser.add_argument('--output', help='also write the result as JSON to this file')
    parser.add_argument('--contestant', help=argparse.SUPPRESS)  # the process that runs one of them
    arguments = parser.parse_args()
    if arguments.contestant:
        return take_turns(CONTESTANTS[arguments.contestant])
    rows = lenet5()
    for row in rows:
        beside = ''
        if row['peer'] is not None:
            low, high = row['range']
            beside = f', {row["peer_name"]} {row["peer"]:,.1f}: ratio {row["ratio"]:.2f} [{low:.2f} to {high:.2f}]'
        print(f'{row["name"]}: {row["ours"]:,.1f} {row["unit"]}{beside}')
    if arguments.output:
        result = {
            'benchmark': arguments.benchmark,
            'machine': f'{os.cpu_count()} cores, {_processor()}',
            'date': datetime.date.today().isoformat(),
            'versions': {name: _version(name) for name in ('jax', 'jaxlib', 'flax', 'optax', 'torch', 'numpy')},
            'rows': rows,
        }
        Path(arguments.output).write_text(json.dumps(result, indent=2) + '\n')
    return 0


def _processor():
    lines = Path('/proc/cpuinfo').read_text().splitlines() if Path('/proc/cpuinfo').exists() else []
    names = [line.split(':')[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor()


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# LeNet-5, batch 128, SGD with momentum, the data set in memory.

BATCH, STEPS = 128, 100


def lenet5():
    """Training throughput of LeNet-5 beside PyTorch in both memory layouts, and seconds to the first step."""
    names = ['jax'] + (['torch NCHW', 'torch channels_last'] if _version('torch') else [])
    if len(names) == 1:
        print('PyTorch is not installed (requirements-reference.txt): there is no peer to measure beside')
    seconds = compete(names)
    ours = seconds.pop('jax')
    peer = min(seconds, key=lambda name: statistics.median(seconds[name]), default=None)
    ratios = [theirs / own for theirs, own in zip(seconds[peer], ours, strict=True)] if peer else None
    rate = {name: BATCH * STEPS / statistics.median(times) for name, times in {'jax': ours, **seconds}.items()}
    throughput = {
        'name': 'LeNet-5 training, batch 128',
        'unit': 'images/s',
        'ours': rate['jax'],
        'peer': rate[peer] if peer else None,
        'peer_name': f'{peer}, the faster of its layouts' if peer else None,
        'ratio': statistics.median(ratios) if ratios else None,
        'range': [min(ratios), max(ratios)] if ratios else None,
    }
    first_step_seconds()  # fills the compilation cache
    warm = {
        'name': 'from the command to the first step, warm compilation cache',
        'unit': 's',
        'ours': statistics.median(first_step_seconds() for _ in range(3)),
        'peer': None,
        'peer_name': None,
        'ratio': None,
    }
    return [throughput, warm]


def compete(names):
    """{name: seconds of each round}; a round is `STEPS` steps of each contestant in turn."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, 'lenet5', '--contestant', name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    }
    seconds = {name: [] for name in names}
    for number in range(ROUNDS + 1):
        for name, process in processes.items():
            process.stdin.write('go\n')
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                sys.exit(f'benchmark.py: error: {name} ended by itself')
            if number:  # the first round warms up
                seconds[name].append(float(answer))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return seconds


def take_turns(build):
    """A contestant's process: a round at each line that comes in, its seconds out."""
    step = build()
    for _ in sys.stdin:
        begin = time.perf_counter()
        step()
        print(time.perf_counter() - begin, flush=True)
    return 0


def our_lenet5():
    """The very function that `train.py` runs, `STEPS` steps in a dispatch."""
    import jax
    import numpy as np

    from configs import base
    from training.run import Run

    config = base.get_config()
    config.update({'optimizer': 'momentum', 'batch_size': BATCH, 'num_epochs': 1000.0, 'steps_per_dispatch': STEPS})
    run = Run(config)
    state = jax.jit(run.initial_state, out_shardings=run.whole)()
    at = 0

    def step():
        nonlocal state, at
        indices = jax.device_put(np.asarray(run.order(at, at + STEPS)), run.whole)
        state = run.advance(state, *run.data, indices, STEPS)
        float(state.window['loss'])
        at += STEPS

    return step


def torch_lenet5(channels_last):
    """A plain PyTorch loop of the same network, loss, optimiser and data."""
    import numpy as np
    import torch
    from torch import nn

    from input_pipeline import sources

    source = sources.synthetic('train', 32, 1, 10)
    images = torch.from_numpy(source.images.transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(source.labels.astype(np.int64))
    layers = [
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    ]
    layout = {'memory_format': torch.channels_last} if channels_last else {}
    model = nn.Sequential(*layers).to(**layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    loss = nn.CrossEntropyLoss()

    def step():
        for _ in range(STEPS):
            index = torch.randint(len(images), (BATCH,))
            batch = (images[index].float() * (1.275 / 255) - 0.1).to(**layout)
            optimizer.zero_grad()
            value = loss(model(batch), labels[index])
            value.backward()
            optimizer.step()
        value.item()

    return step


CONTESTANTS = {
    'jax': our_lenet5,
    'torch NCHW': lambda: torch_lenet5(channels_last=False),
    'torch channels_last': lambda: torch_lenet5(channels_last=True),
}


def first_step_seconds():
    """Wall-clock seconds from `python train.py` to the log's line of the first step."""
    root = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, 'run', 'metrics.jsonl')
        command = [sys.executable, 'train.py', '--config', 'configs/lenet5_digits.py', '--workdir', str(log.parent)]
        command += ['--config.stop_at_step=1', '--config.log_every_steps=1']
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL)
        while not (log.exists() and '"step": 1,' in log.read_text()):
            if process.poll() is not None:
                sys.exit('benchmark.py: error: train.py ended before its first step')
            time.sleep(0.01)
        seconds = time.perf_counter() - begin
        process.wait()
    return seconds


if __name__ == '__main__':
    sys.exit(main())
