// Elements, and numbers and texts as the page shows them.

export const element = (id) => document.getElementById(id);
export const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 2 });
export const number = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
export const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
export const whole = new Intl.NumberFormat("en");

export function made(name, style = "", ...children) {
  const node = document.createElement(name);
  node.className = style;
  node.append(...children);
  return node;
}

/** Make one list item for each thing. Items that are there are reused, so that focus stays and bars glide. */
export function fill(list, things, make, update) {
  while (list.children.length > things.length) list.lastChild.remove();
  while (list.children.length < things.length) list.append(make());
  things.forEach((thing, i) => update(list.children[i], thing));
}

/** The last part of a path. */
export function file(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

export function sentence(text) {
  return text && text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

export function plural(count, word) {
  return `${whole.format(count)} ${word}${count === 1 ? "" : "s"}`;
}
