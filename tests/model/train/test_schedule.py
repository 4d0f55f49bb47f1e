"""The rate at each step, by the paper's rule, by the release's table, and over one cycle."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.train.recipes import CIFAR, PAPER, RELEASE
from model.train.schedule import Levels, OneCycle, Plateau, Rates, Stalls, schedule_of


def test_dexp_is_four_quarters_for_weights_and_two_halves_for_biases() -> None:
    schedule = schedule_of(RELEASE, 80)
    seen = [schedule.rates(step, Stalls()) for step in range(80)]
    assert [rates.weights for rates in seen] == [0.01] * 20 + [0.00159] * 20 + [0.00025] * 20 + [0.00004] * 20
    assert [rates.biases for rates in seen] == [0.02] * 40 + [0.002] * 40
    assert schedule.rates(80, Stalls()) == Rates(0.00004, 0.002)  # past the end: the last level


def test_plateau_divides_by_ten_three_times_and_then_ends_the_run() -> None:
    schedule = Plateau(rate=0.01, bias_rate=1.0, drops=3, patience=2)
    stalls = Stalls()
    rates, ended = [], []
    for error in [0.9, 0.8, 0.8, 0.8, 0.7, 0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6]:
        rates.append(schedule.rates(0, stalls).weights)
        stalls = schedule.observe(stalls, error)
        ended.append(schedule.ended(stalls))
    assert rates == pytest.approx([1e-2] * 4 + [1e-3] * 3 + [1e-4] * 3 + [1e-5] * 2)
    assert ended == [False] * 11 + [True]


def test_a_nan_error_counts_as_no_improvement() -> None:
    assert Stalls(best=0.5).after(math.nan, patience=3) == Stalls(best=0.5, waited=1)


def test_one_cycle_rises_for_a_quarter_and_falls_to_almost_nothing() -> None:
    schedule = schedule_of(CIFAR, 400)
    rates = [schedule.rates(step, Stalls()).weights for step in range(400)]
    assert max(rates) == rates[99] == 0.03
    assert rates[:100] == sorted(rates[:100])
    assert rates[99:] == sorted(rates[99:], reverse=True)
    assert 0 < rates[-1] < 0.03 / 200


@given(steps=st.integers(1, 500), step=st.integers(0, 499))
def test_every_rate_is_positive_and_never_above_the_peak(steps: int, step: int) -> None:
    for schedule in (OneCycle(0.03, 2.0, steps), Levels((0.1, 0.01), (0.2,), steps)):
        rates = schedule.rates(min(step, steps - 1), Stalls())
        assert 0 < rates.weights <= 0.1
        assert 0 < rates.biases <= 0.2


def test_constant_and_plateau_start_at_the_recipe_rate() -> None:
    assert schedule_of(PAPER, 10).rates(0, Stalls()) == Rates(0.01, 0.01)
    assert not schedule_of(RELEASE, 10).ended(Stalls(drops=99))
