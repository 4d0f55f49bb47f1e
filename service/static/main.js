// The page at /: what the address says is what it shows.

import { address, go, parsed } from "./address.js";
import { describe } from "./answer.js";
import { ask, askRandom, askWith } from "./ask.js";
import * as browsing from "./browse.js";
import { choices, choose, forget } from "./labels.js";
import * as mapping from "./map.js";
import { say } from "./notices.js";
import { json, leave } from "./service.js";
import { listen as listenForImages } from "./take.js";
import { element } from "./words.js";

const VIEWS = ["search", "browse", "map"];

async function follow() {
  const wanted = parsed();
  leave(); // a late answer to what was asked before would say something else than the address
  const changed = show(wanted.view);
  if (wanted.view === "browse") await browsing.browse(wanted);
  else if (wanted.view === "map") await mapping.map(wanted);
  else if (wanted.kind === null) await askRandom(true); // replaces, else the back button would lead back here
  else await search(wanted);
  if (changed && document.activeElement === document.body) element(`${wanted.view}-title`).focus(); // what had it is hidden
}

async function search(wanted) {
  const { k, exactness, label } = wanted.settings;
  choose(element("k"), k);
  element("exactness").value = exactness;
  choices(element("among"), "all labels").then(() => choose(element("among"), label)).catch(() => {});
  await ask(wanted);
}

/** Show one of the views. Returns whether another one was shown before. */
function show(view) {
  const before = VIEWS.find((name) => !element(name).hidden);
  for (const name of VIEWS) {
    element(name).hidden = name !== view;
    const link = document.querySelector(`nav a[data-view=${name}]`);
    if (name === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  return before !== undefined && before !== view;
}

/** Say what is served. Without it the page still works. */
function about() {
  forget();
  json("version").then(({ generation, model }) => describe(generation, model.weights)).catch(() => {});
}

async function copyAddress() {
  try {
    await navigator.clipboard.writeText(location.href);
    element("share").textContent = "Link copied";
    say("Link copied");
    setTimeout(() => (element("share").textContent = "Copy link"), 2000);
  } catch {
    say("The browser does not let the page copy: the link is in the address bar");
  }
}

element("random").addEventListener("click", () => askRandom());
element("share").addEventListener("click", copyAddress);
for (const name of ["k", "exactness"]) element(name).addEventListener("change", ({ target }) => askWith({ [name]: target.value }));
element("among").addEventListener("change", ({ target }) => askWith({ label: target.value }));
document.querySelector("nav a[data-view=search]").addEventListener("click", (event) => {
  if (parsed().view === "search" || !lastSearch) return;
  event.preventDefault();
  go(lastSearch); // back to the answer, not to another image
});

let lastSearch = null;
addEventListener("hashchange", () => {
  if (parsed().view === "search" && parsed().kind) lastSearch = location.hash || address("");
  follow();
});

browsing.listen();
listenForImages();
about();
addEventListener("generation", about); // the service has swapped its index
if (parsed().view === "search" && parsed().kind) lastSearch = location.hash;
follow();
