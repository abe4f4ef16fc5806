"""Which labels are likely wrong: confident learning (Northcutt et al., 2021, https://arxiv.org/abs/1911.00068).

Functions of numbers alone: probabilities `(N, K)` by nets that did not train on the photo, and the labels given,
`int64 (N,)`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def self_confidence(probabilities: Floats, labels: Labels) -> Floats:
    """The probability of the label given, `(N,)`: the lower, the more suspect."""
    return probabilities[np.arange(len(labels)), labels]


def confident_labels(probabilities: Floats, labels: Labels) -> Labels:
    """The class that each photo belongs to with confidence, or -1 for none, `(N,)`.

    A class is believed where its probability is at least the mean one among the photos labelled so; where several are,
    the likeliest class of all, as cleanlab has it. A class that no photo has is not believed by itself.
    """
    classes = probabilities.shape[1]
    means = np.full(classes, np.inf)
    for index in np.unique(labels):
        means[index] = probabilities[labels == index, index].mean()
    believed = probabilities >= means - 1e-6
    counts = believed.sum(1)
    return np.where(counts > 1, probabilities.argmax(1), np.where(counts == 1, believed.argmax(1), -1))


def ranked(probabilities: Floats, labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Photos from the most suspect label on, and, by photo, whether it is believed to be of another class, `(N,)` each.

    One whose likeliest class is the very label that it has is not.
    """
    confident = confident_labels(probabilities, labels)
    order = np.argsort(self_confidence(probabilities, labels), kind="stable")
    return order, (confident >= 0) & (confident != labels) & (probabilities.argmax(1) != labels)
