// The plot of the map: regl-scatterplot, which draws with WebGL.
//
// regl writes functions as text while it runs, which the page's policy forbids, and takes ready ones in their place:
// vendor/regl-programs.js has them by the text's SHA-256. The text is the same on every device: @plotly/regl, unlike
// regl, sorts what a driver lists, and lets no number of the device into it.

import { createRegl, createRenderer, createScatterplot } from "./vendor/regl-scatterplot.js";
import programs from "./vendor/regl-programs.js";

const EXTENSIONS = ["OES_texture_float", "OES_element_index_uint", "WEBGL_color_buffer_float", "EXT_float_blend"];
const TEN = ["#3f77b5", "#d9772b", "#4d9a4f", "#c4473f", "#8463ac", "#8a5f4d", "#cf6fae", "#7a7f87", "#a99a24", "#2f9fad"];
const TEN_DARK = ["#6ea3dd", "#f09a55", "#74c476", "#ec7770", "#ab8cd2", "#b98c79", "#ea97cf", "#a9adb5", "#cfc04d", "#5cc8d6"];

/** Return the colours of `count` labels, and behind them that of images without one. */
export function colours(count, dark) {
  const [few, saturation, lightness] = dark ? [TEN_DARK, 0.6, 0.66] : [TEN, 0.55, 0.45];
  const named = count <= few.length ? few.slice(0, count)
    : Array.from({ length: count }, (_, i) => hex((i * 137.508) % 360, saturation, lightness + 0.1 * ((i % 3) - 1)));
  return [...named, dark ? "#8d8f94" : "#85888e"];
}

function hex(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    const value = lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value).toString(16).padStart(2, "0");
  };
  return `#${part(0)}${part(8)}${part(4)}`;
}

const MARGIN = 1.06; // around the points, when all are shown

/** Show all points, whose x and y are -1 ... 1. */
export function showAll(plot, canvas, options) {
  if (!canvas.clientWidth) return null; // it is hidden
  const distance = MARGIN * Math.max(1, canvas.clientHeight / canvas.clientWidth);
  return plot.zoomToLocation([0, 0], distance, options);
}

/** Make the plot on a canvas, without points. Throws where WebGL is missing. */
export function createPlot(canvas, options) {
  const drawing = document.createElement("canvas");
  const gl = drawing.getContext("webgl", { antialias: false, preserveDrawingBuffer: true });
  if (!gl) throw new Error("This browser draws no WebGL, which the map needs");
  const extensions = EXTENSIONS.filter((name) => gl.getExtension(name));
  if (extensions.length < EXTENSIONS.length) throw new Error("This device's WebGL is too old for the map");
  const regl = createRegl({ gl, extensions, cachedCode: programs });
  const renderer = createRenderer({ regl, canvas: drawing });
  const fixed = { actionKeyMap: {}, deselectOnDblClick: false, spatialIndexUseWorker: false }; // the policy forbids its worker
  const plot = createScatterplot({ canvas, renderer, ...fixed, ...options });
  new ResizeObserver(() => {
    if (!canvas.clientWidth) return; // the view is hidden
    renderer.resize(canvas.clientWidth, canvas.clientHeight);
    renderer.refresh();
    plot.set({ width: "auto", height: "auto" });
  }).observe(canvas);
  return plot;
}
