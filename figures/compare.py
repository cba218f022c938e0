"""LeNet-5 beside scikit-learn's classifiers on the same digits: accuracy, parameters and memory."""

from typing import NamedTuple

import jax
import numpy as np

import evaluation
from figures import style
from input_pipeline import datasets, loader
from input_pipeline.progress import bar
from runtime.errors import UserError


class Measured(NamedTuple):
    """A classifier after training with several seeds.

    Fields:
      name: of it.
      accuracies: per cent of the test images, one a seed.
      parameters: numbers that it has to keep to answer, the mean over the seeds.
      memory: bytes of them, as it keeps them; likewise.
      network: whether it is one of ours.
    """

    name: str
    accuracies: tuple
    parameters: float
    memory: float
    network: bool


def make(out, config, checkpoint, step='best', count=0, seeds=3):
    """Draws accuracy with error bars over seeds, parameters and memory of networks and of scikit-learn's classifiers.

    Args:
      out: the file.
      config: of the first checkpoint, and the data of all.
      checkpoint: of LeNet-5 or other networks; several of the same network are its seeds.
      step: of those that are workdirs, 'best', 'latest' or a number.
      count: training images of scikit-learn's classifiers, drawn anew with each seed; 0 is all.
      seeds: how many times those are trained.

    Raises:
      UserError: data that are not held in memory, or numbers out of range.
    """
    if seeds < 1 or count < 0:
        raise UserError(f'--seeds must be above 0 and --count at least 0, not {seeds} and {count}')
    train, test = datasets.open_splits(config)
    if not loader.fits_in_memory(train) or not loader.fits_in_memory(test):
        raise UserError(f'{config.dataset} is not held in memory: compare is of small images, as digits and mnist')
    count = min(count or len(train), len(train))
    found = of_networks(config, evaluation.open_members(config, checkpoint, step))
    found += of_classifiers(vectors(train), vectors(test), count, seeds)
    networks = ', '.join(f'{one.name} ×{len(one.accuracies)}' for one in found if one.network)
    title = (
        f"{networks} beside scikit-learn's classifiers on {config.dataset}: {len(test):,} test images\n"
        f'networks as trained; classifiers on {count:,} training images, mean and standard deviation of {seeds} seeds'
    )
    _draw(out, found, title)


def vectors(source):
    """(float32 [N, pixels] from 0 to 1, labels [N]) of a source in memory."""
    return source.images.reshape(len(source), -1).astype(np.float32) / 255, source.labels


def of_networks(config, members):
    """The `Measured` of each network among opened checkpoints."""
    found = {}
    for one in members:
        result = evaluation.test(config, one)[0]
        found.setdefault(one.member.config.architecture, []).append((100 - result['top1_error'], one.member.variables))
    return [
        Measured(
            name,
            tuple(accuracy for accuracy, _ in runs),
            *np.mean([size(jax.tree.leaves(variables)) for _, variables in runs], 0),
            True,
        )
        for name, runs in found.items()
    ]


def of_classifiers(train, test, count, seeds):
    """The `Measured` of scikit-learn's classifiers.

    Args:
      train, test: of `vectors`.
      count: training images, drawn with each seed.
      seeds: how many.
    """
    images, labels = train
    accuracies, sizes = {}, {}
    with bar("scikit-learn's classifiers", seeds * len(classifiers(0))) as progress:
        for seed in range(seeds):
            chosen = np.sort(loader.example_order(0, count, len(images), seed)[0])
            for name, (classifier, keeps) in classifiers(seed).items():
                classifier.fit(images[chosen], labels[chosen])
                right = np.mean(classifier.predict(test[0]) == test[1])
                accuracies.setdefault(name, []).append(100 * float(right))
                sizes.setdefault(name, []).append(size(keeps(classifier)))
                progress()
    return [Measured(name, tuple(accuracies[name]), *np.mean(sizes[name], 0), False) for name in accuracies]


def classifiers(seed):
    """{name: (classifier, what it keeps)} of scikit-learn; options that are not named are its defaults.

    What it keeps is a function of the trained classifier: the arrays without which it could not answer.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    mlp = MLPClassifier(hidden_layer_sizes=(300,), early_stopping=True, random_state=seed)
    return {
        'linear (logistic)': (LogisticRegression(max_iter=3000, random_state=seed), lambda x: [x.coef_, x.intercept_]),
        '3 nearest neighbours': (KNeighborsClassifier(3, algorithm='brute'), lambda x: [x._fit_X, x._y]),
        'SVM, RBF': (
            SVC(C=10, random_state=seed),
            lambda x: [x.support_vectors_, x.dual_coef_, x.intercept_, x.n_support_],
        ),
        'random forest': (RandomForestClassifier(100, random_state=seed), _of_forest),
        'MLP, 300 hidden': (mlp, lambda x: [*x.coefs_, *x.intercepts_]),
    }


def _of_forest(forest):
    """Of each tree: at a node that splits a feature, a threshold and two children; at a leaf a share of each class."""
    arrays = []
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        splits = tree.children_left != -1
        arrays += [a[splits] for a in (tree.feature, tree.threshold, tree.children_left, tree.children_right)]
        arrays.append(tree.value[~splits])
    return arrays


def size(arrays):
    """(numbers, bytes) of arrays."""
    return sum(x.size for x in arrays), sum(x.size * x.dtype.itemsize for x in arrays)


def _draw(out, found, title):
    places = range(len(found), 0, -1)  # the first on top
    colours = [style.ORANGE if one.network else style.BLUE for one in found]
    means = [np.mean(one.accuracies) for one in found]
    spreads = [np.std(one.accuracies, ddof=1) if len(one.accuracies) > 1 else 0.0 for one in found]
    with style.look():
        made = style.figure(16, 1.6 + 0.85 * len(found))
        made.get_layout_engine().set(w_pad=0.15)
        left, middle, right = made.subplots(1, 3, sharey=True)
        left.errorbar(means, places, xerr=spreads, fmt='none', ecolor='black', capsize=6, linewidth=2)
        left.scatter(means, places, s=90, color=colours, zorder=3)
        room = max(means) - min(means) or 1
        limits = min(means) - 0.25 * room, max(means) + 0.25 * room
        left.set_xlim(limits)
        left.set_xticks([tick for tick in left.get_xticks() if limits[0] <= tick <= 100])
        for place, mean, spread, one in zip(places, means, spreads, found, strict=True):
            says = f'{mean:.2f}' + (f' ± {spread:.2f}' if len(one.accuracies) > 1 else '')
            left.text(mean, place + 0.18, says, ha='center', va='bottom', fontsize=12)
        left.set(title='accuracy, %', yticks=places, yticklabels=[one.name for one in found])
        left.set_ylim(0.5, len(found) + 0.6)
        for axes, name, unit in ((middle, 'parameters', ''), (right, 'memory', 'B')):
            values = [getattr(one, name) for one in found]
            axes.barh(places, values, 0.6, color=colours)
            axes.set(xscale='log', xlim=(min(values) / 3, max(values) * 12))
            axes.set_title('parameters: numbers kept to answer' if name == 'parameters' else 'memory of them, bytes')
            for place, value in zip(places, values, strict=True):
                axes.text(value * 1.2, place, _short(value, unit), va='center', fontsize=12)
        for axes in (left, middle, right):
            axes.grid(axis='x', alpha=0.3)
        made.suptitle(title)
        style.save(made, out)


def _short(value, unit):
    """61,706 as 61.7k, and with the unit B 246,824 as 247 kB."""
    for factor, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= factor:
            number = f'{value / factor:.3g}'
            return f'{number} {letter}{unit}' if unit else f'{number}{letter}'
    return f'{value:.0f} {unit}'.rstrip()
