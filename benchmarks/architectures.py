"""Forward pass and training step of each network, compared with the same network in PyTorch."""

import math
import statistics

from benchmarks import peers, timing

# The default networks, one per family. Batch 8, and 16 for AlexNet.
NETWORKS = ('alexnet_owt', 'vgg_a', 'resnet18', 'resnet50', 'densenet121', 'resnext50_32x4d')
DEEPEST = ('resnet152', 'densenet264', 'senet154')  # whose compilation is timed


def run(networks, phases, rounds, batch, dtype, huge_pages):
    """Yield the rows of the table: images per second of both, the ratio and its range, per network and phase.

    Args:
      networks: names in `peers.PEERS`, or others, which have no peer; if empty, `NETWORKS`, or `DEEPEST` to compile.
      phases: some of 'train', 'forward' and 'compile' (seconds of a cold compilation of the training step).
      rounds: number of timed rounds.
      batch: images per step; 0 for 8, and 16 for alexnet_owt.
      dtype: 'float32' or 'bfloat16' (PyTorch: autocast).
      huge_pages: whether all processes use huge pages.
    """
    rows = []
    for phase in phases:
        for name in networks or (DEEPEST if phase == 'compile' else NETWORKS):
            if phase == 'compile':
                ours = f'jax compile {name} 8 {dtype}'
                _, first = timing.run_peers('architectures', [ours], 0)
                rows.append({'name': f'{name} compilation', 'phase': phase, 'network': name, 'unit': 's', 'peer': None})
                rows[-1] |= {'ours': first[ours], 'ratio': None}
                yield rows[-1]
                continue
            size = batch or (16 if name == 'alexnet_owt' else 8)
            kinds = ['jax']
            if name in peers.PEERS and timing.version('torch'):
                kinds += ['torch-channels_last', 'torch-NCHW'] + (['torch-compile'] if dtype == 'bfloat16' else [])
            peer_names = [f'{kind} {phase} {name} {size} {dtype}' for kind in kinds]
            ours = peer_names[0]
            seconds, first = timing.run_peers('architectures', peer_names, rounds, huge_pages)
            peer, ratios = timing.ratios_to_fastest(seconds, ours)
            rows.append(
                {
                    'name': f'{name} {phase}, batch {size}',
                    'network': name,
                    'phase': phase,
                    'unit': 'images/s',
                    'ours': size / statistics.median(seconds[ours]),
                    'peer': size / statistics.median(seconds[peer]) if peer else None,
                    'peer_name': peer.split()[0] if peer else None,
                    'ratio': statistics.median(ratios) if peer else None,
                    'range': [min(ratios), max(ratios)] if peer else None,
                    'first_call_seconds': first[ours],
                }
            )
            yield rows[-1]
    for phase in phases:
        ratios = [row['ratio'] for row in rows if row['phase'] == phase and row['ratio']]
        if len(ratios) > 1:
            mean = math.exp(statistics.fmean(map(math.log, ratios)))
            yield {'name': f'geometric mean, {phase}', 'phase': phase, 'ratio': mean, 'lowest': min(ratios)}


def timed_function(peer_name):
    """Return the function that a peer's process times; see `run` for the form of the name."""
    kind, phase, name, batch, dtype = peer_name.split()
    build = our_step if kind == 'jax' else torch_step
    return build(kind, phase, name, int(batch), dtype)


def our_step(kind, phase, name, batch, dtype):
    """Return our training step, or the network's forward pass, with the data on the device."""
    import functools

    import jax
    import jax.numpy as jnp
    import numpy as np

    import architectures
    from architectures import catalogue, layers
    from input_pipeline import loader
    from training import losses, optimizers, step

    options = peers.PEERS[name][2] if name in peers.PEERS else {}
    model = architectures.create(name, dtype=dtype, **options)
    shape = catalogue.NETWORKS[name].input_shape
    images = jnp.asarray(np.random.default_rng(0).standard_normal((batch, *shape), np.float32))
    jit = functools.partial(jax.jit, compiler_options=layers.compiler_options())
    if phase == 'forward':
        variables = architectures.initialize(model, 0, shape)
        forward = jit(model.apply)
        return lambda: jax.block_until_ready(forward(variables, images))

    optimizer = optimizers.create('momentum', 0.9)
    initial = functools.partial(step.create_state, model, optimizer, shape, 0)
    labels = jnp.arange(batch, dtype=jnp.int32) % model.num_classes
    examples = loader.gather(images, labels, jnp.arange(batch), jnp.zeros(batch, jnp.int32))
    train_step = functools.partial(
        step.train_step,
        model=model,
        loss=losses.create('cross_entropy'),
        optimizer=optimizer,
        preprocess=lambda batch: batch['image'],
        seed=0,
        rate=lambda step, controller: 0.001,
    )
    advance = jit(train_step, donate_argnums=0)
    if phase == 'compile':
        abstract = jax.eval_shape(initial)
        return lambda: advance.lower(abstract, examples).compile()
    current = jax.jit(initial)()

    def advance_once():
        nonlocal current
        current = advance(current, examples)
        float(current.window['loss'])

    return advance_once


def torch_step(kind, phase, name, batch, dtype, size=224):
    """Return the same function in PyTorch, on a GPU if there is one."""
    import contextlib

    import torch

    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.backends.cudnn.benchmark = True  # try the algorithms, as XLA does
    layout = {} if kind == 'torch-NCHW' else {'memory_format': torch.channels_last}
    model = peers.torch_model(name).to(device, **layout)
    images = torch.randn(batch, 3, size, size, device=device).to(**layout)
    labels = torch.arange(batch, device=device) % 1000
    mixed = dtype == 'bfloat16'
    cast = torch.autocast(device, torch.bfloat16) if mixed else contextlib.nullcontext()
    wait = torch.cuda.synchronize if device == 'cuda' else lambda: None
    call = torch.compile(model) if kind == 'torch-compile' else model
    if phase == 'forward':
        model.eval()

        def forward():
            with torch.inference_mode(), cast:
                call(images)
            wait()

        return forward

    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    loss = torch.nn.CrossEntropyLoss()

    def train():
        optimizer.zero_grad()
        with cast:
            value = loss(call(images), labels)
        value.backward()
        optimizer.step()
        value.item()
        wait()

    return train
