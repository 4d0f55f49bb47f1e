"""Whether decoding and the network still give what was indexed: a few indexed images are asked again and again.

An index is worth something only with the network and the decoder that made it. A wrong checkpoint, a library that
decodes otherwise and a weight that changed in memory all give answers that look like any other. So the originals that a
generation keeps go the way of an upload, one at a time, and their features are compared with the indexed ones.

The difference of one is the largest of its numbers' differences, relative to the largest indexed number.
"""

import logging
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from index import Canary
from model import TooManyPixels
from service.decoder_process import DecoderEnded
from service.engine import Engine, Inference
from service.errors import Busy, TooCostly

__all__ = ["LOST", "TOLERANCE", "Canaries"]

# By the network's precision. Between engines, and between one image and a batch, differences of 1e-6 (float32) and of
# 8e-3 (bfloat16) were measured; other weights or pixels that are decoded otherwise give more than these limits.
TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}
LOST = 1e6  # the difference of one that cannot be decoded, or gives no features


class Asked(Protocol):
    """What is needed of the workers."""

    async def decode(self, engine: Engine, upload: bytes) -> NDArray[np.uint8]: ...
    async def infer(self, engine: Engine, image: NDArray[np.uint8]) -> Inference: ...


class Canaries:
    """How far the canaries of one generation are from what was indexed, each when it was last asked."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._differences: dict[int, float] = {}  # by image id
        self.asked = False  # each of them, once
        self.tolerance = TOLERANCE[engine.checkpoint.recipe.precision]

    @property
    def worst(self) -> float | None:
        """The largest difference; None where there are no canaries, or none was asked yet."""
        return max(self._differences.values(), default=None)

    @property
    def failed(self) -> bool:
        """Whether an answer would be wrong."""
        return (self.worst or 0.0) > self.tolerance

    async def ask_all(self, workers: Asked) -> None:
        """Ask each, one after the other."""
        for canary in self._engine.canaries:
            await self.ask(workers, canary)
        self.asked = True

    async def ask(self, workers: Asked, canary: Canary) -> None:
        """Ask one. Nothing is learned where the service is too busy, has lower limits, or its decoder was ended."""
        log = logging.getLogger(__name__)
        try:
            image = await workers.decode(self._engine, canary.data)
            features = (await workers.infer(self._engine, image)).features
        except (Busy, DecoderEnded, TooCostly, TooManyPixels):
            return
        except Exception as error:
            log.error("image %d, which is indexed, gives no features: %s", canary.image_id, str(error))
            difference = LOST
        else:
            largest = float(np.abs(canary.features).max()) or 1.0
            difference = float(np.abs(features - canary.features).max()) / largest
            difference = difference if isfinite(difference) else LOST
        self._differences[canary.image_id] = difference
        if difference > self.tolerance:
            log.error(
                "image %d no longer gives its indexed features: the difference is %.2g, at most %.2g is accepted",
                canary.image_id,
                difference,
                self.tolerance,
            )
