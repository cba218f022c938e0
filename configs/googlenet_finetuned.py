"""GoogLeNet's published weights fine-tuned on enlarged CIFAR-10 photographs: first the classifier, then all layers;
for comparison, the same network from random weights, for the same number of steps.

    python convert.py --arch googlenet --source bvlc_googlenet.caffemodel --out runs/bvlc_googlenet
    python train.py --config configs/googlenet_finetuned.py --config.data_dir=FOLDER_OF_CIFAR10

Published: nothing; Donahue et al. 2014 and Zeiler and Fergus 2013, section 5, transfer features of such networks.

`--config.members.classifier.init_from=DIR` starts from other weights of the network. Both ways take 400 steps of 32
photographs of 112x112, a quarter of an epoch. There are no auxiliary heads, as no weights for them are published.

Measured, JPEG copy, 2 cores, 2026-11-25: 41.82% after the classifier, 35.67% at the end; from random weights 77.20%.
"""

from configs import googlenet, series, variants

STEPS = {'classifier': 150, 'all': 250, 'scratch': 400}
_TRAINING = 50_000  # images


def _small():
    config = variants.apply(googlenet.recipe(), 'cifar10', small=variants.Small(112, auxiliary_window=1))
    config.architecture_options.auxiliary_heads = False
    config.colour.jitter = 'none'
    config.colour.lighting = 'none'
    config.average = 'none'  # a quarter of an epoch is too short to average
    config.schedule = 'steps'
    return config


def _member(name, rate):
    config = _small()
    config.num_epochs = STEPS[name] * config.batch_size / _TRAINING
    config.learning_rates = ((config.num_epochs, rate),)
    return config


def get_config(variant=''):
    variants.parse(variant, (), 'googlenet_finetuned')
    classifier, all_layers, scratch = _member('classifier', 0.01), _member('all', 0.001), _member('scratch', 0.01)
    classifier.init_from = 'runs/bvlc_googlenet'
    classifier.trained_layers = ('classifier',)
    all_layers.init_from = 'classifier'
    return series.create(classifier=classifier, all=all_layers, scratch=scratch)
