// What the page says about itself: to a screen reader, of a problem, while it waits, and that it needs a key.

import { element, made, sentence } from "./words.js";

const SENDABLE = /^[!-~]+$/; // in a header

let waitingForKey = null; // a promise of the key that the user types

/** Say something to a screen reader. */
export function say(words) {
  element("status").textContent = words;
}

/** Show a problem in words, with what may be tried: [text, function], or nothing. */
export function complain(error, remedy = null) {
  const parts = [made("strong", "", error.title ?? "Something went wrong"), made("span", "", sentence(error.message))];
  if (remedy) {
    const [words, act] = remedy;
    const button = made("button", "link", words);
    button.type = "button";
    button.addEventListener("click", act);
    parts.push(" ", button);
  }
  element("problem").replaceChildren(...parts);
  element("problem").hidden = false;
  say("");
}

export function calm() {
  element("problem").hidden = element("waiting").hidden = true;
}

/** Count the seconds down, in view, until it is time to try again. A screen reader hears the reason once. */
export async function countdown(reason, seconds, signal) {
  say(`${sentence(reason)} Trying again.`);
  try {
    for (let left = Math.ceil(seconds); left > 0; left -= 1) {
      element("waiting").textContent = `${sentence(reason)} Trying again in ${left} s.`;
      element("waiting").hidden = false;
      await pause(Math.min(1, seconds), signal);
    }
  } finally {
    element("waiting").hidden = true;
  }
}

/** Wait. Rejects when the signal says that nobody waits any more. */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** Ask the user for the service's key, once for all who wait for it. */
export function keyFromUser(why) {
  waitingForKey ??= new Promise((resolve) => {
    const form = element("key-form");
    element("key-why").textContent = sentence(why.split(";")[0]); // what follows is for programs
    form.hidden = false;
    element("key").focus();
    form.onsubmit = (event) => {
      event.preventDefault();
      const key = element("key").value.trim();
      if (!key) return;
      if (!SENDABLE.test(key)) return (element("key-why").textContent = "A key has no spaces, and no letters but a to z.");
      element("key").value = "";
      form.hidden = true;
      waitingForKey = null;
      resolve(key);
    };
  });
  return waitingForKey;
}
