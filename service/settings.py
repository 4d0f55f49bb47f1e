"""The settings of the service, and their defaults. scripts/command.py reads them from flags and FC7_* variables."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from service.hosts import checked_hosts, checked_origins, checked_proxies
from service.rates import checked

__all__ = ["Settings"]

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Serve a bundle over HTTP, with a page to try it at /."""

    bundle: Path = Path("bundles/cifar10")
    """The folder that scripts/build_index.py wrote."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 listens on every network of this machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """TCP port; 0 takes any free one."""
    device: str = "auto"
    """For network and search: auto, cpu, cuda (all GPUs search) or cuda:N. Without GPU FAISS the CPU searches."""
    engine: Literal["auto", "openvino", "torch"] = "auto"
    """What runs the network: auto (OpenVINO on a CPU, torch on a GPU), openvino, torch."""
    float16: bool = False
    """Scan the features in float16: half the memory, the same answers. A GPU refuses features above 255."""
    max_bytes: Positive = 20_000_000
    """Largest request body, in bytes."""
    max_pixels: Positive = 50_000_000
    """Largest image, in pixels (width x height); decoding takes 4 to 20 bytes of memory a pixel."""
    decoders: Positive = 2
    """Processes that decode images, each one at a time."""
    decode_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Longest time for decoding one image; a process that takes longer is ended and replaced."""
    max_in_flight: Positive = 64
    """Maximum concurrent requests that the network answers; further ones get 503."""
    max_batch: Positive = 16
    """Most images in one pass of the network: requests that wait share one."""
    max_slow: Positive = 4
    """Maximum concurrent searches that must read the whole index, a few images need one; further ones get 503."""
    max_k: Annotated[int, Field(ge=7)] = 100
    """Most neighbours in one answer; the page asks for seven."""
    verify: bool = False
    """Read every file of the bundle before the first answer. Without it they are read after that."""

    # Who may ask; docs/security.md
    keys: Path | None = None
    """File of API keys, from scripts/make_key.py. Without it all may ask, and none may change or reload the index."""
    rate: Annotated[str, AfterValidator(checked)] = ""
    """Most requests of one key, or of one address, as 60/minute or 10/second;1000/day; empty for no limit."""
    hosts: Annotated[tuple[str, ...], AfterValidator(checked_hosts)] = ()
    """Names by which the service may be called, besides localhost, this machine's name and IP addresses; * for all."""
    cors_origins: Annotated[tuple[str, ...], AfterValidator(checked_origins)] = ()
    """Other web sites whose pages may use the service, as https://photos.example; * for all."""
    proxies: Annotated[tuple[str, ...], AfterValidator(checked_proxies)] = ()
    """Addresses or networks of the proxies whose X-Forwarded-For is believed; * for all."""

    canary_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds in which each of the index's sixteen canaries is asked once, and its answer compared with the index."""

    # The log, on stderr; docs/operating.md
    log: Literal["json", "text"] = "json"
    """Form of its lines: JSON objects for programs, or text for people."""
    log_level: Literal["info", "warning", "error"] = "info"
    """The least important lines: info has one for each request, warning those with status 500 or more alone."""
    log_addresses: bool = False
    """Say in the log which address a request came from."""

    # What requests may take; docs/operating.md
    max_bodies: Annotated[int, Field(ge=4)] = 10
    """Request bodies of max_bytes that may be held at the same time, in memory and temporary files, or more smaller
    ones; further ones get 503."""
    body_seconds: Positive = 120
    """Seconds in which a request's body must arrive."""
    body_rate: Positive = 16_000
    """Slowest mean rate of a request's body after ten seconds, in bytes a second."""
    max_connections: Positive = 2_000
    """Maximum open connections, half of them from one address; further ones get 503."""
