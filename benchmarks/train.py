"""Training as `train.py` runs it: the step of a recipe, including preprocessing, and the loop around it.

Ours is the `advance` program of `configs/NAME.py` on uint8 images: one batch on the devices, or photographs through the
loader. The peer is the same network in PyTorch, with torch.compile and channels last, or eager in both layouts, on
float images on its device, without flips, shifts or normalization.
"""

import functools
import statistics
import sys
import tempfile
import time

from benchmarks import architectures, peers, timing
from runtime import system

LARGEST = 4096  # largest batch to try
PEERS_OF = {'': (), 'torch': ('torch-compile',), 'torch-eager': ('torch-channels_last', 'torch-NCHW')}
_GAIN = 1.01  # stop doubling the batch when the speed grows by less than this factor

# Dense FLOP/s from the vendors' data sheets: bfloat16, and TF32 for float32, XLA's default for matrix products.
PEAKS = {
    'NVIDIA H200': (989e12, 495e12),
    'NVIDIA H100 80GB HBM3': (989e12, 495e12),
    'NVIDIA H100 PCIe': (756e12, 378e12),
    'NVIDIA A100-SXM4-80GB': (312e12, 156e12),
    'NVIDIA A100-SXM4-40GB': (312e12, 156e12),
    'NVIDIA A100 80GB PCIe': (312e12, 156e12),
    'NVIDIA A100-PCIE-40GB': (312e12, 156e12),
    'TPU v4': (275e12, None),
    'TPU v5 lite': (197e12, None),
    'TPU v6 lite': (918e12, None),
}


def run(arch, against, batch, size, dtype, data_dir, rounds, peak, best_batch, huge_pages=False):
    """Yield a row for a batch on the devices, and with `data_dir` one for its photographs through the loader.

    Args:
      arch: a recipe; with a peer, one of `peers.PEERS`.
      against: a key of `PEERS_OF`; the fastest of its kinds is the peer.
      batch: images per step; with `best_batch`, the first to try.
      size: side of the images.
      dtype: 'float32' or 'bfloat16' (PyTorch: autocast).
      data_dir: a folder of photographs, or ''.
      rounds: number of timed rounds.
      peak: FLOP/s of a device; None to look it up in `PEAKS`.
      best_batch: whether each side doubles its batch as long as that makes it faster.
      huge_pages: whether all processes use huge pages.
    """

    def name(kind, batch, data=''):
        return '|'.join((kind, arch, str(batch), str(size), dtype, data))

    kinds = ['jax', *PEERS_OF[against]]
    batches = dict.fromkeys(kinds, batch)
    if best_batch:
        batches = {kind: _best_batch(functools.partial(name, kind), batch, huge_pages) for kind in kinds}
    for data in ('', data_dir) if data_dir else ('',):
        names = {kind: name(kind, batches[kind], data) for kind in kinds if kind == 'jax' or not data}
        facts = {}
        seconds, first = timing.run_peers('train', list(names.values()), rounds, huge_pages, facts)
        rates = {
            kind: [batches[kind] * facts[names[kind]]['steps'] / turn for turn in seconds[names[kind]]]
            for kind in names
        }
        row = {'name': f'{arch} {size}x{size} {dtype}, {"photographs" if data else "synthetic"}', 'unit': 'images/s'}
        row |= {'batch': batches['jax'], 'ours': statistics.median(rates['jax']), 'peer': None}
        row |= facts[names['jax']]
        row['utilisation'] = utilization(row['ours'], row, dtype, peak)
        others = [kind for kind in names if kind != 'jax']
        if others:
            peer = max(others, key=lambda kind: statistics.median(rates[kind]))
            ratios = [ours / theirs for ours, theirs in zip(rates['jax'], rates[peer], strict=True)]
            row |= {
                'peer': statistics.median(rates[peer]),
                'peer_name': f'{peer} (batch {batches[peer]})',
                'ratio': statistics.median(ratios),
                'range': [min(ratios), max(ratios)],
                'peer_first_call_seconds': first[names[peer]],
                'peer_peak_bytes': facts[names[peer]]['peak_bytes'],
            }
        yield row


def utilization(images_per_second, facts, dtype, peak=None):
    """Return the network's operations as a fraction of the devices' peak FLOP/s, or None if the peak is not known.

    A multiply-add is two operations, and the gradient costs twice the forward pass.
    """
    peak = peak or PEAKS.get(facts['device'], (None, None))[dtype == 'float32']
    return peak and images_per_second * 2 * 3 * facts['multiply_adds'] / (peak * facts['devices'])


def _best_batch(name, batch, huge_pages):
    """Return the fastest batch, doubling `batch` until that gains nothing or does not fit."""
    best, rate = batch, 0.0
    while batch <= LARGEST:
        facts = {}
        try:
            seconds, _ = timing.run_peers('train', [name(batch)], 2, huge_pages, facts)
        except timing.Ended:  # its message is on stderr
            if not rate:
                raise
            print(f'{name(batch)} ended early; the largest batch is {best}', file=sys.stderr)
            break
        now = batch * facts[name(batch)]['steps'] / statistics.median(seconds[name(batch)])
        print(f'{name(batch)}: {now:,.1f} images/s', file=sys.stderr)
        if now < _GAIN * rate:
            break
        best, rate, batch = batch, now, 2 * batch
    return best


def timed_function(name):
    """Return (function that a peer's process times, function that returns its facts); `run` makes the name."""
    kind, arch, batch, size, dtype, data_dir = name.split('|')
    if kind == 'jax':
        return our_step(arch, int(batch), int(size), dtype, data_dir)
    return _torch_step(kind, arch, int(batch), dtype, int(size))


def config_of(arch, batch, size, dtype):
    """Return the recipe with synthetic images of a size, and with the network of the peer."""
    from configs import listing

    config = listing.load(arch)
    config.update({'dataset': 'synthetic', 'train_split': 'train', 'test_split': 'test', 'image_size': size})
    config.update({'dtype': dtype, 'batch_size': batch, 'accumulate': 1, 'num_epochs': 1e4, 'init_from': ''})
    # On random pixels the recipe's learning rates would give a NaN loss. The program is the same.
    config.update({'learning_rate': 1e-6, 'learning_rates': ((1, 1e-6),)})
    config.architecture_options.update(peers.PEERS[arch][2] if arch in peers.PEERS else {})
    if 'group_size' in config.architecture_options:
        config.architecture_options.group_size = 0
    return config


def our_step(arch, batch, size, dtype, data_dir):
    """Return the compiled step of the recipe, and its facts."""
    import jax

    from architectures import describe
    from input_pipeline import statistics as of_data
    from training import memory
    from training.run import Run, build_model

    config = config_of(arch, batch, size, dtype)
    run = Run(config, splits=_photographs(data_dir) if data_dir else None)
    assert not run.resident, f'{arch} has small images: benchmark.py lenet5 measures those'
    batches = run.stream(0)
    batch_on_device = next(batches)
    if not data_dir:
        batches.close()
    current = jax.jit(run.initial_state, out_shardings=run.replicated)()
    begin = time.perf_counter()
    advance = run.compiled(of_data.blank(config), current).advance
    compile_seconds = time.perf_counter() - begin
    steps = _steps(jax.default_backend() == 'cpu')

    def step():
        nonlocal current
        for _ in range(steps):
            current = advance(current, next(batches) if data_dir else batch_on_device)
            jax.device_get(current.window)  # as the loop does

    def facts():
        number, whose = memory.peak()
        layers = describe.layers_of(build_model(config), (size, size, config.channels))
        return {
            'device': run.mesh.devices.flat[0].device_kind,
            'devices': run.mesh.size,
            'steps': steps,
            'compile_seconds': compile_seconds,
            'multiply_adds': sum(layer.multiply_adds for layer in layers),
            'peak_bytes': number,
            'peak_of': whose,
        }

    return step, facts


def _steps(cpu):
    """Return the steps per turn; a step of an accelerator takes only a few milliseconds."""
    return 1 if cpu else 10


def _photographs(data_dir):
    """Return both splits of a run: all photographs below a folder, as one class."""
    from benchmarks import input

    source = input.Files(input.photographs(data_dir))
    return source, source


def _torch_step(kind, arch, batch, dtype, size):
    """Return the peer's steps, as many per turn as ours, and its facts."""
    import torch

    train_step = architectures.torch_step(kind, 'train', arch, batch, dtype, size)
    cuda = torch.cuda.is_available()
    steps = _steps(not cuda)

    def step():
        for _ in range(steps):
            train_step()

    def facts():
        peak = torch.cuda.max_memory_allocated() if cuda else system.peak_memory()
        return {'steps': steps, 'peak_bytes': peak}

    return step, facts


class _Timed:
    """A function that records when each call began and ended."""

    def __init__(self, call, spans):
        self._call, self._spans = call, spans

    def __call__(self, *arguments):
        import jax

        begin = time.perf_counter()
        result = jax.block_until_ready(self._call(*arguments))
        self._spans.append((begin, time.perf_counter()))
        return result


def loop_overhead(arch, batch, size, dtype, steps):
    """Yield rows with the time that `training.loop.train` adds to `Programs.advance`, on resident and streamed images.

    The images are synthetic. The overhead is the time from the end of the first call to that of the last, relative to
    the sum of the calls after the first: both are from the same steps, so other load affects both. It includes the
    input, the log and the display, but not the checkpoint and the test at the end of an epoch.
    """
    from training import loop

    for streamed in (False, True):
        config = config_of(arch, batch, size, dtype)
        if not streamed:
            config.crop.kind = config.test_crop.kind = 'none'
        # The overhead is largest with one step per dispatch.
        config.update({'stop_at_step': steps, 'log_every_steps': 10, 'steps_per_dispatch': 1})
        assert steps < 1024 // batch, 'the steps must fit in one epoch of the 1,024 images'
        spans, original = [], loop.Run

        class Timed(original):
            def compiled(self, *arguments, spans=spans):
                programs = super().compiled(*arguments)
                return programs._replace(advance=_Timed(programs.advance, spans))

        loop.Run = Timed
        with tempfile.TemporaryDirectory() as workdir:
            loop.train(config, workdir)
        loop.Run = original
        calls = [end - begin for begin, end in spans[1:]]
        total = spans[-1][1] - spans[0][1]
        yield {
            'name': f'loop overhead, {arch}, batch {batch}, {"streamed" if streamed else "resident"}',
            'unit': '%',
            'ours': 100 * (total / sum(calls) - 1),
            'peer': None,
            'steps': len(calls),
            'step_seconds': statistics.median(calls),
        }
