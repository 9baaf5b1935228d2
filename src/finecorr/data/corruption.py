"""Wrong labels on purpose, to see what a loss makes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def replace_labels(
    labels: NDArray[np.float64], fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Gives a share of the samples the label of another, random sample.

    Args:
        labels: `(n,)` or `(n, targets)`; a sample's labels are replaced together.
        fraction: the share of the samples, in [0, 1), rounded to whole samples.
        rng: the source of randomness.

    Returns:
        The labels, and `(n,)` whether they were replaced.

    Raises:
        ValueError: `fraction` is out of its range.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction of labels to replace must be in [0, 1), not {fraction}")
    n = len(labels)
    count = round(fraction * n) if n > 1 else 0
    replaced = np.zeros(n, dtype=np.bool_)
    chosen = rng.choice(n, count, replace=False)
    replaced[chosen] = True
    # A step of 1 to n - 1 around the table never ends at the sample itself.
    others = (chosen + rng.integers(1, max(n, 2), count)) % n
    result = labels.copy()
    result[chosen] = labels[others]
    return result, replaced
