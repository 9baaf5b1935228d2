from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

import references_statistics as references
from finecorr.evaluation.ranks import Concordance, Order

triples = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 3)), min_size=1)


@given(triples)
@settings(max_examples=200, deadline=None)
def test_ranks_and_pairs_of_samples_written_out(rows: list[tuple[int, int, int]]) -> None:
    first, second, times = np.array(rows, float).T
    a, b = references.repeated(first, times), references.repeated(second, times)
    standing = Order(first).standing(times[:, None])
    ranks = 2 * rankdata(a) - (len(a) + 1)
    np.testing.assert_array_equal(references.repeated(standing.rank[:, 0], times), ranks)
    assert standing.differing[0] == sum(x != y for x in a for y in a)
    difference = Concordance(first, second).difference(times[:, None])
    assert difference[0] == references.pairs_by_order(a, b)


def test_pairs_of_many_samples() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(300, size=500).astype(float), rng.normal(size=500)
    weight = rng.poisson(1, size=(500, 20)).astype(float)
    signs = np.sign(first[:, None] - first) * np.sign(second[:, None] - second)
    expected = np.einsum("is,ij,js->s", weight, signs, weight, optimize=True)
    np.testing.assert_array_equal(Concordance(first, second).difference(weight), expected)
