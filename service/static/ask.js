// Questions: about an indexed image, an image of the user's, or any image.

import { address, go, parsed, settings } from "./address.js";
import { show } from "./answer.js";
import { calm, complain, say } from "./notices.js";
import { remember } from "./recent.js";
import { asked, during, json } from "./service.js";
import { element } from "./words.js";

const KEPT = 20; // uploaded images that this tab keeps, to go back to

const uploads = new Map(); // number -> { file, blob }; the oldest first
let count = 0;

/** Ask about a file of the user's. It is in no address, so it is kept here, for the back button. */
export function askFile(file) {
  uploads.set((count += 1), { file, blob: URL.createObjectURL(file) });
  for (const [number, { blob }] of uploads) {
    if (uploads.size <= KEPT) break;
    URL.revokeObjectURL(blob);
    uploads.delete(number);
  }
  go(address(`upload/${count}`, settings()));
}

export async function askRandom(replace = false) {
  await during(element("answer"), async (signal) => {
    const image = await json("images/random", { signal });
    go(address(`image/${image.image_id}`, settings()), replace);
  });
}

/** Ask what the address asks. */
export async function ask({ kind, id, settings }) {
  calm();
  const upload = kind === "upload" ? uploads.get(Number(id)) : null;
  if (upload === undefined) {
    const gone = new Error("An uploaded image has no address of its own: it stays in the tab that sent it. Choose it again");
    complain(Object.assign(gone, { title: "This image is not here" }), ["Show a random image", () => askRandom()]);
    return;
  }
  say("Looking …");
  await during(element("answer"), async (signal) => {
    if (upload) await readable(upload.file);
    const form = new FormData();
    if (upload) form.append("file", upload.file);
    else form.append("image_id", id);
    const k = Number(settings.k) || 6;
    form.append("k", upload ? k : k + 1); // one more, because an indexed image finds itself
    form.append("exactness", settings.exactness);
    if (settings.label) form.append("label", settings.label);
    const begun = performance.now();
    const response = await asked("neighbours", { method: "POST", body: form, signal });
    const answer = await response.json();
    const took = { total: performance.now() - begun, stages: response.headers.get("Server-Timing") ?? "" };
    const question = { kind, id: Number(id), k, settings, image: upload?.blob ?? `images/${id}`, file: upload?.file.name };
    show(answer, question, took);
    remember(answer, question);
  });
}

/** Throws in words where the browser cannot read a file: a request with it would only fail, as if nobody answered. */
async function readable(file) {
  await file.slice(0, 1).arrayBuffer().catch(() => {
    const why = new Error("It is a folder, or it has been changed or moved since it was chosen. Choose it again");
    throw Object.assign(why, { title: "This file cannot be read", status: 400 });
  });
}

/** Ask again, with another setting. */
export function askWith(changed) {
  const { kind, id, settings } = parsed();
  go(address(`${kind}/${id}`, { ...settings, ...changed }));
}
