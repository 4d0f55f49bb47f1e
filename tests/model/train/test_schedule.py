"""The rate at each step, by the paper's rule, by the release's table, and over one cycle."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.train.recipes import CIFAR, PAPER, RELEASE
from model.train.schedule import Levels, OneCycle, Plateau, Rates, Schedule, Stalls, clearly_below_chance, schedule_of

LABELS = np.arange(100) % 2


def test_dexp_is_four_quarters_for_weights_and_two_halves_for_biases() -> None:
    schedule = schedule_of(RELEASE, 80, LABELS)
    seen = [schedule.rates(step, Stalls()) for step in range(80)]
    assert [rates.weights for rates in seen] == [0.01] * 20 + [0.00159] * 20 + [0.00025] * 20 + [0.00004] * 20
    assert [rates.biases for rates in seen] == [0.02] * 40 + [0.002] * 40
    assert schedule.rates(80, Stalls()) == Rates(0.00004, 0.002)  # past the end: the last level


def test_plateau_divides_by_ten_three_times_and_then_ends_the_run() -> None:
    schedule = Plateau(rate=0.01, bias_rate=1.0, drops=3, patience=2, learned=0.85)
    stalls = Stalls()
    rates, ended = [], []
    for error in [0.9, 0.8, 0.8, 0.8, 0.7, 0.7, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6]:
        rates.append(schedule.rates(0, stalls).weights)
        stalls = schedule.observe(stalls, error)
        ended.append(schedule.ended(stalls))
    assert rates == pytest.approx([1e-2] * 4 + [1e-3] * 3 + [1e-4] * 3 + [1e-5] * 2)
    assert ended == [False] * 11 + [True]


def observed(schedule: Schedule, errors: list[float], stalls: Stalls | None = None) -> Stalls:
    """What the schedule remembers after epochs with these validation errors."""
    for error in errors:
        stalls = schedule.observe(stalls or Stalls(), error)
    return stalls or Stalls()


THOUSAND = np.arange(50_000) % 1000  # ILSVRC's validation labels


def test_a_validation_error_that_stays_at_chance_neither_drops_the_rate_nor_ends_the_run() -> None:
    """The loss of `paper` stays at ln(1000) for thousands of steps before it falls."""
    schedule = schedule_of(PAPER, 1000, THOUSAND)
    stalls = observed(schedule, [0.999] * 90)
    assert not schedule.ended(stalls)
    assert schedule.rates(0, stalls) == Rates(0.01, 0.01)
    ends = [schedule.ended(observed(schedule, [0.5] * epochs, stalls)) for epochs in range(14)]
    assert ends == [False] * 13 + [True]  # what learns and then stalls ends as it always did


ERRORS = st.lists(st.floats(0, 1) | st.just(math.nan), max_size=60)


@given(luck=ERRORS, then=ERRORS, learned=st.floats(0, 1), best=st.floats(0, 1))
def test_epochs_before_learning_starts_count_for_nothing(
    luck: list[float], then: list[float], learned: float, best: float
) -> None:
    schedule = Plateau(0.01, 1.0, drops=3, patience=3, learned=learned)
    before = observed(schedule, [error for error in luck if not error < learned])
    assert (before.waited, before.drops) == (0, 0)
    if best < learned:
        assert observed(schedule, [best, *then], before) == observed(schedule, [best, *then])


@settings(max_examples=30, deadline=None, derandomize=True)  # a guess in a million is lucky
@given(
    classes=st.sampled_from([2, 10, 1000]), images=st.integers(1, 3000), often=st.floats(0, 1), seed=st.integers(0, 999)
)
def test_a_network_that_guesses_is_not_clearly_below_chance(classes: int, images: int, often: float, seed: int) -> None:
    """Guessing at random, or one class alone, for 90 epochs; `often` of the images are of class 0."""
    random = np.random.default_rng(seed)
    labels = np.where(random.random(images) < often, 0, random.integers(classes, size=images))
    learned = clearly_below_chance(labels)
    guesses = random.integers(classes, size=(90, images))
    assert (guesses != labels).mean(axis=1).min() >= learned
    assert min((labels != one).mean() for one in range(classes)) >= learned


def test_what_is_clearly_below_chance_is_near_it_where_images_are_many() -> None:
    assert clearly_below_chance(THOUSAND) == pytest.approx(1 - (50 + 35.34 + 2) / 50_000, abs=1e-6)
    assert clearly_below_chance(np.arange(10_000) % 10) == pytest.approx(0.8848)
    assert clearly_below_chance(LABELS) == pytest.approx(0.23)
    assert clearly_below_chance(np.arange(20) % 2) < 0  # all right by luck: once in a million
    assert clearly_below_chance(np.zeros(9, np.int64)) < 0  # one class: nothing to learn


def test_a_nan_error_counts_as_no_improvement() -> None:
    assert Stalls(best=0.5).after(math.nan, patience=3, learned=0.9) == Stalls(best=0.5, waited=1)


def test_one_cycle_rises_for_a_quarter_and_falls_to_almost_nothing() -> None:
    schedule = schedule_of(CIFAR, 400, LABELS)
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
    assert schedule_of(PAPER, 10, LABELS).rates(0, Stalls()) == Rates(0.01, 0.01)
    assert not schedule_of(RELEASE, 10, LABELS).ended(Stalls(drops=99))
