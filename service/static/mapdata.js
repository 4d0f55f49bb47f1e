// The answer of GET /map: its description is the route's, in /docs.

export const UNLABELLED = 65535;
const LARGEST = 65535;

/** Unpack it: { head, ids, x, y, label }; x and y are -1 ... 1, label is a place in head.labels or UNLABELLED. */
export function unpacked(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const [n, start] = [head.images, 4 + length];
  const gaps = new Uint32Array(buffer, start, n);
  const points = new Uint16Array(buffer, start + 4 * n, 2 * n);
  const ids = new Float64Array(n);
  const [x, y] = [new Float32Array(n), new Float32Array(n)];
  let id = head.first_id;
  for (let i = 0; i < n; i += 1) {
    ids[i] = id += gaps[i];
    x[i] = (2 * points[2 * i]) / LARGEST - 1;
    y[i] = (2 * points[2 * i + 1]) / LARGEST - 1;
  }
  return { head, ids, x, y, label: new Uint16Array(buffer, start + 8 * n, n) };
}

/** Return the place of an image id among ascending ids, -1 where it is not there. */
export function placeOf(ids, id) {
  let [low, high] = [0, ids.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ids[middle] < id) low = middle + 1;
    else high = middle;
  }
  return ids[low] === id ? low : -1;
}

/** Return the nearest point within 45 degrees of a direction (dx, dy), -1 without one. seen: which points count. */
export function towards({ x, y }, from, dx, dy, seen) {
  let [best, least] = [-1, Infinity];
  for (let i = 0; i < x.length; i += 1) {
    const [right, up] = [x[i] - x[from], y[i] - y[from]];
    const along = right * dx + up * dy;
    const squared = right * right + up * up;
    if (along > 0 && 2 * along * along >= squared && squared < least && seen(i)) [best, least] = [i, squared];
  }
  return best;
}
