"""A soak test fails for each thing that should not be, and for each that should and was not."""

from dataclasses import replace

import pytest

from scripts.soaking.counts import Counts, Held
from scripts.soaking.known import Right

BEFORE = Held(memory=300_000_000, files=20, decoders=2)


def fine() -> Counts:
    counts = Counts(seconds=[0.1, 0.2], killed=2, replaced=2, swaps=[0.5, 0.5, 0.5])
    counts.statuses.update({"good 200": 2, "good 503": 5, "good 400": 2, "bad 400": 3, "bad 503": 1})
    counts.generations.update({1: 1, 2: 1})
    return counts


def test_a_run_as_it_should_be_has_no_failure() -> None:
    assert fine().failures(3, BEFORE, replace(BEFORE, memory=320_000_000, files=25)) == []


@pytest.mark.parametrize("status", ["good 500", "good lost", "good 404", "bad 500", "bad 502", "bad lost", "bad 200"])
def test_every_answer_that_should_not_be_is_a_failure(status: str) -> None:
    counts = fine()
    counts.statuses[status] += 1
    assert any(status in failure for failure in counts.failures(3, BEFORE, BEFORE))


def test_a_wrong_answer_a_refused_image_a_lost_decoder_and_a_swap_that_did_not_happen_are_failures() -> None:
    counts = fine()
    counts.wrong.append("classes [1], not [2]")
    counts.killed, counts.statuses["good 400"] = 3, 4
    counts.swaps.pop()
    assert counts.failures(3, BEFORE, BEFORE) == [
        "1 wrong answers; the first: classes [1], not [2]",
        "4 good images were refused, more than the 3 decoders killed",
        "1 of 3 killed decoders were not replaced",
        "2 of 3 swaps",
    ]
    assert fine().failures(3, BEFORE, replace(BEFORE, memory=400_000_000)) == ["memory grew by 100 MB"]
    assert fine().failures(3, BEFORE, replace(BEFORE, files=50)) == ["open files grew by 30"]
    assert len(Counts().failures(3, BEFORE, BEFORE)) == 3  # nothing asked, nothing killed, nothing swapped


RIGHT = Right((3, 1), (0.6, 0.4), (7, 9), (1.0, 2.0))
ANSWER = {
    "predictions": [{"class_id": 3, "probability": 0.6000001}, {"class_id": 1, "probability": 0.4}],
    "neighbours": [{"image_id": 7, "distance": 1.000001}, {"image_id": 9, "distance": 2.0}],
}


@pytest.mark.parametrize(
    ("part", "row", "field", "value"),
    [
        ("predictions", 0, "class_id", 2),
        ("predictions", 1, "probability", 0.40001),
        ("neighbours", 0, "image_id", 9),
        ("neighbours", 1, "distance", 2.0001),
    ],
)
def test_every_part_of_an_answer_is_compared(part: str, row: int, field: str, value: float) -> None:
    assert RIGHT.wrong(ANSWER) is None
    assert RIGHT.wrong({"predictions": ANSWER["predictions"]}) is None  # of /classify
    rows = list(ANSWER[part])
    rows[row] = {**rows[row], field: value}
    assert RIGHT.wrong({**ANSWER, part: rows}) is not None
    assert RIGHT.wrong({**ANSWER, part: ANSWER[part][:1]}) is not None
