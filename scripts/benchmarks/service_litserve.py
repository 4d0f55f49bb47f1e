"""The same network and decoding in LitServe: `python -m scripts.benchmarks.service_litserve CHECKPOINT PORT`."""

import sys
from pathlib import Path
from typing import Any

from fastapi import Request
from litserve import LitAPI, LitServer

from scripts.benchmarks.service_handler import PATH, best, network_and_preparation

LARGEST, WAIT = 16, 0.01  # images in a batch, and seconds that a request waits for others


class Classify(LitAPI):  # type: ignore[misc]  # it has no types
    """As its documentation has it: setup, decode_request, predict on a batch, encode_response."""

    def __init__(self, file: Path) -> None:
        super().__init__(max_batch_size=LARGEST, batch_timeout=WAIT, api_path=PATH)
        self.file = file

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.infer, self.prepared, self.classes = network_and_preparation(self.file)

    def decode_request(self, request: Request) -> Any:  # of a form, LitServe hands over what is in it
        form: Any = request
        return self.prepared(form["file"].file.read())

    def predict(self, batch: Any) -> Any:
        return self.infer(batch)

    def encode_response(self, output: Any) -> dict[str, Any]:
        return best(output, self.classes)


if __name__ == "__main__":
    server = LitServer(Classify(Path(sys.argv[1])), accelerator="cpu")
    server.run(port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
