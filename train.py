"""Train a network: `python train.py --config configs/lenet5_digits.py`.

--config.KEY=VALUE overrides a key of the config. The same command resumes the run, or reports that it is finished.
"""

from runtime import interrupts  # first, to handle Ctrl-C during the imports

if __name__ == '__main__':
    interrupts.listen('progress')

from runtime import command_line  # noqa: I001  (second: it starts the clock)

import shlex
import sys

from absl import flags

WORKDIR = flags.DEFINE_string('workdir', None, "The run's folder (default: runs/CONFIG).")
command_line.define_processes()
VERIFY_RESUME = flags.DEFINE_bool(
    'verify_resume', False, 'Run a short training twice, once uninterrupted and once killed and resumed, and compare.'
)
CHECK = flags.DEFINE_bool(
    'check', False, 'Report whether the run can start, how long it will take and what limits its speed; train nothing.'
)


def main():
    config, name = command_line.load_config()
    if config.get('init_from', '').startswith(('hf://', 'torchvision:')):
        import weights

        with interrupts.Raised():
            config.init_from = str(weights.converted(config.init_from))
    from training import finetune, unread

    if 'members' not in config:
        finetune.adopt(config, command_line.overrides())
    unread.refuse(config, *command_line.set_keys())
    if VERIFY_RESUME.value:
        from training import verify

        with interrupts.Raised():  # so that the temporary folder is removed
            return 0 if verify.verify_resume(sys.argv, config) else 1
    from runtime import distributed
    from training import loop
    from training.workdir import OtherRun

    workdir = WORKDIR.value or f'runs/{name}'
    interrupts.advise('the same command resumes')
    try:
        if CHECK.value:
            from training import preflight

            preflight.check_run(config, workdir, print if distributed.is_first() else lambda line: None)
            return 0
        if 'members' in config:
            return train_series(config, workdir)
        loop.train(config, workdir, command_line.START)
    except OtherRun as error:
        raise error.naming(command_line.arguments_for(error.differences)) from None
    except loop.Interrupted as interrupted:
        return 128 + interrupted.signal
    if distributed.is_first():
        from architectures.catalogue import OWN

        own = ['--config', command_line.config_file()] if config.architecture in OWN else []  # no checkpoint has it
        of_run = shlex.join([*own, '--checkpoint', workdir])
        print(f'evaluate: python evaluate.py {of_run}')
        if config.dataset == 'folder':
            show_errors(config, workdir, of_run)
    return 0


def show_errors(config, workdir, of_run):
    """Print the errors of the best checkpoint on a user's own pictures, and the commands to look further."""
    import jax

    import evaluation
    from evaluation import report
    from runtime.text import say

    figures = ['confusion', 'errors']
    if jax.process_count() == 1:
        result, rows, names = evaluation.evaluate(config, evaluation.open_checkpoint(config, workdir))
        say(*report.worst(rows, names))
        figures = figures if result['wrong_top1'] else figures[:1]
    for figure in figures:
        print(f'{figure}: python visualize.py {figure} {of_run} {shlex.join(["--out", f"{workdir}_{figure}.png"])}')
    print(f'predict: python predict.py {of_run} PICTURES')


def train_series(config, workdir):
    """Train the members of a series, and plot their errors."""
    from figures import falling
    from runtime import distributed
    from training import series

    rows = series.train(config, workdir, command_line.START)
    if not distributed.is_first():
        return 0
    print('\n' + series.table(rows))
    path = f'{workdir}/errors.png'
    falling.draw(rows, path)
    print(f'table: {workdir}/table.md, figure: {path}')
    return 0


if __name__ == '__main__':
    command_line.run(main)
