// The map: every image of the collection as a point. Pan and zoom; a click, or Enter, searches from an image.

import { address, go, parsed, settings } from "./address.js";
import { legend } from "./legend.js";
import { placeOf, towards, unpacked, UNLABELLED } from "./mapdata.js";
import { calm, complain, say } from "./notices.js";
import { asked, during, showImage } from "./service.js";
import { element, plural } from "./words.js";

const KINDS = {
  pca: "laid out by the two directions in which embeddings differ most (PCA)",
  umap: "laid out so that near neighbours lie together (UMAP)",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const ZOOM = 0.6; // of the distance, with one press
const GLIDE = { transition: true, transitionDuration: 200 };
const dark = matchMedia("(prefers-color-scheme: dark)");

let tools = null; // plot.js and what it imports: 400 kB that the other views do not need
let plot = null; // regl-scatterplot
let drawn = null; // { tag, head, ids, x, y, label }: what is on it
let at = -1; // the point that is shown by the card
let hidden = new Set(); // places of labels that are not shown

export async function map({ id }) {
  calm();
  document.title = "Map · fc7";
  await during(element("map-body"), async (signal) => {
    const response = await asked("map", { signal });
    const tag = response.headers.get("ETag");
    tools ??= await import("./plot.js");
    if (drawn?.tag !== tag) await draw({ tag, ...unpacked(await response.arrayBuffer()) }, signal);
    if (id !== null) point(placeOf(drawn.ids, Number(id)));
  });
}

async function draw(wanted, signal) {
  element("map-body").hidden = false;
  plot ??= created();
  signal.throwIfAborted(); // another view is shown by now, and a hidden canvas cannot be drawn on
  drawn = null;
  at = -1;
  const { head, x, y, label } = wanted;
  const place = Float32Array.from(label, (of) => Math.min(of, head.labels.length));
  const counts = new Array(head.labels.length + 1).fill(0);
  for (const of of place) counts[of] += 1;
  dress(head);
  signal.throwIfAborted();
  await plot.draw({ x, y, valueA: place }, { zDataType: "categorical" });
  signal.throwIfAborted();
  drawn = wanted;
  await all();
  element("map-about").textContent = `${plural(head.images, "image")}, ${KINDS[head.kind] ?? head.kind}.`;
  const colour = tools.colours(head.labels.length, dark.matches);
  const names = [...head.labels, ...(counts.at(-1) ? ["without a label"] : [])];
  legend(names.map((words, i) => ({ words, images: counts[i], colour: colour[i] })), (chosen) => filter(chosen, place));
  say(`${plural(head.images, "image")} on the map.`);
}

function created() {
  try {
    const made = tools.createPlot(element("canvas"), { pointSizeSelected: 6, pointOutlineWidth: 3, opacityInactiveMax: 1 });
    made.subscribe("pointover", (i) => card(i));
    made.subscribe("pointout", () => card(-1));
    made.subscribe("select", ({ points: [i] }) => search(i));
    return made;
  } catch (error) {
    element("map-body").hidden = true;
    const more = `${error.message}. Browse shows the same images`;
    throw Object.assign(new Error(more, { cause: error }), { title: "No map here" });
  }
}

/** Give the plot the page's colours, and points that fit their number. */
function dress({ images: n, labels }) {
  const style = getComputedStyle(document.documentElement);
  plot.set({
    backgroundColor: style.getPropertyValue("--sheet").trim(),
    colorBy: "valueA",
    pointColor: tools.colours(labels.length, dark.matches),
    pointColorActive: style.getPropertyValue("--ink").trim(),
    pointColorHover: style.getPropertyValue("--ink").trim(),
    pointSize: n > 20_000 ? 2.5 : n > 3_000 ? 4 : 7,
    opacity: n > 20_000 ? 0.6 : 0.8,
  });
}

function filter(chosen, place) {
  const shown = chosen.size ? [...drawn.ids.keys()].filter((i) => chosen.has(place[i])) : null;
  hidden = new Set(chosen.size ? [...Array(drawn.head.labels.length + 1).keys()].filter((of) => !chosen.has(of)) : []);
  if (shown) plot.filter(shown);
  else plot.unfilter();
  card(-1);
}

const isShown = (i) => !hidden.has(Math.min(drawn.label[i], drawn.head.labels.length));

function search(i) {
  plot.deselect({ preventEvent: true });
  go(address(`image/${drawn.ids[i]}`, settings()));
}

/** Show the thumbnail of a point beside it; -1 shows none. */
function card(i) {
  at = i;
  const box = element("card");
  const [x, y] = (i >= 0 && plot.getScreenPosition(i)) || [];
  box.hidden = element("spot").hidden = x === undefined;
  if (box.hidden) return;
  const { clientWidth, clientHeight } = element("canvas");
  for (const { style } of [box, element("spot")]) {
    style.setProperty("left", `${x}px`);
    style.setProperty("top", `${y}px`);
  }
  box.classList.toggle("left", x > clientWidth / 2);
  box.classList.toggle("above", y > clientHeight / 2);
  showImage(element("card-image"), `/images/${drawn.ids[i]}`);
  element("card-label").textContent = nameOf(i);
}

function nameOf(i) {
  return drawn.label[i] === UNLABELLED ? `image ${drawn.ids[i]}` : `${drawn.head.labels[drawn.label[i]]}, image ${drawn.ids[i]}`;
}

/** Go to a point: move there if it is out of sight, and say what it is. */
async function point(i) {
  if (i < 0) return complain(Object.assign(new Error("This image is not on the map"), { title: "No such image" }));
  const [x, y] = plot.getScreenPosition(i) ?? [-1, -1];
  const { clientWidth, clientHeight } = element("canvas");
  if (x < 0 || y < 0 || x > clientWidth || y > clientHeight) {
    await plot.zoomToLocation([drawn.x[i], drawn.y[i]], plot.get("cameraDistance"));
  }
  plot.hover(i, { preventEvent: true });
  card(i);
  say(`${nameOf(i)}. Enter searches from it.`);
}

function zoom(factor) {
  return plot?.zoomToLocation(plot.get("cameraTarget"), factor * plot.get("cameraDistance"), GLIDE);
}

function all(options) {
  return plot && tools.showAll(plot, element("canvas"), options);
}

function pressed(event) {
  if (!drawn || event.ctrlKey || event.metaKey || event.altKey) return;
  const direction = ARROWS[event.key];
  if (direction) point(next(direction));
  else if (event.key === "Enter" && at >= 0) search(at);
  else if (event.key === "+" || event.key === "=") zoom(ZOOM);
  else if (event.key === "-") zoom(1 / ZOOM);
  else if (event.key === "0") all(GLIDE);
  else return;
  event.preventDefault();
}

/** The image in this direction, at first the one nearest to the middle; where there is no further one, the same. */
function next([dx, dy]) {
  if (at >= 0) {
    const found = towards(drawn, at, dx, dy, isShown);
    return found < 0 ? at : found;
  }
  const [x, y] = plot.get("cameraTarget");
  const away = (i) => (drawn.x[i] - x) ** 2 + (drawn.y[i] - y) ** 2;
  return [...drawn.ids.keys()].filter(isShown).reduce((best, i) => (away(i) < away(best) ? i : best));
}

element("canvas").addEventListener("keydown", pressed);
element("canvas").addEventListener("blur", () => plot && card(-1));
dark.addEventListener("change", () => {
  drawn = null; // it has the colours of the other scheme
  if (parsed().view === "map") map(parsed());
});
element("zoom-in").addEventListener("click", () => zoom(ZOOM));
element("zoom-out").addEventListener("click", () => zoom(1 / ZOOM));
element("zoom-all").addEventListener("click", () => all(GLIDE));
