// Requests to the service: with its key where it wants one, and again while it is busy.

import { complain, countdown, keyFromUser } from "./notices.js";

const TRIES = 60; // of one request, while the service is loading or busy
const BUSY = [429, 503];

let key = sessionStorage.getItem("key"); // of this tab; nothing is kept when it is closed

/** Resolves to the answer of a route. A problem+json answer is thrown as an Error with its title and detail. */
export async function asked(route, options = {}, tries = TRIES) {
  const headers = key ? { ...options.headers, Authorization: `Bearer ${key}` } : options.headers;
  let response;
  try {
    response = await fetch(route, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The service cannot be reached. Is it running?"), { title: "No answer" });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const seconds = response.headers.get("Retry-After"); // null where waiting would not help
  if (response.status === 401) {
    key = await keyFromUser(problem.detail ?? "This service asks for a key");
    sessionStorage.setItem("key", key);
    return asked(route, options, tries);
  }
  if (BUSY.includes(response.status) && seconds && tries > 0) {
    await countdown(problem.detail ?? "The service is busy", Number(seconds), options.signal);
    return asked(route, options, tries - 1);
  }
  const title = problem.title ?? `Error ${response.status}`;
  throw Object.assign(new Error(problem.detail ?? ""), { title, status: response.status });
}

/** Resolves to the JSON of a route's answer. */
export async function json(route, options) {
  return (await asked(route, options)).json();
}

/** Show an image of the service or a blob, and the pixels of a small one sharp. An image itself can send no key. */
export async function showImage(image, address) {
  image.onload = () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 64);
  if (!key || address.startsWith("blob:")) {
    if (image.getAttribute("src") !== address) image.src = address;
    return;
  }
  image.dataset.address = address;
  const response = await asked(address).catch(() => null);
  if (!response || image.dataset.address !== address) return; // another one is wanted meanwhile
  const blob = URL.createObjectURL(await response.blob());
  image.addEventListener("load", () => URL.revokeObjectURL(blob), { once: true });
  image.src = blob;
}

let newest = new AbortController(); // a new question aborts the one before it

/** Run one question: the latest wins, `region` is busy meanwhile, a problem is shown. Resolves to whether it worked. */
export async function during(region, question) {
  newest.abort();
  const mine = (newest = new AbortController());
  region.setAttribute("aria-busy", "true");
  try {
    await question(mine.signal);
    return true;
  } catch (error) {
    const again = ["Try again", () => dispatchEvent(new Event("hashchange"))];
    if (mine === newest) complain(error, error.status < 500 ? null : again); // what was refused will be again
    return false;
  } finally {
    if (mine === newest) region.setAttribute("aria-busy", "false");
  }
}
