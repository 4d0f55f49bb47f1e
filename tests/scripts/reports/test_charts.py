"""Labels are drawn as they are, and a long one leaves its images their room."""

import io

import numpy as np
import pytest
from PIL import Image

from scripts.reports.charts import six_and_six


def dark(chart: bytes) -> int:
    """Pixels of the black images."""
    return int((np.asarray(Image.open(io.BytesIO(chart)).convert("L")) < 10).sum())


@pytest.mark.slow
@pytest.mark.parametrize("label", [r"US$_EUR$", r"$\frac$", "x" * 200])
def test_a_label_is_no_formula_and_a_long_one_is_cut(label: str) -> None:
    image = np.zeros((4, 4, 3), np.uint8), label
    plain = np.zeros((4, 4, 3), np.uint8), "cat"
    drawn, wanted = (dark(six_and_six([(one, [one] * 6, [one] * 6)] * 2)) for one in (image, plain))
    assert drawn == pytest.approx(wanted, rel=0.1)
