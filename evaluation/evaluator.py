"""Evaluate one checkpoint, or several as an ensemble, on a test split.

With several processes, each evaluates its share of the images, and all of them return the complete result.
"""

import contextlib
import hashlib
import json
import sys
import time

import jax
import numpy as np

from evaluation import label_sets, results, scoring
from input_pipeline import datasets, fingerprint, loader
from runtime import distributed, mesh
from weights import passport


def evaluate(config, *checkpoints, labels='', partial='', resume=False, progress=lambda amount: None, scorer=None):
    """Evaluate a checkpoint, or several as an ensemble, on the config's test split, counting every image exactly once.

    Args:
      config: config of the first checkpoint, which names the data.
      *checkpoints: returned by `open_checkpoint`.
      labels: see `label_sets.create`.
      partial: file for the rows of finished images, from which an interrupted evaluation can resume; '' for none. The
        caller removes it once the result is saved. Each process has its own.
      resume: whether to resume from that file.
      progress: called with the number of images finished since its last call.
      scorer: from `create_scorer`, to compile the programs only once for several calls; None for a new one.

    Returns:
      (result, rows, names of the classes). The result has the keys of `results.summary` and 'protocol', 'average',
      'checkpoint', 'step', 'chosen', 'passport' (lists for an ensemble), 'labels', 'seconds', 'images_per_second',
      'compiled' (number of programs: one per image size and member), 'evaluated' (images of this call).

    Raises:
      UserError: if an image cannot be read and `config.on_bad_image` is not 'skip' (with 'skip' it counts as wrong),
        or the partial file is of another evaluation.
    """
    members = [checkpoint.member for checkpoint in checkpoints]
    with distributed.Agreed() as facts:
        source = datasets.open_split(config, config.test_split, any_classes=True)
        label_set = label_sets.create(labels, source, config.num_classes, label_sets.names_of(members))
        facts |= {'the number of test images': len(source), 'the list of classes': source.class_names}
        facts['the checkpoint'] = [checkpoint.step for checkpoint in checkpoints]
    part, parts = jax.process_index(), jax.process_count()
    scorer = scorer or create_scorer(config, checkpoints, len(source))
    channels = max(member.pixels.channels for member in members)

    def rows_of(numbers):
        examples = loader.map_images(source, scorer.items, channels, config.on_bad_image, numbers=numbers)
        for example, logs in scorer.log_probabilities(examples):
            index, label = example['index'], example['label']
            label = label_set.label(label) if label >= 0 else label
            accepted = label_set.accepted(index) if label_set.accepted else None
            progress(1)
            yield results.row(index, example['name'], label, label_sets.restrict(logs, label_set.classes), accepted)

    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        saved, numbers = None, range(part, len(source), parts)
        if partial:
            identity = _identity(checkpoints, source, labels)
            saved = stack.enter_context(results.Partial(partial, identity, resume, numbers))
        rows = list(saved.rows) if saved else []
        progress(len(rows))
        finished = {row.index for row in rows}
        numbers = [number for number in numbers if number not in finished]
        for row in rows_of(numbers):
            rows.append(row)
            if saved:
                saved.add(row)
    if parts > 1:
        rows = [results.row_of(row) for text in distributed.gathered(json.dumps(rows)) for row in json.loads(text)]
    results.check_complete(rows, len(source))
    evaluated = len(numbers) if parts == 1 else sum(map(int, distributed.gathered(str(len(numbers)))))
    seconds = time.perf_counter() - began

    def each(values):
        values = list(values)
        return values[0] if len(checkpoints) == 1 else values

    result = results.summary(rows) | {
        'protocol': each(member.protocol.name for member in members),
        'average': each(member.protocol.average for member in members),
        'labels': label_set.name,
        'step': each(checkpoint.step for checkpoint in checkpoints),
        'chosen': each(checkpoint.chosen for checkpoint in checkpoints),
        'checkpoint': each(str(checkpoint.where) for checkpoint in checkpoints),
        'passport': each(checkpoint.card for checkpoint in checkpoints),
        'seconds': seconds,
        'evaluated': evaluated,
        'images_per_second': evaluated / seconds,
        'compiled': len(scorer.programs),
    }
    return result, sorted(rows), label_set.names


def create_scorer(config, checkpoints, most=sys.maxsize):
    """Return the `scoring.Scorer` of checkpoints on the devices of this process, for `evaluate`.

    Args:
      config: config of the first checkpoint.
      checkpoints: returned by `open_checkpoint`.
      most: the number of images, so that no batch has more.
    """
    grid, dense_batch = mesh.of_this_process(), 1 if jax.default_backend() == 'cpu' else 8
    return scoring.Scorer(
        [checkpoint.member for checkpoint in checkpoints],
        grid.size,
        config.test_batch_size,
        lambda batch: jax.device_put(batch, mesh.batch_sharding(grid)),
        dense_batch,
        most,
    )


def _identity(checkpoints, source, labels):
    """Return a dict that is equal for equal checkpoints, data and protocols."""
    return {
        'checkpoint': [str(checkpoint.where) for checkpoint in checkpoints],
        'weights': [_digest(checkpoint.member.variables) for checkpoint in checkpoints],
        'protocol': [checkpoint.member.protocol.name for checkpoint in checkpoints],
        'share': [checkpoint.member.weight for checkpoint in checkpoints],
        'pixels': [
            json.dumps(passport.pixels_of(checkpoint.member.config), sort_keys=True) for checkpoint in checkpoints
        ],
        'data': f'{source.name}: {len(source):,} images',
        'images': fingerprint.of(source),
        'part': f'{jax.process_index()} of {jax.process_count()}',
        'labels': labels,
    }


def _digest(variables):
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()
