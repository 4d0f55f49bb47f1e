// The page at /: sends an image to /neighbours and shows five labels as bars and the six nearest images. An image without a
// label goes by its file's name, with what the network sees in it.
// The id of an indexed image is in the address (#29), so the browser's back button works.

const SHOWN = 6;
const LABELS = 5;
const TRIES = 60; // requests, a second apart, while the service is loading or busy

const element = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const number = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
const share = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat("en");

let newest = new AbortController(); // a new question aborts the one before it
let exactness = "certified"; // what is asked for
let again = () => {}; // asks the last question once more
let uploaded = null; // object URL of the uploaded image that is shown

// Asking

async function askFile(file) {
  const form = new FormData();
  form.append("file", file);
  form.append("k", SHOWN);
  again = () => askFile(file);
  if (location.hash) history.pushState(null, "", location.pathname);
  const address = URL.createObjectURL(file);
  if (await ask(form, address)) {
    if (uploaded) URL.revokeObjectURL(uploaded);
    uploaded = address;
  } else {
    URL.revokeObjectURL(address);
  }
}

async function askIndexed(imageId) {
  const form = new FormData();
  form.append("image_id", imageId);
  form.append("k", SHOWN + 1); // one more, because the image finds itself
  again = () => askIndexed(imageId);
  await ask(form, `/images/${imageId}`, Number(imageId));
}

async function askRandom(remember) {
  await during(async (signal) => {
    const image = await answerOf("images/random", { signal });
    go(image.image_id, remember);
  });
}

/** Ask about an image; `address` shows it. Resolves to true when the answer was shown. */
function ask(form, address, imageId = null) {
  form.append("exactness", exactness);
  return during(async (signal) => {
    const answer = await answerOf("neighbours", { method: "POST", body: form, signal });
    show(answer, address, imageId);
  });
}

/** Run one question. The latest one wins; an error is shown in words. */
async function during(question) {
  newest.abort();
  const mine = (newest = new AbortController());
  element("answer").setAttribute("aria-busy", "true");
  element("problem").hidden = true;
  say("Looking …");
  try {
    await question(mine.signal);
    return true;
  } catch (error) {
    if (mine === newest) complain(error);
    return false;
  } finally {
    if (mine === newest) element("answer").setAttribute("aria-busy", "false");
  }
}

/** Resolves to a route's JSON. A problem+json answer is thrown as an Error with its title and detail. */
async function answerOf(route, options, tries = TRIES) {
  let response;
  try {
    response = await fetch(route, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The service cannot be reached. Is it running?"), { title: "No answer" });
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const seconds = response.headers.get("Retry-After"); // null where waiting would not help
  if (response.status === 503 && seconds && tries > 0) {
    say(sentence(body.detail ?? "The service is busy"), true);
    await pause(Number(seconds), options.signal);
    return answerOf(route, options, tries - 1);
  }
  throw Object.assign(new Error(body.detail ?? ""), { title: body.title ?? `Error ${response.status}` });
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

// Showing

function show(answer, address, imageId) {
  const best = answer.predictions.slice(0, LABELS);
  const near = answer.neighbours.filter((found) => found.image_id !== imageId).slice(0, SHOWN);
  const self = answer.neighbours.find((found) => found.image_id === imageId);
  const { name, true_label: label } = answer; // null for an uploaded image
  const called = label ?? file(name ?? "");
  showImage(element("image"), self?.thumbnail ?? address);
  element("image").alt = `the image you asked about${called && `: ${called}`}`;
  element("image").title = name ?? "";
  element("truth").replaceChildren(...(label ? ["Label: ", made("b", "", label)] : [made("span", "name", called)]));
  fill(element("bars"), best, bar, (row, prediction) => {
    row.classList.toggle("true", prediction.label === label);
    row.querySelector(".label").textContent = prediction.label;
    row.querySelector(".share").textContent = percent.format(prediction.probability);
    row.querySelector(".bar").style.setProperty("--share", prediction.probability);
  });
  fill(element("tiles"), near, tile, (row, found) => {
    const { label, name, names, names_count: count, predicted } = found;
    row.firstChild.dataset.imageId = found.image_id;
    row.firstChild.title = [...names, ...(count > names.length ? [`and ${whole.format(count - names.length)} more`] : [])].join("\n");
    showImage(row.querySelector("img"), found.thumbnail);
    row.querySelector("img").alt = row.querySelector(".label").textContent = label ?? file(name);
    row.querySelector(".label").classList.toggle("name", !label);
    row.querySelector(".said").textContent =
      label === predicted.label ? "" : `${predicted.label} ${percent.format(predicted.probability)}`;
    row.querySelector(".more").textContent = count > 1 ? `${whole.format(count)} files` : "";
    row.querySelector(".distance").textContent = `distance ${number.format(found.distance)}`;
  });
  element("proof").textContent = proof(answer);
  element("answer").hidden = false;
  document.title = `${best[0].label} · fc7`;
  say(`${best[0].label}, ${percent.format(best[0].probability)}. Nearest: ${counted(near)}.`);
}

/** How sure it is that these images are the nearest, in words. */
function proof({ exactness, recall }) {
  if (exactness === "certified") return "Proven: no image of the collection is nearer.";
  if (exactness === "exact") return "Compared with every image of the collection: none is nearer.";
  const { value, low, high, k } = recall;
  const interval = `95% interval: ${share.format(low)} to ${share.format(high)}`;
  return `Not proven: such answers hold ${share.format(value)} of the true ${k} nearest, on average (${interval}).`;
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

/** The last part of a path. */
function file(path) {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Make one list item for each thing. Items that are there are reused, so that focus stays and bars glide. */
function fill(list, things, make, update) {
  while (list.children.length > things.length) list.lastChild.remove();
  while (list.children.length < things.length) list.append(make());
  things.forEach((thing, i) => update(list.children[i], thing));
}

function bar() {
  const track = made("span", "track", made("span", "bar"));
  track.setAttribute("aria-hidden", "true");
  return made("li", "", made("span", "label"), made("span", "share"), track);
}

function tile() {
  const label = made("span", "label");
  label.setAttribute("aria-hidden", "true"); // the image's alt says it
  const button = made("button", "tile", made("img"), label, made("span", "more"), made("span", "said"), made("span", "distance"));
  button.type = "button";
  button.addEventListener("click", () => go(button.dataset.imageId, "pushState"));
  return made("li", "", button);
}

function made(name, style = "", ...children) {
  const node = document.createElement(name);
  node.className = style;
  node.append(...children);
  return node;
}

/** Show an image, and the pixels of a small one sharp. */
function showImage(image, address) {
  image.onload = () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 64);
  image.src = address;
}

/** Say something to a screen reader, and with `seen` also on the page. */
function say(words, seen = false) {
  element("status").textContent = words;
  element("status").classList.toggle("heard", !seen);
}

function complain(error) {
  const title = made("strong", "", error.title ?? "Something went wrong");
  element("problem").replaceChildren(title, sentence(error.message));
  element("problem").hidden = false;
  say("");
}

function sentence(text) {
  return text && text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** Offer the answer that was not asked for. */
function offer() {
  element("other").textContent = exactness === "certified" ? "Ask for the quickest answer" : "Ask for a proven answer";
}

async function about() {
  const version = await answerOf("version", { signal: new AbortController().signal });
  const { images, number: generation, recall } = version.generation;
  element("near-title").textContent = `Nearest of ${whole.format(images)} images`;
  element("other").hidden = !recall.measured;
  element("about").textContent = `Generation ${generation}, network ${version.model.weights.slice(0, 12)}`;
}

// Events

function go(imageId, remember) {
  history[remember](null, "", `#${imageId}`);
  follow();
}

function follow() {
  const imageId = location.hash.slice(1);
  if (/^\d+$/.test(imageId)) askIndexed(imageId);
  else askRandom("replaceState"); // replace, else the back button would lead back here
}

element("random").addEventListener("click", () => askRandom("pushState"));
element("other").addEventListener("click", () => {
  exactness = exactness === "certified" ? "measured" : "certified";
  offer();
  again();
});
element("file").addEventListener("change", ({ target }) => {
  if (target.files.length) askFile(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) document.body.classList.remove("dragging");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const [file] = event.dataTransfer.files;
  if (file) askFile(file);
});
addEventListener("paste", ({ clipboardData }) => {
  const [file] = clipboardData.files;
  if (file) askFile(file);
});
addEventListener("popstate", follow);

offer();
about().catch(() => {}); // without the footer's line the page still works
follow();
