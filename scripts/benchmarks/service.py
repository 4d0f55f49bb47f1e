"""The service under load, in turn with a plain handler and LitServe: answers a second, their times, and the bound."""

import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from scripts.benchmarks import service_overload, service_targets
from scripts.benchmarks.service_alone import Alone, alone, bound
from scripts.benchmarks.service_inputs import Inputs, prepared
from scripts.benchmarks.service_overload import Phase
from scripts.benchmarks.service_targets import Target, targets
from scripts.benchmarks.settings import Service, check_positive
from scripts.benchmarks.timing import own_process, table
from scripts.command import Refused
from scripts.load import photographs
from scripts.load.clients import OK, Load, asking, milliseconds
from scripts.load.connection import once, post
from scripts.load.server import free_port, started

OURS, HANDLER, LITSERVE = "fc7", "FastAPI handler, plain torch", "LitServe, batches, plain torch"
WARM_UP = 1.0  # seconds
NEAR = 1e-3  # of a probability


@dataclass(frozen=True)
class Loaded:
    """One form's figures with so many clients."""

    form: str
    route: str
    clients: int
    per_s: float  # good answers, in the median round
    slowest: float  # answers a second in the slowest round
    fastest: float
    p50_ms: float  # of all rounds' good answers
    p99_ms: float
    not_ok: int  # answers of another status than 200, or none
    client_share: float  # of the machine's processor time that the clients took


@dataclass(frozen=True)
class Begun:
    """A form's start: from the process to the first good answer."""

    form: str
    seconds: float  # median
    fastest: float
    slowest: float


Row = Loaded | Begun | Alone | Target | Phase


def measure(config: Service) -> list[Row]:
    """Load every form in each round. Raises BadBundle, BadCheckpoint, BadDataset, Refused."""
    check_positive(config, "indexed", "photographs", "kilobytes", "clients", "seconds", "rounds")
    if name := next((name for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ), None):
        raise Refused(f"{name} is set: it takes threads from the peers' torch, and none from OpenVINO; unset it")
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        inputs = prepared(config, Path(folder))
        if config.overload:
            return list(service_overload.measure(config, inputs))
        with own_process() as process:
            parts = process.submit(alone, inputs.bundle, inputs.photographs, config.rounds).result()
        loads: dict[tuple[str, str, int], list[Load]] = {}
        starts: dict[str, list[float]] = {}
        classes: dict[str, tuple[int, float]] = {}
        for number in range(config.rounds):
            for form, command, routes in forms(inputs):
                print(f"round {number + 1} of {config.rounds}: {form}", file=sys.stderr)
                starts.setdefault(form, []).append(_round(config, inputs, form, command, routes, loads, classes))
    loaded = [_loaded(*which, of_it) for which, of_it in loads.items()]
    begun = [Begun(form, statistics.median(taken), min(taken), max(taken)) for form, taken in starts.items()]
    return [*parts, *loaded, *begun, *targets(loaded, begun, parts)]


def forms(inputs: Inputs) -> Iterator[tuple[str, list[str], tuple[str, ...]]]:
    """Each form, the command that starts it on a port, and its routes; a line on stderr for what is left out."""
    yield OURS, ["scripts/serve.py", "--bundle", str(inputs.bundle), "--port"], ("/classify", "/neighbours")
    yield HANDLER, ["-m", "scripts.benchmarks.service_handler", str(inputs.checkpoint)], ("/classify",)
    if find_spec("litserve"):
        yield LITSERVE, ["-m", "scripts.benchmarks.service_litserve", str(inputs.checkpoint)], ("/classify",)
    else:
        print(f"left out: {LITSERVE}, which needs litserve: pip install -e .[peers]", file=sys.stderr)


def _round(
    config: Service,
    inputs: Inputs,
    form: str,
    command: Sequence[str],
    routes: Sequence[str],
    loads: dict[tuple[str, str, int], list[Load]],
    classes: dict[str, tuple[int, float]],
) -> float:
    """Start a form, load it, end it; seconds until it was ready. Raises Refused where it is another network."""
    port = free_port()
    with started([sys.executable, *command, str(port)], port, inputs.requests(routes[0])[0]) as server:
        classes[form] = first_class(port)
        check(classes)
        for route in routes:
            requests = inputs.requests(route)
            for clients in config.clients:
                load = asking(port, requests, clients, config.seconds, WARM_UP)
                loads.setdefault((form, route, clients), []).append(load)
        return server.start_s


def first_class(port: int) -> tuple[int, float]:
    """Ask for the class of an image of one colour, which every way of decoding and resizing leaves as it is."""
    first = asyncio.run(once(port, post("/classify", photographs.plain()))).json()["predictions"][0]
    return first["class_id"], first["probability"]


def check(classes: Mapping[str, tuple[int, float]]) -> None:
    """Raise Refused where a form gives another class, or another probability, than the first one."""
    (name, (class_id, probability)), *others = classes.items()
    for form, found in others:
        if found[0] != class_id or abs(found[1] - probability) > NEAR:
            raise Refused(f"{form} gives class {found[0]}, {found[1]:.4f}; {name} {class_id}, {probability:.4f}")


def _loaded(form: str, route: str, clients: int, loads: Sequence[Load]) -> Loaded:
    rates, answers = [load.rate for load in loads], [answer for load in loads for answer in load.answers]
    return Loaded(
        form,
        route,
        clients,
        statistics.median(rates),
        min(rates),
        max(rates),
        milliseconds(answers, 50),
        milliseconds(answers, 99),
        sum(status != OK for _, _, status in answers),
        statistics.median(load.client_share for load in loads),
    )


def shown(config: Service, rows: Sequence[Row]) -> str:
    """Tables of the load, of the parts alone and of the targets; or of the overload."""
    aims = service_targets.shown([row for row in rows if isinstance(row, Target)])
    if config.overload:
        return f"{service_overload.shown([row for row in rows if isinstance(row, Phase)])}\n\n{aims}"
    parts = [row for row in rows if isinstance(row, Alone)]
    bounds = {"/classify": bound(parts[:2]), "/neighbours": bound(parts)}
    alone_rows = [[p.part, f"{p.one_ms:,.2f}", f"{p.per_s:,.0f} ({p.together} together)"] for p in parts]
    begun = [[b.form, f"{b.seconds:.1f} ({b.fastest:.1f}-{b.slowest:.1f})"] for b in rows if isinstance(b, Begun)]
    bound_line = ", ".join(f"{route} {rate:,.0f}" for route, rate in bounds.items())
    return "\n\n".join(
        [
            _of_loads([row for row in rows if isinstance(row, Loaded)], bounds),
            table(["part, alone", "ms for one", "images/s"], alone_rows),
            f"Bound, answers a second, where the parts follow each other and all else is free: {bound_line}.",
            table(["service", "s from start to the first answer (range)"], begun),
            aims,
        ]
    )


def _of_loads(loads: Sequence[Loaded], bounds: Mapping[str, float]) -> str:
    of_handler = {row.clients: row.per_s for row in loads if row.form == HANDLER}
    rows = [
        [
            f"{row.form}, {row.route}",
            str(row.clients),
            f"{row.per_s:,.1f} ({row.slowest:,.1f}-{row.fastest:,.1f})",
            f"{row.p50_ms:,.1f}",
            f"{row.p99_ms:,.1f}",
            str(row.not_ok),
            f"{row.per_s / of_handler[row.clients]:.2f} x",
            f"{row.per_s / bounds[row.route]:.0%}",
            f"{row.client_share:.1%}",
        ]
        for row in loads
    ]
    head = ["service", "clients", "answers/s (range)", "p50 ms", "p99 ms", "not 200", "of the handler", "of the bound"]
    return table([*head, "processor time of the clients"], rows)
