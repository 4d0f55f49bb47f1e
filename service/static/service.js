// Requests to the service: with its key where it wants one, and again while it is busy.

import { complain, countdown, keyFromUser, pause } from "./notices.js";

const TRIES = 60; // of one request, while the service is loading or busy
const BUSY = [429, 503];

let key = stored((storage) => storage.getItem("key")); // of this tab; nothing is kept when it is closed

/** A browser that stores nothing throws: then the key is known until the page is loaded again. */
function stored(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null;
  }
}

/**
 * Resolves to the answer of a route. A problem+json answer is thrown as an Error with its title and detail. While the
 * service is busy, a request with a signal, which is a question, shows that it waits; others wait out of sight.
 */
export async function asked(route, options = {}, tries = TRIES) {
  const sent = key;
  const headers = sent ? { ...options.headers, Authorization: `Bearer ${sent}` } : options.headers;
  let response;
  try {
    response = await fetch(route, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The service cannot be reached. Is it running?"), { title: "No answer" });
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After")); // 0 where waiting would not help, NaN for a date
  if (response.status === 401) {
    if (sent === key) key = await keyFromUser(problem.detail ?? "This service asks for a key"); // else there is a newer one
    stored((storage) => storage.setItem("key", key));
    return asked(route, options, tries);
  }
  if (BUSY.includes(response.status) && seconds > 0 && tries > 0) {
    if (options.signal) await countdown(problem.detail ?? "The service is busy", seconds, options.signal);
    else await pause(seconds);
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
  image.dataset.address = address;
  if (!key || address.startsWith("blob:")) {
    if (image.getAttribute("src") !== address) image.src = address;
    return;
  }
  const data = await asked(address).then((response) => response.blob()).catch(() => null);
  if (image.dataset.address !== address) return; // another one is wanted meanwhile
  if (!data) return image.removeAttribute("src"); // no image is better than the one before
  const blob = URL.createObjectURL(data);
  image.addEventListener("load", () => URL.revokeObjectURL(blob), { once: true });
  image.src = blob;
}

let newest = new AbortController(); // of the latest question

/** End the question that is under way: the address asks something else. */
export function leave() {
  newest.abort();
  newest = new AbortController();
}

/** Run one question: the latest wins, `region` is busy meanwhile, a problem is shown. Resolves to whether it worked. */
export async function during(region, question) {
  leave();
  const mine = (region.question = newest);
  region.setAttribute("aria-busy", "true");
  try {
    await question(mine.signal);
    return true;
  } catch (error) {
    const again = ["Try again", () => dispatchEvent(new Event("hashchange"))];
    if (mine === newest) complain(error, error.status < 500 ? null : again); // what was refused will be again
    return false;
  } finally {
    if (mine === region.question) region.setAttribute("aria-busy", "false");
  }
}
