"""Fine-tuning: the network's options and the pixels that the weights in `init_from` were trained with."""

from input_pipeline import statistics
from runtime import stored_config
from runtime.errors import UserError
from training import checkpoints
from training.run import build_model

_PIXELS = (*checkpoints.INPUT, 'image_size', 'fit', 'test_crop', 'statistics', 'colour.mean_under_crop')
_OF_TRAINING = 'auxiliary_heads', 'frozen_norm', 'group_size', 'scan', 'remat'  # options that the recipe decides


def adopt(config, keep=()):
    """Set a config's options of the network and its pixels to those of the checkpoint in `init_from`, in place.

    So a network is not fine-tuned with another stride, or on pixels of another scale, than it was trained with.
    Auxiliary heads are left out: no published weights have them, and they train the layers below for one long run only.

    Args:
      config: the config of a run; nothing is done unless it has `init_input`.
      keep: keys that the user set, which stay.

    Raises:
      UserError: there is no `init_from`, or it is of another network, or has no config.
    """
    if not config.init_input:
        return
    if not config.init_from:
        raise UserError('fine-tuning needs weights to start from: pass --config.init_from=DIR')
    try:
        saved = stored_config.get_config(config.init_from)
    except ValueError as error:
        raise UserError(f'init_from: {error}') from None
    if saved.architecture != config.architecture:
        raise UserError(
            f'init_from: {config.init_from} is {saved.architecture}, and the config {config.architecture}: pass '
            f'--config configs/{saved.architecture}.py:folder=DIR,finetune'
        )
    options = {key: value for key, value in saved.architecture_options.items() if key not in _OF_TRAINING}
    for key, value in options.items():
        if f'architecture_options.{key}' not in keep:
            config.architecture_options[key] = value
    for key in _PIXELS:
        if not any(name == key or name.startswith(f'{key}.') for name in keep):
            group, _, name = key.rpartition('.')
            (config[group] if group else config)[name] = (saved[group] if group else saved)[name]
    file = checkpoints.locate(config.init_from)[0].parent / statistics.NAME
    if not config.statistics and file.is_file():
        config.statistics = str(file)
    if getattr(build_model(config), 'auxiliary_heads', False):
        config.architecture_options.auxiliary_heads = False
