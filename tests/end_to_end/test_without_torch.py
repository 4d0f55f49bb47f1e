"""scripts/serve.py answers on a CPU without torch, which takes seconds to import and gigabytes to install."""

import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.served import Served, served
from tests.images import encoded, photograph
from tests.service.bundles import build

TRIED = "tried"  # the file's name
FILE = b'--a\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n%b\r\n--a--\r\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Start the service where `import torch` leaves a file and raises an error, from any thread."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "modules").mkdir()
    (folder / "modules" / "torch.py").write_text(
        f"open({str(folder / TRIED)!r}, 'w').close()\nraise ImportError('torch must not be imported')\n"
    )
    path = os.pathsep.join([str(folder / "modules"), *filter(None, [os.environ.get("PYTHONPATH")])])
    with served("--bundle", str(build(folder)), PYTHONPATH=path) as server:
        yield server
        assert not (folder / TRIED).exists(), "torch was imported where it may be absent, and would have taken seconds"


def posted(server: Served, path: str) -> Any:
    """Upload an image and return the answer."""
    request = urllib.request.Request(
        f"{server.address}{path}",
        FILE % encoded(photograph(40, 50)),
        {"Content-Type": "multipart/form-data; boundary=a"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_it_classifies_finds_neighbours_and_embeds(server: Served) -> None:
    assert len(posted(server, "/classify")["predictions"]) == 3
    assert len(posted(server, "/classify?views=10")["predictions"]) == 3
    assert len(posted(server, "/neighbours?k=6")["neighbours"]) == 6
    assert len(posted(server, "/embed")["embedding"]) == 4096
