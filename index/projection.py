"""Fewer numbers for a row: its leading principal components, and the length of what they leave.

That map never lengthens a distance: for P with orthonormal rows, L(x) = (|x - P'Px|, Px) has
|L(x) - L(y)| <= |x - y| (Pythagoras for the components and the rest, the triangle inequality for the lengths of the
rests). So a row that is far away by these few numbers is at least as far away in truth, and a search among them can
leave it out with a proof. n rows, d dimensions, m components.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Projection", "fit", "with_rest"]

SAMPLE = 8192  # rows that the components are taken from
SPARE = 64  # directions beyond the wanted ones, which make the last of those more exact (Halko et al., 2011)
TURNS = 3  # of the subspace iteration
ROWS = 2048  # projected at a time
UNIT32, UNIT64 = 2.0**-24, 2.0**-53  # unit roundoffs


@dataclass(frozen=True)
class Projection:
    """Leading components P (m, d) float64, with orthonormal rows; the first is the most important."""

    basis: NDArray[np.float64]

    @cached_property
    def error(self) -> float:
        """A bound r: what `with_rest` gives for x is within r |x| (and `tiny`) of L(x), for an exactly orthonormal P.

        Proof. Let g = d u / (1 - d u), u float64's unit roundoff. Row i of P is shorter than 1 + e with e the defect
        |PP' - I|, and the nearest matrix with orthonormal rows is within e of P. A computed component is off by at most
        g (1 + e) |x|, so the m components are off by at most a |x|, a = 2 g sqrt(m) + e. The squared rest,
        |x|^2 - |Px|^2, is then off by at most 4 a |x|^2, because both squares are rounded by less than a. The root of a
        number that is off by D is off by at most sqrt(D): 2 sqrt(a) |x|. Rounding to float32 adds 2^-24 of either part.
        """
        m, d = self.basis.shape
        g = d * UNIT64 / (1 - d * UNIT64)
        defect = float(np.linalg.norm(self.basis @ self.basis.T - np.eye(m))) + 2 * g * m
        a = 2 * g * m**0.5 + defect
        return float(a + 2 * a**0.5 + 2 * UNIT32)

    @property
    def tiny(self) -> float:
        """What rounding numbers below float32's smallest normal one can add to the error."""
        return float((len(self.basis) + 1) ** 0.5 * 2.0**-149)

    def components(self, vectors: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float64]:
        """(n, d) -> (n, stop - start): the components `start` <= i < `stop` of Px, in float64."""
        basis = self.basis[start:stop]
        if len(vectors) == 1:  # without BLAS, whose threads would wait for each other where a core is busy
            alone: NDArray[np.float64] = np.vecdot(basis, vectors.astype(np.float64))
            return alone[None]
        out = np.empty((len(vectors), len(basis)), np.float64)
        for first in range(0, len(vectors), ROWS):
            np.matmul(vectors[first : first + ROWS].astype(np.float64), basis.T, out[first : first + ROWS])
        return out


def with_rest(components: NDArray[np.float64], lengths: NDArray[np.float64]) -> NDArray[np.float32]:
    """Components (n, m), lengths of the whole vectors (n,) -> (n, 1 + m): the rest's length, then the components."""
    out = np.empty((len(components), 1 + components.shape[1]), np.float32)
    rest = np.square(lengths) - np.einsum("nm,nm->n", components, components)
    out[:, 0] = np.sqrt(np.maximum(rest, 0))
    out[:, 1:] = components
    return out


def fit(features: NDArray[np.float32], components: int) -> NDArray[np.float64]:
    """(n, d) -> (min(components, d), d): directions in which the features are long, by subspace iteration on a sample.

    Any orthonormal basis gives right answers; this one gives them fast. Equal features give an equal basis.
    """
    rng = np.random.default_rng(0)
    n, d = features.shape
    wanted, width = min(components, d), min(components + SPARE, d)
    rows = np.sort(rng.choice(n, min(n, SAMPLE), replace=False))
    sample = np.array(features[rows])
    sample /= max(float(np.abs(sample).max(initial=0)), np.finfo(np.float32).tiny)  # squares cannot overflow
    basis = rng.standard_normal((d, width), dtype=np.float32)
    for _ in range(TURNS):
        basis, _ = np.linalg.qr(sample.T @ (sample @ basis))
    seen = (sample @ basis).astype(np.float64)
    _, turn = np.linalg.eigh(seen.T @ seen)  # ascending
    leading = basis.astype(np.float64) @ turn[:, ::-1][:, :wanted]
    orthonormal, _ = np.linalg.qr(leading)
    return np.ascontiguousarray(orthonormal.T)
