"""Figures, one file each."""

import importlib

from runtime.errors import UserError, nearest

FIGURES = {  # name: what it shows
    'errors': 'test images that a network gets wrong (LeCun et al. 1998, figure 8)',
    'predictions': 'photographs with the five best classes of each (AlexNet, figure 4, left)',
    'filters': 'kernels of the first convolution (AlexNet, figure 3)',
    'deconvnet': 'the strongest activations of a layer, projected to pixels (Zeiler and Fergus 2013, figure 2)',
    'occlusion': 'the probability of a class while a gray square slides over the image (ZFNet, figure 7)',
    'gradcam': 'where a network sees a class: Grad-CAM, CAM, occlusion, deconvnet (Selvaraju 2017, Zhou 2016)',
    'features': 'images with their nearest neighbors in the last hidden layer (AlexNet, figure 4, right)',
    'confusion': 'which class a network takes for which, over its test images',
    'reliability': 'how often networks are right, over the probability that they give (Guo et al. 2017, figure 1)',
    'landscape': 'the loss over two random directions, as contours and surfaces (Li et al. 2018)',
    'degradation': 'training and test error of runs: plain20, plain56, resnet20, resnet56 (He et al. 2015, figure 6)',
    'compare': "LeNet-5 and scikit-learn's classifiers on the same digits: accuracy, parameters, memory",
    'timeline': "the top-5 errors of ImageNet's winners, 2010 to 2017, and the human level",
    'depth': 'published errors over parameters and multiply-adds',
    'architecture': 'a network as a chain of blocks',
    'block': 'one block of a network as the graph of its layers',
    'report': 'a page (.html) about a run or converted weights: passport, curves, errors, filters, wrong images',
    'draw': 'a page (.html) to draw a digit that a LeNet classifies',
}


def maker(name):
    """Return the function `make` of a figure; raise UserError if there is none of that name."""
    if name not in FIGURES:
        raise UserError(f'no figure {name!r}{nearest(name, FIGURES)} The figures: {", ".join(FIGURES)}')
    return importlib.import_module(f'figures.{name}').make
