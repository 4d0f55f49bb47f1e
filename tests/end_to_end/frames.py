"""How many frames a second the map draws while it is dragged: python -m tests.end_to_end.frames ADDRESS

ADDRESS: of a service whose bundle has a map. Without a GPU the browser draws by SwiftShader, on the processor.
"""

import json
import sys

from tests.end_to_end.chromium import chromium

DRAGGED = """async (frames) => {
  const canvas = document.getElementById("canvas");
  const { x, y } = canvas.getBoundingClientRect();
  const mouse = (type, dx, dy, buttons) => canvas.dispatchEvent(
    new MouseEvent(type, { clientX: x + dx, clientY: y + dy, bubbles: true, buttons, view: window }));
  const times = [];
  mouse("mousemove", 300, 300, 0);
  mouse("mousedown", 300, 300, 1);
  await new Promise((done) => {
    const step = (time) => {
      times.push(time);
      mouse("mousemove", 300 + 120 * Math.sin(times.length / 20), 300 + 80 * Math.cos(times.length / 17), 1);
      if (times.length > frames) done();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  });
  mouse("mouseup", 300, 300, 0);
  const gaps = times.slice(1).map((time, i) => time - times[i]).sort((a, b) => a - b);
  const gl = document.createElement("canvas").getContext("webgl");
  const by = gl.getParameter(gl.getExtension("WEBGL_debug_renderer_info").UNMASKED_RENDERER_WEBGL);
  return { by, frames, median_ms: gaps[gaps.length >> 1], p95_ms: gaps[Math.floor(0.95 * gaps.length)] };
}"""


def main(address: str) -> None:
    """Write a line of JSON: the times between frames, the third of three runs."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{address.rstrip('/')}/#/map")
        page.locator("#map-about").filter(has_text="images").wait_for()
        *_, last = [page.evaluate(DRAGGED, 300) for _ in range(3)]
        sys.stdout.write(json.dumps({"images": page.locator("#map-about").inner_text(), **last}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
