"""How far FAISS's squared distances can be from the true ones: the bounds that prove a fast search exact."""

from dataclasses import dataclass
from math import sqrt

__all__ = ["Reduced", "Rounding", "widened"]

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


@dataclass(frozen=True)
class Reduced:
    """A bound on what FAISS's Panorama computes for rows and queries of which a Projection kept `dimensions` numbers.

    relative, tiny: Projection.error and Projection.tiny, of a row and of the query alike.
    """

    dimensions: int
    levels: int
    relative: float
    tiny: float

    def ceiling(self, distance: float, norm: float) -> float:
        """Return a number that no bound reaches which FAISS computes for a row at true `distance` from a query.

        So a search that leaves out only rows whose bound, or whose squared distance, is at least this number leaves out
        no row at `distance` or nearer. norm: the length of the query.

        Proof, for a query x and a row y, |y| <= norm + distance, and their reduced forms x' and y':

        1. Reducing. The exact map never lengthens a distance, and x' and y' are off by `relative` |x| and |y|, and
           `tiny`. So |x' - y'| is at most `kept`, |x'| at most `x`, |y'| at most `y`.
        2. Adding. After some levels FAISS has s = |x'|^2 + |y'|^2 - 2 (products so far), and takes as its bound
           s - 2 |rest of x'| |rest of y'|, which in exact arithmetic is at most |x' - y'|^2 (Cauchy-Schwarz); after all
           levels it is that number. With u float32's unit roundoff and g(m) = m u / (1 - m u): the lengths come from
           sums of at most `dimensions` squares, a root and a square, so |x'|^2 + |y'|^2 is off by at most
           g(dimensions + 5) (x^2 + y^2); products and the rests' product are off by at most g(dimensions + 6) of their
           size, together 2 x y by Cauchy-Schwarz; and the levels + 3 additions round partial sums that are smaller than
           (x + y)^2. In all at most g(dimensions + levels + 16) (x + y)^2, in whatever order a processor adds.
        3. Underflow. A processor may flush what is below 2^-126 to zero. So a sum of squares is off by up to
           dimensions 2^-126 more, a rest's length by the root of that, `lost`, and twice the rests' product by
           2 lost (x + y) + 2 lost^2; the two squared lengths and the products by 4 lost^2.
        """
        chain = (self.dimensions + self.levels + 16) * UNIT32
        g = chain / (1 - chain)
        x = norm + self.relative * norm + self.tiny
        y = (norm + distance) * (1 + self.relative) + self.tiny
        kept = distance + self.relative * (2 * norm + distance) + 2 * self.tiny
        lost = sqrt(self.dimensions) * 2.0**-63
        underflow = 2.1 * lost * (x + y) + 8 * lost**2
        return (kept**2 + g * (x + y) ** 2) * (1 + 1e-9) + underflow


def widened(squared: float, dimensions: int) -> float:
    """Return a number that the float32 sum of squared differences does not exceed for a row whose own is `squared`.

    For vectors that fit (scan.LONGEST32). A difference is rounded once, its square once, and the sum at most
    `dimensions` times, all relative to what they round: the sum is off by at most g(dimensions + 3) of itself, whatever
    the order. Twice that, so that either number may be the rounded one; squares may also fall below float32's smallest.
    """
    chain = (dimensions + 3) * UNIT32
    return squared * (1 + 2.01 * chain / (1 - chain)) + dimensions * 2.0**-126
