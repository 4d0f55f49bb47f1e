"""Make the files of service/static/vendor/ anew: python -m tests.end_to_end.vendoring (needs npm, and a browser).

npm gives the packages in these versions, esbuild makes one file of them. Then a page without a policy lets regl write
its functions while it runs, and they are kept: see service/static/plot.js.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from service.page import FOLDER
from tests.end_to_end.chromium import chromium
from tests.end_to_end.served import served
from tests.service.bundles import build

__all__ = ["programs"]

VENDOR = FOLDER / "vendor"
PACKAGES = ("regl-scatterplot@1.16.0", "@plotly/regl@2.1.2", "pub-sub-es@3.0.0", "esbuild@0.28.2")
ENTRY = """
export { default as createScatterplot, createRenderer } from "regl-scatterplot";
export { default as createRegl } from "@plotly/regl";
"""
BUNDLE = ("--bundle", "--format=esm", "--minify", "--legal-comments=none", "--alias:regl=@plotly/regl")
WRITTEN = """async () => {
  const { default: programs } = await import("/static/vendor/regl-programs.js");
  return Object.entries(programs).map(([key, program]) => [key, program.toString()]);
}"""


def bundle(work: Path) -> None:
    """Write the library and its licences."""
    subprocess.run(["npm", "install", "--no-save", "--prefix", work, *PACKAGES], check=True)
    (work / "entry.js").write_text(ENTRY)
    esbuild(work, "entry.js", *BUNDLE, f"--outfile={VENDOR / 'regl-scatterplot.js'}")
    texts = []
    for file in sorted((work / "node_modules").glob("**/LICENSE*")):
        name = file.parent.relative_to(work / "node_modules")
        if "esbuild" not in str(name) and str(name) != "regl":  # they are not in it
            texts.append(f"{name}\n\n{file.read_text().strip()}\n")
    (VENDOR / "LICENSES.txt").write_text(f"\n{'-' * 72}\n\n".join(texts))


def esbuild(work: Path, *arguments: str) -> None:
    subprocess.run([work / "node_modules/.bin/esbuild", *arguments], cwd=work, check=True)


def programs(page: Page, address: str) -> list[tuple[str, str]]:
    """Return the functions that regl writes for the map, by the SHA-256 of their text. The page has no policy."""
    page.route(
        "**/regl-programs.js", lambda route: route.fulfill(body="export default {};", content_type="text/javascript")
    )
    page.goto(f"{address}/#/map")
    page.locator("#map-about").filter(has_text="images").wait_for()
    return sorted((key, text) for key, text in page.evaluate(WRITTEN))


def main() -> None:
    """Write all files."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        bundle(work)
        build(work / "images", kind="pca")
        with served("--bundle", str(work / "images" / "bundle")) as server, chromium() as browser:
            found = programs(browser.new_context(bypass_csp=True).new_page(), server.address)
        lines = ",\n".join(f'"{key}": {text}' for key, text in found)
        (work / "programs.js").write_text(f"export default {{\n{lines}\n}};\n")
        esbuild(work, "programs.js", "--minify", f"--outfile={VENDOR / 'regl-programs.js'}")
        shutil.rmtree(work / "node_modules")


if __name__ == "__main__":
    main()
