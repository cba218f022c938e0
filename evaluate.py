"""Tests a checkpoint: `python evaluate.py --checkpoint runs/lenet5`.

The config is the one that lies with the checkpoint, or --config's; --config.KEY=VALUE overrides a key of either.
"""

import command_line  # noqa: I001

import json
import os

from absl import flags

from errors import UserError

CHECKPOINT = flags.DEFINE_string('checkpoint', None, "A run's workdir, or one checkpoint.")
STEP = flags.DEFINE_string('step', 'best', "Of a workdir: 'best' by its test error, 'latest', or a step.")
OUTPUT = flags.DEFINE_string('output', None, 'Also write the result as JSON to this file.')


def main():
    if not CHECKPOINT.value:
        raise UserError("no checkpoint: pass --checkpoint DIR, a run's workdir or one checkpoint")
    config, _ = command_line.load_config()
    if OUTPUT.value and not os.access(os.path.dirname(OUTPUT.value) or '.', os.W_OK):
        raise UserError(f'{OUTPUT.value} cannot be written: its folder is not there or not writable')
    import evaluation

    result = evaluation.evaluate(config, CHECKPOINT.value, STEP.value)
    print(
        f'{config.architecture} on {config.dataset}/{config.test_split}, {result["num_examples"]:,} images, protocol '
        f'{result["protocol"]} ({evaluation.PROTOCOLS[result["protocol"]]})'
    )
    chosen = {'best': ", the run's best by test error", 'latest': ", the run's last"}.get(STEP.value, '')
    print(f'checkpoint: {result["checkpoint"]}{chosen if result["chosen"] else ""}')
    if result['passport']:
        source = result['passport']['source']
        print(
            f'weights: {source["name"]} ({source["release"]}), converted from {source["file"]}; they answer the probe '
            'image as their passport says'
        )
    for k in (1, 5):
        print(f'top-{k} error: {result[f"top{k}_error"]:.2f}% ({result[f"wrong_top{k}"]:,} wrong)')
    if 'bad_images' in result:
        print(f'NOT counted: {result["bad_images"]} images that cannot be read')
    if OUTPUT.value:
        with open(OUTPUT.value, 'w') as file:
            json.dump(result, file, indent=2)
            file.write('\n')
    return 0


if __name__ == '__main__':
    command_line.run(main)
