// The collection, a page at a time, whole or one label.

import { address, go } from "./address.js";
import { choices, choose } from "./labels.js";
import { calm, complain, say } from "./notices.js";
import { during, json, showImage } from "./service.js";
import { element, file, made, plural, whole } from "./words.js";

const PAGE = 60; // images

let shown = null; // { label, next, failed }: what is in the grid, and whether the page after it did not come

export function listen() {
  element("browse-label").addEventListener("change", ({ target }) => go(address("browse", { label: target.value })));
  element("more").addEventListener("click", () => more());
  addEventListener("generation", () => (shown = null)); // the collection is another one
}

export async function browse({ settings: { label } }) {
  calm();
  document.title = "Browse · fc7";
  choices(element("browse-label"), "All labels").then(() => choose(element("browse-label"), label)).catch(complain);
  if (shown?.label === label && element("grid").children.length) {
    if (shown.failed) await more();
    return; // as it was left
  }
  shown = { label, next: null };
  element("grid").replaceChildren();
  element("more").hidden = true;
  await more();
}

async function more() {
  const before = shown;
  const { label, next } = before;
  before.failed = !(await during(element("grid"), async (signal) => {
    const query = new URLSearchParams({ limit: PAGE, ...(label && { label }), ...(next !== null && { after: next }) });
    const page = await json(`images?${query}`, { signal });
    const first = element("grid").children.length;
    element("grid").append(...page.images.map(item));
    shown = { label, next: page.next };
    element("more").hidden = page.next === null;
    const count = element("grid").children.length;
    element("browse-count").textContent = `${whole.format(count)} of ${plural(page.total, "image")}`;
    say(`${whole.format(count)} of ${plural(page.total, "image")}.`);
    if (first) element("grid").children[first]?.firstChild.focus(); // the button was at the end: go on there
  }));
}

function item({ image_id: imageId, name, label, thumbnail }) {
  const image = made("img");
  image.alt = `${label ?? file(name)}, image ${imageId}`;
  image.loading = "lazy";
  showImage(image, thumbnail);
  const link = made("a", "tile", image);
  link.href = address(`image/${imageId}`);
  link.title = name;
  return made("li", "", link);
}
