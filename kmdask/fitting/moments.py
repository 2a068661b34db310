"""What passes of k-means find out about rows, and how that of several groups of rows adds up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Farthest", "Floats", "Moments", "Rows", "Sums"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Sums:
    """What one step of Lloyd's algorithm has to know of some rows.

    Attributes
    ----------
    sums : ndarray of shape (k, d), float64
        Weighted sum of the rows nearest to each centre.
    weights : ndarray of shape (k,), float64
        Sum of the weights of these rows.
    """

    sums: Floats
    weights: Floats


@dataclass(frozen=True)
class Moments(Sums):
    """The same, and how good the centres are; moments add up.

    Attributes
    ----------
    inertia : float
        Weighted sum of the squared distances to the nearest centre.
    """

    inertia: float

    @staticmethod
    def merge(parts: Sequence[Moments]) -> Moments:
        """Add up the moments of several groups of rows, in their order."""
        return Moments(
            sums=np.sum([part.sums for part in parts], axis=0),
            weights=np.sum([part.weights for part in parts], axis=0),
            inertia=sum(part.inertia for part in parts),
        )


class Farthest(NamedTuple):
    """The rows farthest from their centres, the farthest first.

    Attributes
    ----------
    squared : ndarray of shape (m,), float64
        Squared distances to the nearest centre, all positive.
    rows : ndarray of shape (m, d), float64
    weights : ndarray of shape (m,), float64
    labels : ndarray of shape (m,), int32
        Index of the nearest centre.
    """

    squared: Floats
    rows: Floats
    weights: Floats
    labels: npt.NDArray[np.int32]

    @staticmethod
    def merge(parts: Sequence[Farthest], count: int) -> Farthest:
        """Farthest ``count`` rows of several groups; of equals the one in the earlier group."""
        columns: list[Any] = [np.concatenate(column) for column in zip(*parts, strict=True)]
        first = np.argsort(-columns[0], kind="stable")[:count]
        return Farthest(*(column[first] for column in columns))
