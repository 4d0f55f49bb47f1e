"""How far FAISS's squared distances may be from the true ones: what turns a fast search into a proven one."""

from dataclasses import dataclass

__all__ = ["Rounding"]

UNIT32 = 2.0**-24  # float32's unit roundoff


@dataclass(frozen=True)
class Rounding:
    """A bound that holds for any order of summation and any code path, on any device that computes in float32."""

    dimensions: int
    float16: bool = False  # rows, and on a GPU queries too, are stored with 11 significant bits

    def ceiling(self, distance: float, norm: float) -> float:
        """The largest squared distance that can be reported for a row at true `distance` from a query of length `norm`.

        Storing: a vector v in float16 is off by at most 2^-10 |v| + 2^-24 sqrt(d), rounded either way, subnormals
        included. Computing: x.x + y.y - 2 x.y in float32 is off by at most g (|x| + |y|)^2 with g = m u / (1 - m u),
        u the unit roundoff and m = d + 8 operations in a chain (Higham, Accuracy and Stability of Numerical
        Algorithms, section 3.1); summing (x - y)^2 is off by less. As |y| <= |x| + distance, nothing about the other
        rows need be known, and as the bound grows with `distance` it holds for every nearer row too.
        """
        chain = (self.dimensions + 8) * UNIT32
        g = chain / (1 - chain)
        relative, absolute = (2.0**-10, UNIT32 * self.dimensions**0.5) if self.float16 else (0.0, 0.0)
        stored = distance + relative * (2 * norm + distance) + 2 * absolute
        lengths = (1 + relative) * (2 * norm + distance) + 2 * absolute
        underflow = 8 * self.dimensions * 2.0**-126  # products that float32 arithmetic may flush to zero
        return (stored**2 + g * lengths**2) * (1 + 1e-9) + underflow  # 1e-9: float64's own rounding, generously
