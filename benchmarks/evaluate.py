"""The evaluator, compared with the forward passes alone and with a loop over single crops.

Weights are random, which does not affect the times. Every peer uses the same photographs, of one size, and the same
protocol. For the center crop, where the network may not be the bottleneck, the data path is compared with the training
pipeline, without a network.
"""

import itertools
import statistics

import numpy as np

from benchmarks import input, timing
from runtime import system

ROWS = {  # (network, protocol): photographs per turn, chosen so that their views fill the batches, as in a data set
    ('googlenet', 'googlenet_144'): 5,
    ('resnet18', 'ten_crop_full'): 9,
    ('alexnet_owt', 'vgg_multicrop'): 3,
    ('vgg_a', 'vgg_dense'): 2,
    ('overfeat_fast', 'overfeat_fine'): 2,
    ('resnet18', 'resnet_fcn'): 2,
}
KINDS = ('evaluator', 'forward passes alone', 'crop by crop')
PATHS = ('center crop', 'training pipeline')
BATCH, IMAGES = 32, 512  # crops per forward pass; photographs per turn of the data path


def timed_function(name):
    """Return the function that a peer's process times, one pass over its photographs.

    Args:
      name: 'KIND|NETWORK|PROTOCOL|FOLDER'.
    """
    kind, network, protocol, data_dir = name.split('|')
    paths = input.photographs(data_dir)
    if kind in PATHS:
        return {'center crop': _center_crop, 'training pipeline': _training}[kind](paths)
    paths = _of_one_size(paths, _count(kind, ROWS[network, protocol]))
    member = _member(network, protocol)
    return dict(zip(KINDS, (_evaluator, _forward, _loop), strict=True))[kind](member, paths)


def _count(kind, count):
    """Return the photographs per turn of one of `KINDS`: one for the loop, which has no batches."""
    return 1 if kind == KINDS[2] else count


def _of_one_size(paths, count):
    """Return `count` photographs of the most frequent size, repeated if there are fewer."""
    import collections

    from PIL import Image

    sizes = {path: Image.open(path).size for path in paths}
    common, _ = collections.Counter(sizes.values()).most_common(1)[0]
    return list(itertools.islice(itertools.cycle(path for path in paths if sizes[path] == common), count))


def _member(network, protocol):
    import architectures
    from configs import listing
    from evaluation import protocols, scoring
    from input_pipeline.pixels import Pixels

    config = listing.load(network)
    model = architectures.create(network, **config.architecture_options)
    variables = architectures.initialize(model, 0, (config.image_size, config.image_size, 3))
    config.normalize = 'constant'
    return scoring.Member(model, variables, config, protocols.create(protocol, network=network), Pixels(config))


def _scorer(member):
    import jax

    from evaluation import scoring

    return scoring.Scorer([member], 1, BATCH, jax.device_put)


def _evaluator(member, paths):
    """Return a pass from files to probabilities, as in `evaluate.py`."""
    from input_pipeline import loader

    scorer = _scorer(member)

    def turn():
        examples = loader.map_images(input.Files(paths), scorer.items)
        assert len(list(scorer.log_probabilities(examples))) == len(paths)

    return turn


def _batches(member, paths):
    """Yield (shape of a batch, dense reading or None, count) for the protocol's views of the photographs."""
    import collections

    from input_pipeline import geometry

    scorer, counts = _scorer(member), collections.Counter()
    for path in paths:
        counts.update(key for key, _ in scorer.items(geometry.decode(path.read_bytes())))
    flips = 2 if member.protocol.flip else 1
    for key, count in counts.items():
        scale = member.protocol.scales[key.scale]
        if not scale.boxes:
            yield (flips, *key.shape), scale.reading, count
        else:
            size, views = member.protocol.size, key.boxes * flips * count
            batch = min(views, BATCH)
            yield (batch, size, size, 3), None, views / batch


def _forward(member, paths):
    """Return the forward passes alone, on as many views of the same shapes, as floats on the device."""
    import jax

    from architectures import layers

    batches = list(_batches(member, paths))
    work = []
    for shape, reading, count in batches:
        options = {} if reading is None else {'dense': reading}
        apply = jax.jit(
            lambda v, x, o=options: member.model.apply(v, x, **o), compiler_options=layers.compiler_options()
        )
        work.append((apply, jax.random.normal(jax.random.key(0), shape), count))

    def turn():
        for apply, images, count in work:
            for _ in range(round(count)):
                jax.block_until_ready(apply(member.variables, images))

    return turn


def _loop(member, paths):
    """Return the naive loop: each view reads, resizes and crops its file again, and is a batch of its own."""
    import jax
    from PIL import Image

    from architectures import layers
    from evaluation import views
    from input_pipeline import geometry

    apply = jax.jit(member.model.apply, static_argnames='dense', compiler_options=layers.compiler_options())

    def score(path, scale, box, mirror):
        with Image.open(path) as file:
            image = np.asarray(file.convert('RGB'))
        image = geometry.resize(image, *geometry.short_side_size(*image.shape[:2], scale.short_side))
        if scale.square:
            ((top, left, side),) = views.center(*image.shape[:2], scale.short_side)
            image = image[top : top + side, left : left + side]
        if box:
            top, left, side = box
            image = geometry.resize(image[top : top + side, left : left + side], *[member.protocol.size] * 2)
        image = image[:, ::-1] if mirror else image
        pixels = image[None].astype(np.float32) - 117.0
        return np.asarray(jax.nn.softmax(apply(member.variables, pixels, dense=False if box else scale.reading)))

    def turn():
        for path in paths:
            with Image.open(path) as file:
                width, height = file.size
            for scale in member.protocol.scales:
                size = geometry.short_side_size(height, width, scale.short_side)
                size = (scale.short_side, scale.short_side) if scale.square else size
                boxes = scale.boxes(*size, member.protocol.size) if scale.boxes else [None]
                for box, mirror in itertools.product(boxes, (False, True) if member.protocol.flip else (False,)):
                    score(path, scale, box, mirror)

    return turn


def _center_crop(paths):
    """Return a pass from files to the items that the evaluator puts on the device."""
    from input_pipeline import loader

    scorer = _scorer(_member('alexnet_owt', 'single_224'))
    paths = list(itertools.islice(itertools.cycle(paths), IMAGES))

    def turn():
        assert sum(len(example['value']) for example in loader.map_images(input.Files(paths), scorer.items)) == IMAGES

    return turn


def _training(paths):
    """Return a pass of `train.py`'s loader over the same photographs, with random crops of short side 256."""
    import functools

    from input_pipeline import crops, loader

    paths = list(itertools.islice(itertools.cycle(paths), IMAGES))
    form = loader.Form(224, 3, crop=functools.partial(crops.random_crop, size=224, short_side=(256, 256)))
    order = functools.partial(loader.example_order, num_examples=IMAGES, seed=0)
    turns = itertools.count()

    def turn():
        start = next(turns) * IMAGES
        list(loader.stream(input.Files(paths), form, order, IMAGES // BATCH, BATCH, start=start))

    return turn


def run(data_dir, rounds=5, networks=()):
    """Yield a row per network and protocol, and one for the data path: images per second, ratios to the others.

    Args:
      data_dir: a folder of photographs.
      rounds: number of timed rounds.
      networks: networks to measure; if empty, all of them and the data path.
    """
    for (network, protocol), count in ROWS.items():
        if networks and network not in networks:
            continue
        names = {kind: f'{kind}|{network}|{protocol}|{data_dir}' for kind in KINDS}
        yield _row(f'{network}, {protocol}', names, 'evaluator', count, rounds)
    if networks:
        return
    names = {kind: f'{kind}|||{data_dir}' for kind in PATHS}
    yield _row('data path of the center crop', names, 'center crop', IMAGES, rounds)


def memory(data_dir, images=input.MEMORY):
    """Return the memory of the evaluator over many JPEG images: [(images, resident MB)], and the peak in MB.

    It runs a small network with ten crops and a dense pass, so that any growth is due to the images.
    """
    from input_pipeline import loader

    paths = list(itertools.islice(itertools.cycle(input.photographs(data_dir)), images))
    crops, dense = _member('resnet20', 'ten_crop_full:32'), _member('resnet20', 'resnet_fcn:64')
    import jax

    from evaluation import scoring

    scorer, samples = scoring.Scorer([crops, dense], 1, BATCH, jax.device_put), []
    scored = scorer.log_probabilities(loader.map_images(input.Files(paths), scorer.items))
    for number, _ in enumerate(scored, start=1):
        if number % 5_000 == 0 or number == images:
            samples.append((number, input.resident()))
    return samples, system.peak_memory() / 1e6


def _row(title, names, ours, count, rounds):
    seconds, _ = timing.run_peers('evaluate', list(names.values()), rounds, huge_pages=True)
    rates = {kind: [_count(kind, count) / turn for turn in seconds[name]] for kind, name in names.items()}
    row = {'name': title, 'images_per_second': statistics.median(rates[ours])}
    for kind in names:
        if kind != ours:
            ratios = [mine / theirs for mine, theirs in zip(rates[ours], rates[kind], strict=True)]
            row[kind] = {'ratio': statistics.median(ratios), 'range': [min(ratios), max(ratios)]}
    return row
