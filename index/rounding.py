"""How far FAISS's squared distances can be from the true ones: the bound that proves a fast search exact."""

from dataclasses import dataclass

__all__ = ["Rounding"]

UNIT32 = 2.0**-24  # float32's unit roundoff
UNIT16 = 2.0**-11  # float16's
SPACING16 = 2.0**-24  # between the smallest float16 numbers: below 2^-14 they keep an absolute precision only


@dataclass(frozen=True)
class Rounding:
    """A bound on the rounding of squared distances. It holds for any order of summation as long as nothing overflows.

    FAISS on a CPU stores float16 and computes in float32: float16 alone. FAISS on a GPU also squares in float16: both.
    """

    dimensions: int
    float16: bool = False  # rows, and on a GPU queries, are stored with 11 significant bits
    squares16: bool = False  # the squares of components have 11 significant bits

    def ceiling(self, distance: float, norm: float) -> float:
        """Return the largest squared distance that FAISS can report for a row at true `distance` from a query.

        norm: the length of the query.

        Proof, for a query x and a row y, so that |x| = norm and |y| <= norm + distance:

        1. Storing. In float16 a vector v becomes v' with |v' - v| <= 2^-10 |v| + 2^-24 sqrt(d), rounded either way,
           subnormals included. So |x' - y'| is at most `stored`, |x'| at most `x`, |y'| at most `y`.
        2. Squaring. Where each component of x' and y' is squared in float16 and the squares are added in float32, a
           square s is off by at most 2^-11 s + 2^-25, so |x'|^2 + |y'|^2 is off by at most
           2^-11 (x^2 + y^2) + 2 d 2^-25: `squared`. This needs components whose squares float16 can hold (scan.py).
        3. Adding. x'.x' + y'.y' - 2 x'.y' in float32, from squares that step 2 may have made larger, is off by at
           most g ((x + y)^2 + squared) with g = m u / (1 - m u), u the unit roundoff and m = d + 8 operations in a
           chain (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1); summing (x' - y')^2 is off by
           less. A GPU may multiply float16 on tensor cores, which cut off where others round: u is doubled there.

        The sum of the three is returned. It grows with `distance`, so it also holds for every nearer row.
        """
        chain = (self.dimensions + 8) * (2 * UNIT32 if self.squares16 else UNIT32)
        g = chain / (1 - chain)
        relative, absolute = (2 * UNIT16, SPACING16 * self.dimensions**0.5) if self.float16 else (0.0, 0.0)
        stored = distance + relative * (2 * norm + distance) + 2 * absolute
        x = (1 + relative) * norm + absolute
        y = (1 + relative) * (norm + distance) + absolute
        squared = UNIT16 * (x**2 + y**2) + self.dimensions * SPACING16 if self.squares16 else 0.0
        underflow = 8 * self.dimensions * 2.0**-126  # products that float32 arithmetic may flush to zero
        # 1e-9: float64's own rounding, generously
        return (stored**2 + squared + g * ((x + y) ** 2 + squared)) * (1 + 1e-9) + underflow
