"""What an operator may set: flags, then FC7_* variables, then these defaults (scripts/command.py reads them)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

__all__ = ["Settings"]

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Serve a bundle: answers over HTTP, and a page to try it at /."""

    bundle: Path = Path("bundles/cifar10")
    """Folder that scripts/build_index.py wrote."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every network of this machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 takes any free one."""
    device: str = "auto"
    """Where the network and the search run: cpu, cuda:N (GPU N alone), cuda (the network on the first GPU, the search
    on every GPU) or auto (cuda on a machine with a GPU, else cpu). Where FAISS cannot use the GPU, the CPU searches."""
    float16: bool = False
    """Keep the scanned vectors in half the memory; the answers stay the same."""
    max_bytes: Positive = 20_000_000
    """Largest request body, in bytes."""
    max_pixels: Positive = 50_000_000
    """Largest image, in pixels (width x height); decoding takes up to nine bytes of memory a pixel."""
    decoders: Positive = 2
    """Images decoded at the same time."""
    max_in_flight: Positive = 64
    """Maximum concurrent requests that carry an image; further ones get 503."""
