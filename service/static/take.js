// Images of the user's: chosen, dropped anywhere, pasted, or taken with the camera.

import { askFile } from "./ask.js";
import { complain } from "./notices.js";
import { element } from "./words.js";

const REFUSALS = {
  NotAllowedError: "The browser did not allow the camera. Allow it for this page in the address bar, then try again",
  NotFoundError: "There is no camera here",
  NotReadableError: "The camera is in use by another program",
};

export function listen() {
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
    taken(event.dataTransfer.files, "What was dropped is no file. Save the image first, then drop the file");
  });
  addEventListener("paste", (event) => {
    if (event.target.matches?.("input:not([type=file])")) return; // a text into its field
    taken(event.clipboardData.files, "There is no image in the clipboard: copy one, then paste it here");
  });
  element("camera").addEventListener("click", openCamera);
  element("camera-dialog").addEventListener("close", closeCamera);
  element("no-photograph").addEventListener("click", () => element("camera-dialog").close());
  element("shoot").addEventListener("click", shoot);
}

function taken(files, otherwise) {
  if (files.length) askFile(files[0]);
  else complain(Object.assign(new Error(otherwise), { title: "No image" }));
}

async function openCamera() {
  try {
    if (!navigator.mediaDevices) throw Object.assign(new Error(), { name: "NoMedia" });
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    closeCamera(); // the button was pressed twice
    element("video").srcObject = stream;
  } catch (error) {
    const insecure = "A browser gives the camera to pages on this machine or over HTTPS only";
    const why = error.name === "NoMedia" ? insecure : REFUSALS[error.name] ?? error.message;
    complain(Object.assign(new Error(why), { title: "No camera" }));
    return;
  }
  if (!element("camera-dialog").open) element("camera-dialog").showModal();
}

function closeCamera() {
  for (const track of element("video").srcObject?.getTracks() ?? []) track.stop();
  element("video").srcObject = null;
}

function shoot() {
  const video = element("video");
  if (!video.videoWidth) return; // it shows nothing yet
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => askFile(new File([blob], "photograph.jpg", { type: "image/jpeg" })), "image/jpeg", 0.92);
  element("camera-dialog").close();
}
