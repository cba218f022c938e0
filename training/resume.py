"""Where a run continues: its last checkpoint, and what its log held by then."""

from input_pipeline import classes
from runtime import distributed
from runtime.errors import UserError
from training import checkpoints
from training.log import RunLog, read


def point(place, source):
    """What `Run` takes of the last checkpoint: its `start` and `average_start`; {} where there is none.

    Args:
      place: of the checkpoints' folder.
      source: the training images; among others the next example would be another.

    Raises:
      UserError: the run was on other images, by their number, or on other classes, by their names.
    """
    if not (place / checkpoints.FOLDER).is_dir():
        return {}
    with checkpoints.Checkpoints(place / checkpoints.FOLDER, read_only=True) as manager:
        latest = manager.latest()
        if latest is None:
            return {}
        info, images = manager.info(latest), len(source)
        if info.get('training_images', images) != images:
            raise UserError(
                f'{place} holds a run on {info["training_images"]:,} training images, and here are {images:,}; pass '
                'its data to resume, or another --workdir'
            )
        names = classes.known_names(source)
        there = info.get('class_names', names)
        if not classes.same_classes(names, there):
            raise UserError(
                f'{place} holds a run on other classes: {classes.first_difference(there, names)}; pass its data '
                'to resume, or another --workdir'
            )
        return {'start': (latest, info['examples_seen']), 'average_start': info.get('average_start')}


def restored(run, workdir, manager, clock):
    """The state and the log that a run continues from."""
    latest, rows = manager.latest(), read(workdir)
    distributed.largest(0)  # the first process writes on when all have read
    if latest is None:
        with clock.time('compile'):
            state, info = run.first_state(), {'clock': {}, 'epoch_is_closed': False}
    else:
        with clock.time('checkpoint'):
            state, info = manager.restore(run.abstract_state(), latest), manager.info(latest)
    if rows:
        clock.resume(info['clock'], max(row['time']['total'] for row in rows))
    resumed, times = (latest or 0) if rows else None, {'total': clock.total()}
    log = RunLog(workdir, rows, resumed, times, info['epoch_is_closed'], distributed.is_first())
    if latest is None and run.inherited:
        notes = {'from': run.config.init_from, 'copied': run.inherited.copied, 'left': run.inherited.left}
        log.write('inherited', 0, {'total': clock.total()}, **notes)
    return state, log
