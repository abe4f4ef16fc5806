"""Find likely label errors: confident learning (Northcutt et al., 2021, https://arxiv.org/abs/1911.00068).

Functions of numbers alone: out-of-sample probabilities `(N, K)`, by networks that were not trained on the photo, and
the given labels, `int64 (N,)`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def self_confidence(probabilities: Floats, labels: Labels) -> Floats:
    """The probability of the given label, `(N,)`: the lower, the more likely a label error."""
    return probabilities[np.arange(len(labels)), labels]


def confident_labels(probabilities: Floats, labels: Labels) -> Labels:
    """The class that each photo confidently belongs to, or -1 for none, `(N,)`.

    A photo confidently belongs to a class if its probability is at least the mean one among the photos labelled so; of
    several such classes, the most likely class of all is used, as in cleanlab. A class without labelled photos is never
    confident by itself.
    """
    classes = probabilities.shape[1]
    means = np.full(classes, np.inf)
    for index in np.unique(labels):
        means[index] = probabilities[labels == index, index].mean()
    believed = probabilities >= means - 1e-6
    counts = believed.sum(1)
    return np.where(counts > 1, probabilities.argmax(1), np.where(counts == 1, believed.argmax(1), -1))


def ranked(probabilities: Floats, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Photos by increasing self-confidence, and whether each is a likely label error, `(N,)` each.

    A likely label error confidently belongs to another class, and its most likely class is not its label.
    """
    confident = confident_labels(probabilities, labels)
    order = np.argsort(self_confidence(probabilities, labels), kind="stable")
    return order, (confident >= 0) & (confident != labels) & (probabilities.argmax(1) != labels)
