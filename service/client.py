"""A client of the service in one file: copy it, or install fc7[client]. Of other packages it needs httpx alone.

    with Client("http://127.0.0.1:8000") as fc7:
        print(fc7.classify("image.jpg").predictions[0].label)

AsyncClient has the same methods; they are awaited. A refusal is a Problem. docs/api.md has examples of all.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, ParamSpec, Self, TypeVar, get_args, get_origin, get_type_hints, overload

import httpx

__all__ = [
    "AddedImage",
    "AsyncClient",
    "BadImage",
    "BadRequest",
    "Classification",
    "Client",
    "Conflict",
    "Embedding",
    "Failed",
    "ImagePage",
    "IndexedImage",
    "Label",
    "LabelPage",
    "ListedImage",
    "Neighbour",
    "Neighbourhood",
    "NotAllowed",
    "NotFound",
    "Patience",
    "Prediction",
    "Problem",
    "Recall",
    "Reloaded",
    "Removed",
    "Unavailable",
    "Unreachable",
    "Version",
]

P = ParamSpec("P")
T = TypeVar("T")
Image = str | os.PathLike[str] | bytes  # a path, or an encoded image
Exactness = Literal["certified", "measured"]
OCTETS = "application/octet-stream"


@dataclass(frozen=True)
class Prediction:
    label: str
    class_id: int
    probability: float


@dataclass(frozen=True)
class Classification:
    predictions: list[Prediction]
    model: str


@dataclass(frozen=True)
class Recall:
    value: float
    low: float
    high: float
    k: int


@dataclass(frozen=True)
class IndexedImage:
    image_id: int
    name: str
    names: list[str]
    names_count: int
    label: str | None
    predicted: Prediction
    thumbnail: str


@dataclass(frozen=True)
class Neighbour(IndexedImage):
    rank: int
    distance: float


@dataclass(frozen=True)
class Neighbourhood:
    predictions: list[Prediction]
    neighbours: list[Neighbour]
    name: str | None
    true_label: str | None
    exactness: str
    recall: Recall | None
    generation: int
    model: str


@dataclass(frozen=True)
class Embedding:
    embedding: list[float]
    model: str


@dataclass(frozen=True)
class ListedImage:
    image_id: int
    name: str
    names_count: int
    label: str | None
    thumbnail: str


@dataclass(frozen=True)
class ImagePage:
    images: list[ListedImage]
    next: int | None
    total: int
    generation: int


@dataclass(frozen=True)
class Label:
    label: str
    images: int


@dataclass(frozen=True)
class LabelPage:
    labels: list[Label]
    next: str | None
    total: int
    unlabelled: int
    generation: int


@dataclass(frozen=True)
class Version:
    version: str
    model: dict[str, Any]
    generation: dict[str, Any]
    refused: str | None


@dataclass(frozen=True)
class AddedImage:
    image_id: int
    name: str


@dataclass(frozen=True)
class Removed:
    image_id: int
    generation: int


@dataclass(frozen=True)
class Reloaded:
    generation: int
    swapped: bool


class Unreachable(Exception):
    """The service did not answer: no connection, or none in time."""


class Problem(Exception):
    """The service refused; `type`, such as urn:fc7:problem:busy, says why to a program, `detail` to a person."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.type, self.title = str(document["type"]), str(document["title"])
        self.status, self.detail = int(document["status"]), str(document["detail"])
        self.request_id: str | None = document.get("request_id")
        self.errors: list[dict[str, str]] = document.get("errors") or []
        super().__init__(f"{self.title}: {self.detail}")


class BadImage(Problem):
    """The file is no image, or too large a one."""


class BadRequest(Problem):
    """A parameter, or the request itself, is not accepted."""


class NotFound(Problem):
    """There is no such image, label, map or route."""


class NotAllowed(Problem):
    """A key is needed, or one with another role."""


class Conflict(Problem):
    """The collection cannot be changed like this, or not now."""


class Unavailable(Problem):
    """The service cannot answer now: it starts, stops, is full or damaged; or this client has asked too often."""


class Failed(Problem):
    """Something went wrong in the service, or what answered is not the service."""


def _kind(name: str, status: int) -> type[Problem]:
    """Return the class of a problem: the name tells a bad image, the status the others."""
    if name in ("not-an-image", "too-many-pixels", "too-costly"):
        return BadImage
    by_status = {401: NotAllowed, 403: NotAllowed, 404: NotFound, 409: Conflict, 429: Unavailable, 503: Unavailable}
    return by_status.get(status, BadRequest if status < 500 else Failed)


def _problem(document: Mapping[str, Any]) -> Problem:
    return _kind(str(document["type"]).rpartition(":")[2], int(document["status"]))(document)


def _refusal(response: httpx.Response) -> Problem:
    """Return the problem of a response, also of one that a proxy made."""
    try:
        return _problem(response.json())
    except (ValueError, KeyError, TypeError, AttributeError):
        text = response.text[:200] or response.reason_phrase
        document = {"type": "about:blank", "title": f"HTTP {response.status_code}", "detail": text}
        return _problem({**document, "status": response.status_code})


@dataclass(frozen=True)
class Patience:
    """How long a client waits where the service asks it to come back, with 429 or 503 and Retry-After."""

    attempts: int = 4  # at most, the first one included
    longest: float = 10.0  # seconds; asked to wait longer, the client raises Unavailable

    def pause(self, response: httpx.Response, attempt: int) -> float | None:
        """Return the seconds to wait before the next attempt; None where there is none."""
        asked = response.headers.get("Retry-After", "")
        if response.status_code not in (429, 503) or attempt >= self.attempts or not asked.isdecimal():
            return None
        return float(asked) if float(asked) <= self.longest else None


@cache
def _types(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _made(kind: Any, value: Any) -> Any:
    """Return JSON as the type says. Fields that this client does not know are left out."""
    if is_dataclass(kind) and isinstance(kind, type):
        return kind(**{name: _made(of, value[name]) for name, of in _types(kind).items()})
    if get_origin(kind) is list:
        return [_made(get_args(kind)[0], one) for one in value]
    inner = [of for of in get_args(kind) if is_dataclass(of)]
    return value if value is None or not inner else _made(inner[0], value)


def _json(kind: type[T]) -> Callable[[httpx.Response], T]:
    return lambda response: _made(kind, response.json())


def _many(kind: type[T]) -> Callable[[httpx.Response], list[T | Problem]]:
    def results(response: httpx.Response) -> list[T | Problem]:
        found = response.json()["results"]
        return [_problem(one["problem"]) if one["problem"] else _made(kind, one["answer"]) for one in found]

    return results


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its response is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    options: Mapping[str, Any]  # of httpx

    def answer(self, response: httpx.Response) -> T:
        """Raises Problem, also where the answer is not the service's, as a proxy's page is not."""
        if not response.is_success:
            raise _refusal(response)
        try:
            return self.read(response)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            detail = f"the answer to {self.method} {self.path} is not one of this service: {response.text[:200]}"
            document = {"type": "about:blank", "title": "Not understood", "detail": detail}
            raise Failed({**document, "status": response.status_code}) from error


def _call(method: str, path: str, read: Callable[[httpx.Response], T], **options: Any) -> Call[T]:
    return Call(method, path, read, options)


def _known(**values: Any) -> dict[str, str]:
    """Return the parameters that are given, as text."""
    return {name: str(value) for name, value in values.items() if value is not None}


def _file(image: Image) -> tuple[str, bytes]:
    return ("image", image) if isinstance(image, bytes) else (Path(image).name, Path(image).read_bytes())


def _form(images: Image | Sequence[Image] | None, **values: Any) -> dict[str, Any]:
    """Return httpx's options for a form with one file, several, or none."""
    if images is None:
        return {"data": _known(**values)}
    if isinstance(images, str | bytes | os.PathLike):
        return {"files": {"file": _file(images)}, "data": _known(**values)}
    return {"files": [("files", _file(image)) for image in images], "data": _known(**values)}


def _classify(image: Image, *, top_k: int = 5, views: Literal[1, 10] = 1) -> Call[Classification]:
    """Return the most probable classes of an image."""
    return _call("POST", "/classify", _json(Classification), **_form(image, top_k=top_k, views=views))


def _classify_many(
    images: Sequence[Image], *, top_k: int = 5, views: Literal[1, 10] = 1
) -> Call[list[Classification | Problem]]:
    """As classify, for up to 32 images: an answer or a problem for each, in their order."""
    return _call("POST", "/classify/many", _many(Classification), **_form(images, top_k=top_k, views=views))


def _neighbours(
    image: Image | None = None,
    *,
    image_id: int | None = None,
    k: int = 6,
    exactness: Exactness = "certified",
    label: str | None = None,
) -> Call[Neighbourhood]:
    """Return the indexed images nearest to an image, or to the indexed image `image_id`; with a label, its nearest."""
    form = _form(image, image_id=image_id, k=k, exactness=exactness, label=label)
    return _call("POST", "/neighbours", _json(Neighbourhood), **form)


def _neighbours_of_vector(
    vector: Sequence[float] | bytes, *, k: int = 6, exactness: Exactness = "certified", label: str | None = None
) -> Call[Neighbourhood]:
    """As neighbours, for an embedding: 4096 numbers, or what embed_bytes returns."""
    body: dict[str, Any] = {
        "json": {"embedding": [float(number) for number in vector]}
    }  # JSON has none of NumPy's numbers
    if isinstance(vector, bytes):
        body = {"content": vector, "headers": {"Content-Type": OCTETS}}
    parameters = _known(k=k, exactness=exactness, label=label)
    return _call("POST", "/neighbours/vector", _json(Neighbourhood), params=parameters, **body)


def _neighbours_many(
    images: Sequence[Image], *, k: int = 6, exactness: Exactness = "certified", label: str | None = None
) -> Call[list[Neighbourhood | Problem]]:
    """As neighbours, for up to 32 images: an answer or a problem for each, in their order."""
    form = _form(images, k=k, exactness=exactness, label=label)
    return _call("POST", "/neighbours/many", _many(Neighbourhood), **form)


def _embed(image: Image) -> Call[Embedding]:
    """Return the embedding of an image."""
    return _call("POST", "/embed", _json(Embedding), **_form(image))


def _embed_bytes(image: Image) -> Call[bytes]:
    """Return the embedding of an image as little-endian float32 numbers."""
    return _call("POST", "/embed", lambda response: response.content, headers={"Accept": OCTETS}, **_form(image))


def _embed_many(images: Sequence[Image]) -> Call[list[Embedding | Problem]]:
    """As embed, for up to 32 images: an answer or a problem for each, in their order."""
    return _call("POST", "/embed/many", _many(Embedding), **_form(images))


def _images(*, label: str | None = None, after: int | None = None, limit: int = 30) -> Call[ImagePage]:
    """Return a page of the collection, of all or of a label; `next` of a page is `after` of the following one."""
    return _call("GET", "/images", _json(ImagePage), params=_known(label=label, after=after, limit=limit))


def _labels(*, after: str | None = None, limit: int = 1000) -> Call[LabelPage]:
    """Return a page of the collection's labels."""
    return _call("GET", "/labels", _json(LabelPage), params=_known(after=after, limit=limit))


def _random_image() -> Call[IndexedImage]:
    """Return an image of the collection, all equally likely."""
    return _call("GET", "/images/random", _json(IndexedImage))


def _thumbnail(image_id: int) -> Call[bytes]:
    """Return the thumbnail of an indexed image: a PNG or JPEG."""
    return _call("GET", f"/images/{image_id}", lambda response: response.content)


def _map() -> Call[bytes]:
    """Return the map of the collection; its form is in /docs."""
    return _call("GET", "/map", lambda response: response.content)


def _version() -> Call[Version]:
    """Return which network and which index are in use."""
    return _call("GET", "/version", _json(Version))


def _alive() -> Call[None]:
    """Return when the process answers."""
    return _call("GET", "/healthz", lambda _: None)


def _ready() -> Call[None]:
    """Return when the service is ready. Raises Unavailable when it is not for longer than Patience allows."""
    return _call("GET", "/readyz", lambda _: None)


def _metrics() -> Call[str]:
    """Return the metrics in the Prometheus text format."""
    return _call("GET", "/metrics", lambda response: response.text)


def _add(images: Sequence[Image], *, label: str = "") -> Call[list[AddedImage | Problem]]:
    """Add up to 32 images to the collection: an id or a problem for each. It needs a key with the role `write`."""
    return _call("POST", "/images", _many(AddedImage), **_form(images, label=label))


def _remove(image_id: int) -> Call[Removed]:
    """Remove an image from the collection. It needs a key with the role `write`."""
    return _call("DELETE", f"/images/{image_id}", _json(Removed))


def _reload() -> Call[Reloaded]:
    """Make the service use the bundle's current generation now. It needs a key with the role `admin`."""
    return _call("POST", "/admin/reload", _json(Reloaded))


class Route(Generic[P, T]):
    """A method of both clients: one returns what the call reads, the other a coroutine of it."""

    def __init__(self, call: Callable[P, Call[T]]) -> None:
        self._call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        @wraps(self._call)
        def send(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.send(self._call(*args, **kwargs))

        return send


class _Routes:
    classify, classify_many = Route(_classify), Route(_classify_many)
    neighbours, neighbours_many = Route(_neighbours), Route(_neighbours_many)
    neighbours_of_vector = Route(_neighbours_of_vector)
    embed, embed_bytes, embed_many = Route(_embed), Route(_embed_bytes), Route(_embed_many)
    images, labels, random_image, thumbnail = Route(_images), Route(_labels), Route(_random_image), Route(_thumbnail)
    map, version, metrics = Route(_map), Route(_version), Route(_metrics)
    alive, ready = Route(_alive), Route(_ready)
    add, remove, reload = Route(_add), Route(_remove), Route(_reload)


def _settings(address: str, key: str | None, timeout: float) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return {"base_url": address, "headers": headers, "timeout": timeout}


class Client(_Routes):
    """The service at an address; for several threads. Its methods raise Problem and Unreachable."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float = 30.0,  # seconds without an answer, or without the next bytes of one
        patience: Patience = Patience(),
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(transport=transport, **_settings(address, key, timeout))
        self._patience = patience

    def send(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._http.request(call.method, call.path, **call.options)
            except httpx.RequestError as error:
                raise Unreachable(f"{self._http.base_url}: {error or type(error).__name__}") from error
            if (seconds := self._patience.pause(response, attempt)) is None:
                return call.answer(response)
            time.sleep(seconds)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class AsyncClient(_Routes):
    """As Client, for an event loop."""

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float = 30.0,
        patience: Patience = Patience(),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(transport=transport, **_settings(address, key, timeout))
        self._patience = patience

    async def send(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._http.request(call.method, call.path, **call.options)
            except httpx.RequestError as error:
                raise Unreachable(f"{self._http.base_url}: {error or type(error).__name__}") from error
            if (seconds := self._patience.pause(response, attempt)) is None:
                return call.answer(response)
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()
