"""A test split through one checkpoint, or through several as an ensemble: `test`.

Of several processes each tests images of its own, and all have the whole result.
"""

import contextlib
import hashlib
import json
import time

import jax
import numpy as np

from evaluation import label_sets, results, scoring
from input_pipeline import datasets, loader
from runtime import distributed, mesh
from weights import passport


def test(config, *opened, labels='', partial='', resume=False, progress=lambda amount: None):
    """Tests a checkpoint, or several as an ensemble, on the config's test split, every image counted exactly once.

    Args:
      config: whose data it is: the first checkpoint's.
      *opened: of `opening.open_checkpoint`.
      labels: see `label_sets.create`.
      partial: a file for the rows that are done, so that an interrupted evaluation can go on; '' for none. It is left
        there: who has put the result in a safe place removes it. Each process has its own.
      resume: whether it may go on from that file.
      progress: called with the number of images that are done since its last call.

    Returns:
      (result, rows, the names of the classes). The result has the keys of `results.summary` and 'protocol', 'average',
      'checkpoint', 'step', 'chosen', 'passport' (lists in an ensemble), 'labels', 'seconds', 'images_per_second',
      'compiled' (how many programs: one for each size of images and member), 'evaluated' (images this time).

    Raises:
      UserError: an image that cannot be read, unless `config.on_bad_image` is 'skip': then it counts as wrong; what
        the partial file holds is of another evaluation.
    """
    source = datasets.open_split(config, config.test_split, any_classes=True)
    members = [entry.member for entry in opened]
    chosen = label_sets.create(labels, source, config.num_classes, label_sets.names_of(members))
    grid, (part, parts) = mesh.of_this_process(), (jax.process_index(), jax.process_count())
    dense_batch = 1 if jax.default_backend() == 'cpu' else 8
    scorer = scoring.Scorer(
        members,
        grid.size,
        config.test_batch_size,
        lambda batch: jax.device_put(batch, mesh.batch_sharding(grid)),
        dense_batch,
    )
    channels = max(member.pixels.channels for member in members)

    def rows_of(numbers):
        examples = loader.map_images(source, scorer.items, channels, config.on_bad_image, numbers=numbers)
        for example, logs in scorer.log_probabilities(examples):
            index, label = example['index'], example['label']
            label = chosen.label(label) if label >= 0 else label
            accepted = chosen.accepted(index) if chosen.accepted else None
            progress(1)
            yield results.row(index, example['name'], label, label_sets.chosen(logs, chosen.classes), accepted)

    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(results.Partial(partial, _what(opened, source, labels), resume)) if partial else None
        rows = list(kept.rows) if kept else []
        progress(len(rows))
        had = {row.index for row in rows}
        numbers = [number for number in range(part, len(source), parts) if number not in had]
        for row in rows_of(numbers):
            rows.append(row)
            if kept:
                kept.add(row)
    if parts > 1:
        rows = [results.row_of(row) for text in distributed.gathered(json.dumps(rows)) for row in json.loads(text)]
    evaluated = len(numbers) if parts == 1 else sum(map(int, distributed.gathered(str(len(numbers)))))
    seconds = time.perf_counter() - began

    def each(values):
        values = list(values)
        return values[0] if len(opened) == 1 else values

    result = results.summary(rows) | {
        'protocol': each(member.protocol.name for member in members),
        'average': each(member.protocol.average for member in members),
        'labels': chosen.name,
        'step': each(entry.step for entry in opened),
        'chosen': each(entry.chosen for entry in opened),
        'checkpoint': each(str(entry.where) for entry in opened),
        'passport': each(entry.card for entry in opened),
        'seconds': seconds,
        'evaluated': evaluated,
        'images_per_second': evaluated / seconds,
        'compiled': len(scorer.programs),
    }
    return result, sorted(rows), chosen.names


def _what(opened, source, labels):
    """What an evaluation is of: equal for equal checkpoints, data and protocols."""
    return {
        'checkpoint': [str(entry.where) for entry in opened],
        'weights': [_digest(entry.member.variables) for entry in opened],
        'protocol': [entry.member.protocol.name for entry in opened],
        'share': [entry.member.weight for entry in opened],
        'pixels': [json.dumps(passport.pixels_of(entry.member.config), sort_keys=True) for entry in opened],
        'data': f'{source.name}: {len(source):,} images, {_sample(source)}',
        'part': f'{jax.process_index()} of {jax.process_count()}',
        'labels': labels,
    }


def _digest(variables):
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()


def _sample(source, count=64):
    """A digest of some examples of a source, evenly spaced."""
    sha = hashlib.sha256()
    for number in sorted(set(np.linspace(0, len(source) - 1, count).astype(int).tolist())):
        image, label, name = source[number]
        sha.update(f'{name} {label} '.encode() + (image if isinstance(image, bytes) else np.asarray(image).tobytes()))
    return sha.hexdigest()[:16]
