"""Our assignment gives the same pairs as scipy's, for random matrices."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from emotion.linking.assign import best_pairs


def of_scipy(fit: np.ndarray) -> list[tuple[int, int]]:
    rows, columns = linear_sum_assignment(fit, maximize=True)
    return [(i, j) for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if fit[i, j] > 0]


@pytest.mark.parametrize("filled", [0.1, 0.3, 0.6, 1.0])
def test_pairs_are_those_of_scipy(filled: float) -> None:
    random = np.random.default_rng(1)
    for _ in range(400):
        shape = random.integers(0, 9, 2)
        fit = random.random(shape) * (random.random(shape) < filled)
        assert best_pairs(fit) == of_scipy(fit)


@pytest.mark.parametrize("shape", [(40, 40), (40, 25), (7, 60)])
def test_a_crowd_is_too(shape: tuple[int, int]) -> None:
    fit = np.random.default_rng(2).random(shape)
    assert best_pairs(fit) == of_scipy(fit)


def test_of_equals_the_sum_is_the_largest() -> None:
    random = np.random.default_rng(3)
    for _ in range(300):
        fit = random.integers(0, 4, random.integers(1, 7, 2)).astype(np.float64)
        for pairs in (best_pairs(fit), of_scipy(fit)):
            assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
        assert sum(fit[p] for p in best_pairs(fit)) == sum(fit[p] for p in of_scipy(fit))


def test_nothing_has_no_pairs() -> None:
    for shape in ((0, 0), (0, 3), (3, 0), (2, 2)):
        assert best_pairs(np.zeros(shape)) == []
