"""The handler that most people would write: `python -m scripts.benchmarks.service_handler CHECKPOINT PORT`.

It decodes with Pillow, prepares with torchvision, and runs the checkpoint's own network in plain torch.
"""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PATH", "best", "network_and_preparation"]

PATH = "/classify"
TOP = 5


def network_and_preparation(file: Path) -> tuple[Any, Callable[[bytes], Any], tuple[str, ...]]:
    """Return the network (B, 3, C, C) -> probabilities, what makes its input (3, C, C) from bytes, and the classes."""
    import torch
    from PIL import Image
    from torchvision.transforms import v2

    from model.checkpoint import load
    from model.forward.torch_engine import network_of
    from scripts.benchmarks.train import Plain

    trained = load(file)
    network, stored, crop = Plain(network_of(trained)).eval(), trained.recipe.stored, trained.recipe.crop
    mean = v2.CenterCrop(crop)(torch.from_numpy(trained.mean_image).permute(2, 0, 1))
    crops = v2.Compose([v2.Resize(stored, v2.InterpolationMode.BICUBIC), v2.CenterCrop(crop), v2.PILToTensor()])

    def prepared(data: bytes) -> Any:
        return crops(Image.open(io.BytesIO(data)).convert("RGB")).float() - mean

    @torch.inference_mode()
    def infer(x: Any) -> Any:
        return network(x)[0].softmax(1)

    return infer, prepared, trained.classes


def best(probabilities: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the JSON of one answer from probabilities (classes,)."""
    values, rows = probabilities.topk(min(TOP, len(classes)))
    found = zip(rows.tolist(), values.tolist(), strict=True)
    return {"predictions": [{"label": classes[row], "class_id": row, "probability": value} for row, value in found]}


def handler(file: Path, port: int) -> None:
    """One request, one pass; in FastAPI's own threads, with torch's own number of threads."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    infer, prepared, classes = network_and_preparation(file)
    app = FastAPI()

    @app.post(PATH)
    def classify(file: UploadFile) -> dict[str, Any]:
        return best(infer(prepared(file.file.read())[None])[0], classes)

    uvicorn.run(app, port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    handler(Path(sys.argv[1]), int(sys.argv[2]))
