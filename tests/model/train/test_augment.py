"""Crop, mirror and colour noise against the slow definition; the ten views against section 4.1's words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.train import augment as augment_module
from model.train.augment import AugmentationParameters, augment, colour_basis, draw
from model.train.recipes import CIFAR, PAPER, RELEASE, TrainingRecipe

# ILSVRC-2012's own: standard deviations 121.8, 37.1, 19.7 grey levels (from the release's own dataset).
VALUES = np.array([121.780, 37.094, 19.721]) ** 2
VECTORS = np.array([[-0.5635, -0.5762, -0.5920], [-0.7126, -0.0235, 0.7012], [0.4180, -0.8170, 0.3973]])
PCA = (VALUES, VECTORS)


def small(recipe: TrainingRecipe) -> TrainingRecipe:
    return replace(recipe, stored=20, crop=16)


def random_images(count: int, size: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def by_definition(
    image: NDArray[np.uint8],
    augmentation: AugmentationParameters,
    row: int,
    mean: NDArray[np.float32],
    recipe: TrainingRecipe,
) -> NDArray[np.float64]:
    """Section 4.1, a pixel at a time."""
    crop, centre = recipe.crop, (recipe.stored - recipe.crop) // 2
    out = np.empty((3, crop, crop))
    offset = np.zeros(3)
    if augmentation.alpha is not None:
        for component in range(3):
            size = np.sqrt(VALUES[component])
            if recipe.colour == "eigenvalue":  # pixels in [0, 1], then back to 0-255
                size = VALUES[component] / 255**2 * 255
            offset += 0.1 * augmentation.alpha[row, component] * size * VECTORS[component]
    for y in range(crop):
        for x in range(crop):
            from_x = crop - 1 - x if augmentation.mirror[row] else x
            pixel = image[augmentation.top[row] + y, augmentation.left[row] + from_x].astype(np.float64)
            out[:, y, x] = pixel - mean[centre + y, centre + x] + offset
    return out / 1.1 if recipe.colour == "stdev" and augmentation.alpha is not None else out


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("preset", [PAPER, RELEASE, CIFAR])
def test_equal_to_the_definition(preset: TrainingRecipe, colour: bool) -> None:
    recipe = small(preset)
    images = random_images(37, 20)
    mean = torch.rand(20, 20, 3, generator=torch.Generator().manual_seed(2)) * 255
    augmentation = draw(3, 5, 37, recipe, colour=colour)
    result = augment(images, augmentation, mean, colour_basis(recipe, PCA), recipe)
    assert result.shape == (37, 3, 16, 16)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    for row in range(37):
        expected = by_definition(images[row].numpy(), augmentation, row, mean.numpy(), recipe)
        np.testing.assert_allclose(result[row].numpy(), expected, rtol=1e-5, atol=2e-4)


def test_the_gather_for_accelerators_equals_the_copy_for_processors() -> None:
    images, augmentation = random_images(33, 20), draw(0, 0, 33, small(CIFAR), colour=False)
    sent = augment_module._sent(augmentation, images.device)
    assert torch.equal(augment_module._gathered(images, sent, 16), augment_module._copied(images, augmentation, 16))


@pytest.mark.gpu
def test_a_gpu_augments_alike_and_the_host_does_not_wait_for_it() -> None:
    images, recipe = random_images(33, 20), small(RELEASE)
    augmentation, mean, basis = draw(0, 0, 33, recipe, colour=True), torch.rand(20, 20, 3), torch.rand(3, 3)
    given = images.cuda(), mean.cuda(), basis.cuda()
    torch.cuda.set_sync_debug_mode("error")  # an operation that makes the host wait raises
    try:
        there = augment(given[0], augmentation, *given[1:], recipe)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(there.cpu(), augment(images, augmentation, mean, basis, recipe))


def test_a_replica_draws_its_share_of_the_global_batch() -> None:
    images = random_images(16, 20)
    recipe = small(PAPER)
    augmentation = draw(1, 2, 16, recipe, colour=True)
    mean, basis = torch.zeros(20, 20, 3), colour_basis(recipe, PCA)
    whole = augment(images, augmentation, mean, basis, recipe)
    halves = [
        augment(images[half], augmentation.rows(half), mean, basis, recipe) for half in (slice(0, 8), slice(8, 16))
    ]
    torch.testing.assert_close(torch.cat(halves), whole)


def test_draws_depend_on_seed_and_step_alone() -> None:
    first, again = draw(1, 7, 64, PAPER, colour=True), draw(1, 7, 64, PAPER, colour=True)
    assert np.array_equal(first.top, again.top)
    assert first.alpha is not None
    assert again.alpha is not None
    assert np.array_equal(first.alpha, again.alpha)
    assert not np.array_equal(first.top, draw(1, 8, 64, PAPER, colour=True).top)
    assert not np.array_equal(first.top, draw(2, 7, 64, PAPER, colour=True).top)
    assert np.array_equal(
        first.left, draw(1, 7, 64, PAPER, colour=False).left
    )  # the last epochs crop as they would have


@pytest.mark.parametrize(("recipe", "offsets"), [(PAPER, 32), (RELEASE, 33)])
def test_the_paper_counts_2048_crops_and_the_release_2178(recipe: TrainingRecipe, offsets: int) -> None:
    augmentation = draw(0, 0, 100_000, replace(recipe, crop_chunk=1), colour=False)
    seen = set(zip(augmentation.top.tolist(), augmentation.left.tolist(), augmentation.mirror.tolist(), strict=True))
    assert max(augmentation.top) == max(augmentation.left) == offsets - 1
    assert len(seen) == offsets * offsets * 2


def test_the_release_shares_a_crop_among_32_images_but_not_a_colour() -> None:
    augmentation = draw(0, 0, 128, RELEASE, colour=True)
    assert augmentation.alpha is not None
    assert len(set(augmentation.top[:32].tolist())) == len(set(augmentation.left[32:64].tolist())) == 1
    assert (
        len(set(zip(augmentation.top.tolist(), augmentation.left.tolist(), augmentation.mirror.tolist(), strict=True)))
        == 4
    )
    assert len(np.unique(augmentation.alpha[:, 0])) == 128


def test_the_noise_has_the_size_that_each_convention_says() -> None:
    paper = colour_basis(PAPER, PCA).norm(dim=1)
    release = colour_basis(RELEASE, PCA).norm(dim=1)
    torch.testing.assert_close(paper, torch.tensor([5.8158, 0.5396, 0.1525]), rtol=2e-3, atol=0)
    torch.testing.assert_close(release, torch.tensor([12.178, 3.709, 1.972]), rtol=2e-3, atol=0)


def test_the_release_switches_the_noise_off_for_its_last_25_epochs_of_90() -> None:
    assert [epoch for epoch in range(90) if RELEASE.coloured(epoch)] == list(range(65))
    assert [epoch for epoch in range(9) if replace(RELEASE, epochs=9).coloured(epoch)] == list(range(6))
    assert all(PAPER.coloured(epoch) for epoch in range(90))
    assert not CIFAR.coloured(0)


def test_no_margin_is_one_crop() -> None:
    augmentation = draw(0, 0, 8, replace(PAPER, stored=16, crop=16), colour=False)
    assert not augmentation.top.any()
    assert not augmentation.left.any()
