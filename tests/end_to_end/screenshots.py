"""Take the four images of the page in docs/ anew: python -m tests.end_to_end.screenshots ADDRESS IMAGE_ID

ADDRESS: of a service whose bundle has a map, better of photographs, as http://127.0.0.1:8000 after
`make demo DATA=imagenette` and `scripts/build_index.py --map umap` over it. IMAGE_ID: the image that is asked about.
"""

import io
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image
from playwright.sync_api import Page

from tests.end_to_end.chromium import chromium

DOCS = Path(__file__).parents[2] / "docs"
STILL = "document.getAnimations().every((animation) => animation.playState !== 'running')"


class Shot(NamedTuple):
    """One image."""

    name: str
    view: str
    width: int
    height: int
    scheme: Literal["light", "dark"]


def shots(image_id: int) -> list[Shot]:
    question = f"image/{image_id}"
    return [
        Shot("page", question, 1280, 900, "light"),
        Shot("page-phone", question, 390, 844, "light"),
        Shot("page-dark", f"{question}?k=12", 1280, 900, "dark"),
        Shot("page-map", f"map/{image_id}", 1280, 900, "light"),
    ]


def take(page: Page, address: str, shot: Shot) -> None:
    """Wait until the view is drawn, and write it."""
    page.goto(f"{address}/#/{shot.view}")
    page.locator("#card" if shot.view.startswith("map") else "#answer").wait_for()
    page.wait_for_load_state("networkidle")
    for _ in range(50):
        page.wait_for_timeout(100)
        if page.evaluate(STILL):
            break
    image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    image.quantize(256).save(DOCS / f"{shot.name}.png", optimize=True)  # a third of the bytes


def main(address: str, image_id: str) -> None:
    """Take them all."""
    with chromium() as browser:
        for shot in shots(int(image_id)):
            page = browser.new_page(viewport={"width": shot.width, "height": shot.height}, color_scheme=shot.scheme)
            take(page, address.rstrip("/"), shot)
            page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
