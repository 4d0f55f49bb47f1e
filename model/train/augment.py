"""What training does to an image (section 4.1: crop, mirror, colour noise), on the device.

Every draw is a pure function of (seed, step, position in the global batch), so any replica, rank or resumed run draws
the same numbers. B images, S their stored side, C the crop's, m = S - C the margin.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.preprocess import mean_crop
from model.randomness import Stream, numpy_generator
from model.train.recipes import TrainingRecipe

__all__ = ["AugmentationParameters", "augment", "colour_basis", "draw"]

BLOCK_BYTES = 1 << 20  # of float32 worked on together on a CPU: the passes over it stay in the cache
COLOUR_SCALE = 0.1  # section 4.1: standard deviation of alpha


@dataclass(frozen=True)
class AugmentationParameters:
    """Random crop, mirror and colour parameters of one step; row i belongs to image i."""

    top: NDArray[np.int64]  # (B,) first row of the crop
    left: NDArray[np.int64]  # (B,) first column
    mirror: NDArray[np.bool_]  # (B,)
    alpha: NDArray[np.float32] | None  # (B, 3) standard normal, one a principal component; None: colours are left alone

    def rows(self, rows: slice) -> "AugmentationParameters":
        """Return the parameters of some of the images: those of one replica."""
        alpha = None if self.alpha is None else self.alpha[rows]
        return AugmentationParameters(self.top[rows], self.left[rows], self.mirror[rows], alpha)


def draw(seed: int, step: int, batch: int, recipe: TrainingRecipe, *, colour: bool) -> AugmentationParameters:
    """Draw the parameters of step `step` for the global batch; `crop_chunk` neighbours share a crop and a mirror."""
    random = numpy_generator(seed, Stream.AUGMENTATION, step)
    margin = recipe.stored - recipe.crop
    offsets = margin + 1 if recipe.inclusive_crops else max(margin, 1)
    chunks = -(-batch // recipe.crop_chunk)
    top, left, mirror = (
        np.repeat(random.integers(0, bound, chunks), recipe.crop_chunk)[:batch] for bound in (offsets, offsets, 2)
    )
    alpha = random.standard_normal((batch, 3), dtype=np.float32) if colour and recipe.colour != "none" else None
    return AugmentationParameters(top, left, mirror.astype(np.bool_), alpha)


def colour_basis(recipe: TrainingRecipe, pca: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Tensor:
    """Return float32 (3 components, 3 RGB): alpha (B, 3) times this is the colour offset in grey levels.

    `pca` is the packed dataset's: eigenvalues (3,) and eigenvectors (3, 3), one per row, of RGB on the 0-255 scale. The
    paper's 0.1 x eigenvalue is meant for pixels in [0, 1]: there an eigenvalue is 255^2 times smaller, and an offset is
    255 times smaller. The release multiplies by the square root of the eigenvalue.
    """
    values, vectors = pca
    size = values / 255 if recipe.colour == "eigenvalue" else np.sqrt(np.maximum(values, 0))
    return torch.from_numpy((COLOUR_SCALE * size[:, None] * vectors).astype(np.float32))


def augment(
    images: Tensor, augmentation: AugmentationParameters, mean_image: Tensor, basis: Tensor, recipe: TrainingRecipe
) -> Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, C, C), channels last in memory.

    Crop and mirror, minus the mean image's central crop, plus the colour offset; the release then divides by 1.1.
    `mean_image` float32 (S, S, 3) and `basis` (`colour_basis`) are on the images' device.
    """
    parameters = _sent(augmentation, images.device)
    # (B, 1, C * 3): added to a row of pixels at a time, which costs less than three numbers at a time.
    offsets = None if augmentation.alpha is None else parameters[:, 3:] @ basis
    offsets = None if offsets is None else offsets.repeat(1, recipe.crop)[:, None]
    mean = mean_crop(mean_image, recipe.crop)
    pixels = torch.empty((len(images), recipe.crop, recipe.crop, 3), device=images.device)
    on_cpu = images.device.type == "cpu"
    block = max(1, BLOCK_BYTES // (recipe.crop**2 * 3 * 4)) if on_cpu else len(images)
    for start in range(0, len(images), block):
        rows = slice(start, start + block)
        if on_cpu:
            taken = _copied(images[rows], augmentation.rows(rows), recipe.crop)
        else:
            taken = _gathered(images, parameters, recipe.crop)
        part = torch.sub(taken, mean, out=pixels[rows])
        if offsets is not None:
            part.view(len(part), recipe.crop, -1).add_(offsets[rows])
            if recipe.colour == "stdev":
                part.div_(1 + COLOUR_SCALE)
    return pixels.permute(0, 3, 1, 2)


def _sent(augmentation: AugmentationParameters, device: torch.device) -> Tensor:
    """The parameters on the images' device: float32 (B, 6), an image's top, left, mirror and three of alpha.

    One copy, from pinned memory, so that the host does not wait for the GPU; torch reuses pinned memory only when the
    copy is done. float32 holds offsets exactly.
    """
    host = torch.zeros((len(augmentation.top), 6), pin_memory=device.type == "cuda")
    table = host.numpy()
    table[:, 0], table[:, 1], table[:, 2] = augmentation.top, augmentation.left, augmentation.mirror
    if augmentation.alpha is not None:
        table[:, 3:] = augmentation.alpha
    return host.to(device, non_blocking=True)


def _gathered(images: Tensor, parameters: Tensor, crop: int) -> Tensor:
    """Each image's own crop, mirrored where drawn, by one kernel on an accelerator: uint8 (B, C, C, 3)."""
    device = images.device
    reach = torch.arange(crop, device=device)
    top, left, mirror = parameters[:, :3].long().unbind(1)
    rows = top[:, None] + reach
    columns = left[:, None] + torch.where(mirror[:, None] == 1, crop - 1 - reach, reach)
    image = torch.arange(len(images), device=device)
    return images[image[:, None, None], rows[:, :, None], columns[:, None, :]]


def _copied(images: Tensor, augmentation: AugmentationParameters, crop: int) -> Tensor:
    """The same on a CPU, where copying views with NumPy costs less than gathering."""
    pixels = images.numpy()
    cropped = np.empty((len(pixels), crop, crop, 3), np.uint8)
    for image, (top, left) in enumerate(zip(augmentation.top, augmentation.left, strict=True)):
        cropped[image] = pixels[image, top : top + crop, left : left + crop]
    taken, mirrored = torch.from_numpy(cropped), torch.from_numpy(np.flatnonzero(augmentation.mirror))
    taken[mirrored] = taken[mirrored].flip(2)
    return taken
