"""The original LeNet-5 on MNIST: LeCun, Bottou, Bengio, Haffner 1998.

python train.py --config configs/lenet5_1998.py --config.data_dir=FOLDER_OF_THE_FOUR_IDX_FILES
"""

from configs import base


def get_config():
    config = base.get_config()
    config.name = 'configs/lenet5_1998.py'
    config.dataset = 'mnist'
    config.architecture = 'lenet5_1998'
    config.architecture_options.init_power = 0.5

    config.loss = 'discriminative_penalty'
    config.optimizer = 'sdlm'
    config.sdlm_mu = 0.02
    config.sdlm_samples = 500
    config.learning_rates = ((2, 5e-4), (3, 2e-4), (3, 1e-4), (4, 5e-5), (8, 1e-5))
    config.batch_size = 1
    config.num_epochs = 20.0

    config.log_every_steps = 10_000
    config.steps_per_dispatch = 2_000
    return config
