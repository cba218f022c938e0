"""LeNet-5 compared with scikit-learn's classifiers on the same digits: accuracy, parameters and memory."""

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
      name: its name.
      accuracies: percent of the test images, one per seed.
      parameters: count of numbers that it needs for prediction, the mean over the seeds.
      memory: their size in bytes, in its own data types; the mean over the seeds.
      network: whether it is one of our networks.
    """

    name: str
    accuracies: tuple
    parameters: float
    memory: float
    network: bool


def make(out, config, checkpoint, step='best', count=0, seeds=3):
    """Draw accuracy with error bars over seeds, parameters and memory of networks and scikit-learn's classifiers.

    Args:
      out: path of the figure.
      config: config of the first checkpoint, whose data all use.
      checkpoint: checkpoints of LeNet-5 or other networks; several of the same network are its seeds.
      step: which checkpoint of each workdir: 'best', 'latest' or a number.
      count: training images for scikit-learn's classifiers, drawn again for each seed; 0 for all.
      seeds: how many times they are trained.

    Raises:
      UserError: if the data set is not held in memory, or a number is out of range.
    """
    if seeds < 1 or count < 0:
        raise UserError(f'--seeds must be above 0 and --count at least 0, not {seeds} and {count}')
    train, test = datasets.open_splits(config)
    if not loader.fits_in_memory(train) or not loader.fits_in_memory(test):
        raise UserError(f'{config.dataset} is not held in memory: compare needs small images, such as digits or mnist')
    count = min(count or len(train), len(train))
    measured = of_networks(config, evaluation.open_members(config, checkpoint, step))
    measured += of_classifiers(vectors(train), vectors(test), count, seeds)
    networks = ', '.join(f'{one.name} ×{len(one.accuracies)}' for one in measured if one.network)
    title = (
        f"{networks} and scikit-learn's classifiers on {config.dataset}: {len(test):,} test images\n"
        f'networks as trained; classifiers on {count:,} training images, mean and standard deviation of {seeds} seeds'
    )
    _draw(out, measured, title)


def vectors(source):
    """Return (float32 [N, pixels] from 0 to 1, labels [N]) of a source in memory."""
    return source.images.reshape(len(source), -1).astype(np.float32) / 255, source.labels


def of_networks(config, checkpoints):
    """Return the `Measured` of each network among the checkpoints."""
    runs_of = {}
    for checkpoint in checkpoints:
        accuracy = 100 - evaluation.evaluate(config, checkpoint)[0]['top1_error']
        member = checkpoint.member
        runs_of.setdefault(member.config.architecture, []).append((accuracy, member.variables))
    return [
        Measured(
            name,
            tuple(accuracy for accuracy, _ in runs),
            *np.mean([size(jax.tree.leaves(variables)) for _, variables in runs], 0),
            True,
        )
        for name, runs in runs_of.items()
    ]


def of_classifiers(train, test, count, seeds):
    """Return the `Measured` of scikit-learn's classifiers.

    Args:
      train, test: from `vectors`.
      count: training images, drawn again for each seed.
      seeds: number of seeds.
    """
    images, labels = train
    accuracies, sizes = {}, {}
    with bar("scikit-learn's classifiers", seeds * len(classifiers(0))) as progress:
        for seed in range(seeds):
            indices = np.sort(loader.example_order(0, count, len(images), seed)[0])
            for name, (classifier, arrays_of) in classifiers(seed).items():
                classifier.fit(images[indices], labels[indices])
                right = np.mean(classifier.predict(test[0]) == test[1])
                accuracies.setdefault(name, []).append(100 * float(right))
                sizes.setdefault(name, []).append(size(arrays_of(classifier)))
                progress()
    return [Measured(name, tuple(accuracies[name]), *np.mean(sizes[name], 0), False) for name in accuracies]


def classifiers(seed):
    """Return {name: (classifier, arrays_of)} of scikit-learn; options not set here are its defaults.

    `arrays_of` is a function from the trained classifier to the arrays that it needs for prediction.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    mlp = MLPClassifier(hidden_layer_sizes=(300,), early_stopping=True, random_state=seed)
    return {
        'linear (logistic)': (LogisticRegression(max_iter=3000, random_state=seed), lambda x: [x.coef_, x.intercept_]),
        '3 nearest neighbors': (KNeighborsClassifier(3, algorithm='brute'), lambda x: [x._fit_X, x._y]),
        'SVM, RBF': (
            SVC(C=10, random_state=seed),
            lambda x: [x.support_vectors_, x.dual_coef_, x.intercept_, x.n_support_],
        ),
        'random forest': (RandomForestClassifier(100, random_state=seed), _of_forest),
        'MLP, 300 hidden': (mlp, lambda x: [*x.coefs_, *x.intercepts_]),
    }


def _of_forest(forest):
    """Return the arrays of a forest: feature, threshold and two children per inner node; class shares per leaf."""
    arrays = []
    for tree in (estimator.tree_ for estimator in forest.estimators_):
        splits = tree.children_left != -1
        arrays += [a[splits] for a in (tree.feature, tree.threshold, tree.children_left, tree.children_right)]
        arrays.append(tree.value[~splits])
    return arrays


def size(arrays):
    """Return (count of numbers, bytes) of arrays."""
    return sum(x.size for x in arrays), sum(x.size * x.dtype.itemsize for x in arrays)


def _draw(out, measured, title):
    places = range(len(measured), 0, -1)  # the first on top
    colors = [style.ORANGE if one.network else style.BLUE for one in measured]
    means = [np.mean(one.accuracies) for one in measured]
    spreads = [np.std(one.accuracies, ddof=1) if len(one.accuracies) > 1 else 0.0 for one in measured]
    with style.look():
        figure = style.figure(16, 1.6 + 0.85 * len(measured))
        figure.get_layout_engine().set(w_pad=0.15)
        left, middle, right = figure.subplots(1, 3, sharey=True)
        left.errorbar(means, places, xerr=spreads, fmt='none', ecolor='black', capsize=6, linewidth=2)
        left.scatter(means, places, s=90, color=colors, zorder=3)
        room = max(means) - min(means) or 1
        limits = min(means) - 0.25 * room, max(means) + 0.25 * room
        left.set_xlim(limits)
        left.set_xticks([tick for tick in left.get_xticks() if limits[0] <= tick <= 100])
        for place, mean, spread, one in zip(places, means, spreads, measured, strict=True):
            label = f'{mean:.2f}' + (f' ± {spread:.2f}' if len(one.accuracies) > 1 else '')
            left.text(mean, place + 0.18, label, ha='center', va='bottom', fontsize=12)
        left.set(title='accuracy, %', yticks=places, yticklabels=[one.name for one in measured])
        left.set_ylim(0.5, len(measured) + 0.6)
        for axes, name, unit in ((middle, 'parameters', ''), (right, 'memory', 'B')):
            values = [getattr(one, name) for one in measured]
            axes.barh(places, values, 0.6, color=colors)
            axes.set(xscale='log', xlim=(min(values) / 3, max(values) * 12))
            axes.set_title(
                'parameters: numbers needed for prediction' if name == 'parameters' else 'memory for them, bytes'
            )
            for place, value in zip(places, values, strict=True):
                axes.text(value * 1.2, place, _short(value, unit), va='center', fontsize=12)
        for axes in (left, middle, right):
            axes.grid(axis='x', alpha=0.3)
        figure.suptitle(title)
        style.save(figure, out)


def _short(value, unit):
    """Format 61,706 as 61.7k, and 246,824 with the unit B as 247 kB."""
    for factor, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if value >= factor:
            number = f'{value / factor:.3g}'
            return f'{number} {letter}{unit}' if unit else f'{number}{letter}'
    return f'{value:.0f} {unit}'.rstrip()
