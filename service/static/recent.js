// The questions of this visit, newest first, to ask again with one click.

import { address } from "./address.js";
import { showImage } from "./service.js";
import { element, file, fill, made } from "./words.js";

const SHOWN = 10;

let questions = []; // { path, image, words }

export function remember(answer, { kind, id, image, file: own }) {
  const path = `${kind}/${id}`;
  const words = answer.true_label ?? file(answer.name ?? own ?? "an image");
  questions = [{ path, image, words }, ...questions.filter((earlier) => earlier.path !== path)].slice(0, SHOWN);
  const earlier = questions.slice(1); // the first is in view
  element("recent").hidden = !earlier.length;
  fill(element("recent-list"), earlier, () => made("li", "", made("a", "", made("img"))), (item, question) => {
    item.firstChild.href = address(question.path);
    item.firstChild.title = question.words;
    item.querySelector("img").alt = question.words;
    showImage(item.querySelector("img"), question.image);
  });
}
