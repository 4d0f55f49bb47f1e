"""The planner keeps to the memory, uses more of it for more components, and says what it chose and why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.costs import Bandwidth, needed
from index.layout import Layout
from index.planner import BadSize, TooLittleMemory, Wanted, bytes_of, plan

SPEED = Bandwidth(one=40e9, all=75e9)
GIB = 2**30

counts = st.integers(1, 3_000_000)
widths = st.integers(1, 8192)
memories = st.integers(1, 64 * GIB)
kinds: st.SearchStrategy[Wanted] = st.sampled_from(["auto", "flat", "panorama", "coarse", "hnsw"])


@given(counts, widths, memories, kinds)
def test_what_is_chosen_fits_or_is_flat_or_is_refused(rows: int, width: int, memory: int, wanted: Wanted) -> None:
    try:
        choice = plan(rows, width, memory, wanted=wanted, speed=SPEED)
    except TooLittleMemory:
        assert wanted in ("panorama", "coarse", "hnsw")
        return
    layout = choice.layout
    assert choice.bytes == needed(rows, width, layout)
    assert layout.kind == "flat" or choice.bytes <= memory
    assert layout.kind == {"coarse": "panorama", "auto": layout.kind}.get(wanted, wanted)
    if layout.kind != "flat":
        assert 0 < layout.leading < layout.components <= width


@given(counts, widths, memories, memories, kinds)
@settings(max_examples=300)
def test_more_memory_never_gives_fewer_components(rows: int, width: int, one: int, other: int, wanted: Wanted) -> None:
    less, more = sorted((one, other))
    try:
        before = plan(rows, width, less, wanted=wanted, speed=SPEED)
    except TooLittleMemory:
        return
    after = plan(rows, width, more, wanted=wanted, speed=SPEED)
    if before.layout.kind != "flat":
        assert after.layout.kind != "flat"
        to_graph = (before.layout.kind, after.layout.kind) == ("panorama", "hnsw")
        assert to_graph or after.layout.components >= before.layout.components


def test_the_machine_s_speed_changes_the_time_and_not_the_choice() -> None:
    fast, slow = (plan(300_000, 4096, 4 * GIB, speed=Bandwidth(gb * 1e9, gb * 1e9)) for gb in (100, 1))
    assert fast.layout == slow.layout
    assert slow.expected_ms == pytest.approx(100 * fast.expected_ms)


@pytest.mark.parametrize(
    ("rows", "memory", "kind", "components"),
    [
        (4_999, 4 * GIB, "flat", 0),
        (5_000, 4 * GIB, "panorama", 512),
        (19_999, 4 * GIB, "panorama", 512),
        (20_000, 4 * GIB, "hnsw", 512),
        (50_000, 4 * GIB, "hnsw", 512),
        (1_000_000, 4 * GIB, "hnsw", 512),
        (1_000_000, 2 * GIB, "hnsw", 256),
        (1_000_000, GIB // 4, "flat", 0),
    ],
)
def test_the_choice_for_fc7_features(rows: int, memory: int, kind: str, components: int) -> None:
    layout = plan(rows, 4096, memory, speed=SPEED).layout
    assert (layout.kind, layout.components) == (kind, components)


def test_rows_that_fit_on_the_gpus_stay_flat() -> None:
    half = 4 * 50_000 * 4096 // 2
    assert plan(50_000, 4096, GIB, [half], speed=SPEED).layout.kind != "flat"
    choice = plan(50_000, 4096, GIB, [half, 2 * half], speed=SPEED)
    assert choice.layout == Layout("flat")
    assert "the memory of the GPUs" in choice.why[0]


def test_rows_shorter_than_what_is_made_from_them_stay_flat() -> None:
    choice = plan(1_000_000, 16, 4 * GIB, speed=SPEED)
    assert choice.layout.kind == "flat"
    assert "rows of 16 numbers" in choice.why[0]
    assert plan(1_000_000, 16, 4 * GIB, wanted="coarse", speed=SPEED).layout.kind == "panorama"  # it was asked for


@pytest.mark.parametrize(
    ("rows", "memory", "said"),
    [
        (1_000, GIB, "1,000 rows are few"),
        (10_000, GIB, "among 10,000 rows a scan of few numbers"),
        (50_000, GIB, "among 50,000 rows a graph proposes sooner"),
        (1_000_000, GIB, "as many components as fit in 1.00 GiB"),
        (1_000_000, GIB // 4, "no other layout fits in 256.0 MiB"),
    ],
)
def test_the_lines_say_why_what_it_costs_and_how_long_it_takes(rows: int, memory: int, said: str) -> None:
    choice = plan(rows, 4096, memory, speed=SPEED)
    why, cost, expected = choice.why
    assert said in why
    size = f"{choice.bytes / GIB:,.2f} GiB" if choice.bytes >= GIB else f"{choice.bytes / 2**20:,.1f} MiB"
    assert size in cost
    assert ("queries wait for the disk" in cost) == (choice.bytes > memory)
    assert f"{choice.expected_ms:,.2f} ms certified" in expected
    assert "40 GB/s by one core" in expected


@pytest.mark.parametrize(
    ("wanted", "width", "said"),
    [
        ("panorama", 4096, r"--index panorama: at least 2.66 GiB .* not 64.0 MiB; or --index coarse or flat"),
        ("coarse", 4096, r"--index coarse: at least .* not 64.0 MiB; or --index flat"),
        ("hnsw", 4096, r"--index hnsw: at least .* not 64.0 MiB; or --index flat"),
        ("coarse", 3, r"--index coarse: rows of 3 numbers are too short for it; --index flat takes them"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_in_one_line(wanted: Wanted, width: int, said: str) -> None:
    with pytest.raises(TooLittleMemory, match=f"^{said}$"):
        plan(1_000_000, width, 64 * 2**20, wanted=wanted, speed=SPEED)


@pytest.mark.parametrize(
    ("text", "count"), [("4GiB", 4 * GIB), ("512MiB", 2**29), ("1.5 GiB", 3 * 2**29), (" 2TiB ", 2**41)]
)
def test_a_size_is_a_number_and_a_unit(text: str, count: int) -> None:
    assert bytes_of(text) == count


@pytest.mark.parametrize(
    "text", ["", "4", "4GB", "GiB", "0GiB", "-1GiB", "4gib", "1e3GiB", "4GiB4GiB", "9" * 400 + "TiB"]
)
def test_another_size_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadSize, match=r"is no size of memory: .* as in 4GiB$"):
        bytes_of(text)


def test_without_a_speed_the_machine_s_is_measured() -> None:
    choice = plan(100_000, 4096, 4 * GIB)
    assert np.isfinite(choice.expected_ms)
    assert 0.1 < choice.expected_ms < 1000  # 0.2 to 2,000 GB/s


def test_a_measured_answer_compares_more_rows_of_a_larger_collection() -> None:
    of = [plan(rows, 4096, 2**40, speed=SPEED).layout.candidates for rows in (20_000, 50_000, 1_000_000, 10**9)]
    assert of == [72, 72, 253, 512]  # FAISS's Panorama gives no more than 1,024, the search asks for no more than 512
