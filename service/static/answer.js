// The answer to a question: five labels as bars, and the nearest images. An image without a label goes by its file's
// name, with what the network sees in it.

import { address, settings } from "./address.js";
import { say } from "./notices.js";
import { showImage } from "./service.js";
import { element, file, fill, made, number, percent, plural, share, short, whole } from "./words.js";

const LABELS = 5;
const STAGES = { read: "receiving", decode: "decoding", queue: "waiting", forward: "network", search: "search", rerank: "distances" };

let described = null; // the generation that the page speaks of

/** Show an answer. question: { kind, id, k, settings, image, file }; took: milliseconds and the Server-Timing header. */
export function show(answer, question, took) {
  const own = question.kind === "image" ? question.id : null;
  const best = answer.predictions.slice(0, LABELS);
  const near = answer.neighbours.filter((found) => found.image_id !== own).slice(0, question.k);
  const self = answer.neighbours.find((found) => found.image_id === own);
  showSubject(answer, question, self?.thumbnail);
  fill(element("bars"), best, bar, (row, prediction) => {
    row.classList.toggle("true", prediction.label === answer.true_label);
    row.querySelector(".label").textContent = prediction.label;
    row.querySelector(".share").textContent = percent.format(prediction.probability);
    row.querySelector(".bar").style.setProperty("--share", prediction.probability);
  });
  fill(element("tiles"), near, tile, showTile);
  element("none").hidden = near.length > 0;
  element("proof").textContent = proof(answer, question.settings.label);
  element("time").textContent = time(took);
  element("time").title = stages(took);
  element("answer").hidden = false;
  if (described !== null && described !== answer.generation) dispatchEvent(new Event("generation"));
  document.title = `${best[0].label} · fc7`;
  const looked = near.length ? `Nearest: ${counted(near)}.` : "No other image to compare.";
  say(`${best[0].label}, ${percent.format(best[0].probability)}. ${looked}`);
}

function showSubject({ name, true_label: label }, { kind, id, image, file: own }, thumbnail) {
  const called = label ?? file(name ?? "");
  showImage(element("image"), thumbnail ?? image);
  element("image").alt = `the image you asked about${called && `: ${called}`}`;
  element("image").title = name ?? own ?? "";
  const caption = label ? ["Label: ", made("b", "", label)] : [made("span", "name", called)];
  element("truth").replaceChildren(...caption);
  element("share").hidden = element("on-map").hidden = kind !== "image";
  element("unshared").hidden = kind === "image";
  element("on-map").href = address(`map/${id}`);
}

function showTile(row, found) {
  const { label, name, names, names_count: count, predicted } = found;
  const link = row.firstChild;
  link.dataset.imageId = found.image_id;
  link.href = address(`image/${found.image_id}`, settings());
  link.title = [...names, ...(count > names.length ? [`and ${whole.format(count - names.length)} more`] : [])].join("\n");
  showImage(row.querySelector("img"), found.thumbnail);
  row.querySelector("img").alt = row.querySelector(".label").textContent = label ?? file(name);
  row.querySelector(".label").classList.toggle("name", !label);
  row.querySelector(".said").textContent =
    label === predicted.label ? "" : `${predicted.label} ${percent.format(predicted.probability)}`;
  row.querySelector(".more").textContent = count > 1 ? `${whole.format(count)} files` : "";
  row.querySelector(".distance").textContent = `distance ${number.format(found.distance)}`;
}

/** How sure it is that these images are the nearest, in words. */
function proof({ exactness, recall }, label) {
  const which = label ? `with the label ${label}` : "of the collection";
  if (exactness === "certified") return `Proven: no image ${which} is nearer.`;
  if (exactness === "exact") return `Compared with every image ${which}: none is nearer.`;
  const { value, low, high, k } = recall;
  const interval = `95% interval: ${share.format(low)} to ${share.format(high)}`;
  return `Not proven: such answers hold ${share.format(value)} of the true ${k} nearest, on average (${interval}).`;
}

/** "Answered in 23 ms, 12 of them in the service." */
function time({ total, stages: header }) {
  const inside = Number(/total;dur=([\d.]+)/.exec(header)?.[1]);
  const there = inside ? `, ${short.format(inside)} of them in the service` : "";
  return `Answered in ${short.format(total)} ms${there}.`;
}

/** "decoding 1.2 ms, network 2.3 ms, ..." */
function stages({ stages: header }) {
  return [...header.matchAll(/(\w+);dur=([\d.]+)/g)]
    .filter(([, name]) => name in STAGES)
    .map(([, name, taken]) => `${STAGES[name]} ${short.format(taken)} ms`)
    .join(", ");
}

/** "4 frog, 2 deer": by label, and images without one by what the network sees in them. */
function counted(near) {
  const counts = new Map();
  for (const { label, predicted } of near) {
    const words = label ?? `seen as ${predicted.label}`;
    counts.set(words, (counts.get(words) ?? 0) + 1);
  }
  return [...counts].map(([words, count]) => `${count} ${words}`).join(", ");
}

function bar() {
  const track = made("span", "track", made("span", "bar"));
  track.setAttribute("aria-hidden", "true");
  return made("li", "", made("span", "label"), made("span", "share"), track);
}

function tile() {
  const label = made("span", "label");
  label.setAttribute("aria-hidden", "true"); // the image's alt says it
  const parts = [made("img"), label, made("span", "more"), made("span", "said"), made("span", "distance")];
  return made("li", "", made("a", "tile", ...parts));
}

/** Say how many images there are, and which answers can be had. */
export function describe({ images, number: generation, recall }, weights) {
  described = generation;
  element("near-title").textContent = `Nearest of ${plural(images, "image")}`;
  element("exactness").closest("label").hidden = !recall.measured;
  element("about").textContent = `Generation ${generation}, network ${weights.slice(0, 12)}`;
}
