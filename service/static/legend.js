// The legend of the map: a button for each label, which shows its images alone; further ones add theirs.

import { element, fill, made, whole } from "./words.js";

/** Fill it. labels: [{ words, images, colour }], changed: called with the set of chosen places; empty is all. */
export function legend(labels, changed) {
  const chosen = new Set();
  const update = () => {
    for (const [place, item] of [...element("legend").children].entries()) {
      item.firstChild.setAttribute("aria-pressed", String(chosen.has(place)));
    }
    element("legend").classList.toggle("some", chosen.size > 0);
    element("legend-all").hidden = !chosen.size;
    changed(chosen);
  };
  fill(element("legend"), labels, item, (row, { words, images, colour }) => {
    row.querySelector(".colour").style.setProperty("background", colour);
    row.querySelector(".words").textContent = words;
    row.querySelector(".count").textContent = whole.format(images);
  });
  for (const [place, row] of [...element("legend").children].entries()) {
    row.firstChild.onclick = () => {
      if (!chosen.delete(place)) chosen.add(place);
      update();
    };
  }
  element("legend-all").onclick = () => {
    chosen.clear();
    update();
    element("legend").querySelector("button")?.focus(); // the button itself goes
  };
  update();
}

function item() {
  const button = made("button", "", made("span", "colour"), made("span", "words"), made("span", "count"));
  button.type = "button";
  return made("li", "", button);
}
