"""Assignment of faces to tracks with the largest total fit: the Hungarian method."""

import numpy as np

from emotion.types import Float64


def best_pairs(fit: Float64) -> list[tuple[int, int]]:
    """Return the pairs (row, column) of a matrix (R, C), by row, with the largest sum of fits.

    fit: not negative; 0 means no match. Each row and column is in at most one pair.
    """
    rows = np.flatnonzero(fit.max(axis=1, initial=0) > 0)
    if not len(rows):
        return []
    first = fit[rows].argmax(axis=1)
    if len(set(first.tolist())) == len(rows):  # usual case: no two rows prefer the same column
        return list(zip(rows.tolist(), first.tolist(), strict=True))
    columns = np.flatnonzero(fit.max(axis=0) > 0)
    chosen = fit[np.ix_(rows, columns)]
    if len(rows) <= len(columns):
        pairs = [(int(rows[i]), int(columns[j])) for i, j in enumerate(_assigned(-chosen))]
    else:
        pairs = [(int(rows[i]), int(columns[j])) for j, i in enumerate(_assigned(-chosen.T))]
    return sorted((i, j) for i, j in pairs if fit[i, j] > 0)


def _assigned(cost: Float64) -> list[int]:
    """Return the column of each row of a matrix (R, C), R <= C, with the smallest sum.

    One shortest augmenting path per row, with potentials (Kuhn 1955; as in Jonker and Volgenant,
    "A Shortest Augmenting Path Algorithm for Dense and Sparse Linear Assignment Problems", 1987).
    """
    n, m = cost.shape
    of_row, of_column = np.zeros(n), np.zeros(m)  # potentials
    row_of = np.full(m, -1)
    for new in range(n):
        shortest = np.full(m, np.inf)
        before = np.full(m, -1)
        done = np.zeros(m, dtype=bool)
        row, column, length = new, -1, 0.0
        while row >= 0:
            through = length + cost[row] - of_row[row] - of_column
            closer = ~done & (through < shortest)
            shortest[closer], before[closer] = through[closer], column
            column = int(np.where(done, np.inf, shortest).argmin())
            length = float(shortest[column])
            done[column] = True
            row = int(row_of[column])
        gain = length - shortest[done]
        of_column[done] -= gain
        reached = row_of[done]
        of_row[new] += length
        of_row[reached[reached >= 0]] += gain[reached >= 0]
        while column >= 0:
            last = int(before[column])
            row_of[column] = new if last < 0 else row_of[last]
            column = last
    found = [0] * n
    for column, row in enumerate(row_of.tolist()):
        if row >= 0:
            found[row] = column
    return found
