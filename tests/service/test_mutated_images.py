"""Thousands of broken image files against a real service: each gets an answer, and none hurts it."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from scripts.load.connection import Connection, once, post
from scripts.load.server import free_port, started
from tests.mutations import mutated
from tests.service.bundles import build, image_file

COUNT = int(os.environ.get("MUTATIONS", "2000"))
SEED = int(os.environ.get("MUTATION_SEED", "0"))
CLIENTS = 4
MB = 1_000_000


async def statuses(port: int, files: Iterator[bytes]) -> Counter[int]:
    """Send every file, as CLIENTS connections; raises Lost where one is not answered. Return how often which status."""
    found: Counter[int] = Counter()

    async def client() -> None:
        connection = Connection(port)
        try:
            for data in files:
                answer = await connection.ask(post("/classify", data))
                found[answer.status] += 1
                assert answer.status in (200, 400, 413, 503), (SEED, answer.body, data)
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
    return found


@pytest.mark.slow
@pytest.mark.timeout(60 + COUNT)
def test_no_broken_image_breaks_the_service(tmp_path: Path) -> None:
    """MUTATIONS=100000 sends more of them, MUTATION_SEED=1 others."""
    port, good = free_port(), post("/classify", image_file(0))
    command = [sys.executable, "scripts/serve.py", "--bundle", str(build(tmp_path)), "--port", str(port)]
    with started(command, port, good) as server:
        before = asyncio.run(once(port, good)).json()["predictions"]
        asyncio.run(statuses(port, islice(mutated(SEED + 1), 100)))  # so that the decoders have their size
        memory, files = server.memory(), server.open_files()
        found = asyncio.run(statuses(port, islice(mutated(SEED), COUNT)))
        assert asyncio.run(once(port, good)).json()["predictions"] == before
        assert server.memory() < memory + 100 * MB
        assert server.open_files() < files + 10
    assert found.total() == COUNT
    assert found[200] > COUNT / 20  # some are decoded whole or in part,
    assert found[400] > COUNT / 4  # and most are refused
