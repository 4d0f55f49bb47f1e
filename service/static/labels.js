// The labels of the collection, as choices.

import { json } from "./service.js";
import { made, whole } from "./words.js";

const PAGES = 20; // of a thousand labels: more than that is no list to choose from

let known = null; // a promise of [{ label, images }]

/** The collection is another one: read them again when they are wanted. */
export function forget() {
  known = null;
}

export function labels() {
  known ??= all().catch((error) => {
    known = null; // so that it is asked again
    throw error;
  });
  return known;
}

async function all() {
  const found = [];
  let page = { next: "" };
  for (let count = 0; page.next !== null && count < PAGES; count += 1) {
    page = await json(`labels?limit=1000${count ? `&after=${encodeURIComponent(page.next)}` : ""}`);
    found.push(...page.labels);
  }
  return found;
}

/** Fill a <select> with the labels; without any it is hidden with its own label. */
export async function choices(select, everything) {
  const found = await labels();
  if (select.known !== found) {
    select.known = found;
    select.replaceChildren(new Option(everything, ""), ...found.map(({ label, images }) => new Option(`${label} (${whole.format(images)})`, label)));
  }
  select.closest("label").hidden = !found.length;
}

/** Choose a label, also one that the collection does not have: the service says so. */
export function choose(select, label) {
  if (![...select.options].some((option) => option.value === label)) select.append(made("option", "", label));
  select.value = label;
}
