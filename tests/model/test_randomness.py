"""A seed gives the same numbers as ever, in every place that draws: else a resumed run would not go on as it began."""

import numpy as np
import torch

from model.data.loader import order
from model.network.dropout import dropout_masks
from model.randomness import Stream, numpy_generator, torch_generator
from model.train.augment import draw
from model.train.recipes import PAPER
from tests.model.network.test_alexnet import SMALL

CPU = torch.device("cpu")


def test_a_generator_is_the_seed_the_stream_and_the_key_folded_together() -> None:
    expected = np.random.default_rng([5, 1, 2]).integers(1 << 62, size=9)
    np.testing.assert_array_equal(numpy_generator(5, Stream.AUGMENTATION, 2).integers(1 << 62, size=9), expected)
    state = np.random.SeedSequence([5, 2, 7, 6, 1]).generate_state(1, np.uint64).item() // 2
    assert torch_generator(5, Stream.DROPOUT, 7, 6, 1).initial_seed() == state
    assert torch_generator(5, Stream.DROPOUT, 7, 6, 1, device=CPU).device == CPU


def test_every_stream_and_key_draws_its_own_numbers() -> None:
    seeds = {torch_generator(5, stream, *key).initial_seed() for stream in Stream for key in ((0,), (1,), (0, 1))}
    assert len(seeds) == 3 * len(Stream)


def test_every_place_draws_what_it_always_drew() -> None:
    """Recorded when each place folded its own seed."""
    assert order(5, 2, 12, 12, block=2).tolist() == [5, 8, 2, 9, 7, 0, 10, 11, 6, 3, 1, 4]
    drawn = draw(5, 2, 4, PAPER, colour=False)
    assert (drawn.top.tolist(), drawn.left.tolist()) == ([13, 27, 13, 31], [20, 24, 20, 24])
    assert drawn.mirror.tolist() == [False, True, True, True]
    masks = dropout_masks(SMALL, seed=5, step=2, batch=2, rows=slice(None), columns=(0, 1), device=CPU)
    assert masks["fc5"].int().tolist() == [[0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 1], [1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 1]]
    assert torch_generator(5, Stream.WEIGHTS).initial_seed() == 4032576983210384345
