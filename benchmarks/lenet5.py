"""LeNet-5: training throughput compared with PyTorch, and the seconds from a command to the first step."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import timing

BATCH, STEPS, ROUNDS = 128, 100, 7  # SGD with momentum, the data set in memory


def run():
    """Yield the rows of the table; PyTorch runs in both memory layouts, and the faster is the peer."""
    names = ['jax'] + (['torch NCHW', 'torch channels_last'] if timing.version('torch') else [])
    if len(names) == 1:
        print('PyTorch is not installed (requirements-reference.txt): there is no peer to compare with')
    seconds, _ = timing.run_peers('lenet5', names, ROUNDS)
    peer, ratios = timing.ratios_to_fastest(seconds, 'jax')
    rate = {name: BATCH * STEPS / statistics.median(times) for name, times in seconds.items()}
    yield {
        'name': 'LeNet-5 training, batch 128',
        'unit': 'images/s',
        'ours': rate['jax'],
        'peer': rate[peer] if peer else None,
        'peer_name': f'{peer}, the faster of its layouts' if peer else None,
        'ratio': statistics.median(ratios) if ratios else None,
        'range': [min(ratios), max(ratios)] if ratios else None,
    }
    first_step_seconds()  # fills the compilation cache
    yield {
        'name': 'from the command to the first step, warm compilation cache',
        'unit': 's',
        'ours': statistics.median(first_step_seconds() for _ in range(3)),
        'peer': None,
        'peer_name': None,
        'ratio': None,
    }


def timed_function(name):
    """Return the function that a peer's process times."""
    return our_step() if name == 'jax' else torch_step(channels_last=name.endswith('channels_last'))


def our_step():
    """Return the function that `train.py` runs, with `STEPS` steps per dispatch."""
    import jax
    import numpy as np

    from configs import base
    from training.run import Run

    config = base.get_config()
    config.update({'optimizer': 'momentum', 'batch_size': BATCH, 'num_epochs': 1000.0, 'steps_per_dispatch': STEPS})
    run = Run(config)
    advance = run.programs().advance
    state = jax.jit(run.initial_state, out_shardings=run.replicated)()
    at = 0

    def step():
        nonlocal state, at
        indices = jax.device_put(np.asarray(run.order(at, at + STEPS)), run.replicated)
        state = advance(state, *run.data, indices, STEPS)
        float(state.window['loss'])
        at += STEPS

    return step


def torch_step(channels_last):
    """Return a plain PyTorch loop with the same network, loss, optimizer and data."""
    import numpy as np
    import torch
    from torch import nn

    from input_pipeline import datasets

    source = datasets.open_source('synthetic', 'train', '', 32, 1, 10)
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


def first_step_seconds():
    """Return the wall-clock seconds from `python train.py` to the log line of the first step."""
    root = Path(__file__).parents[1]
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
