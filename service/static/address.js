// Addresses of the page: #/image/29?k=12&label=frog is a question about an indexed image, and can be sent to somebody
// else. #/upload/1 is one about an image that only this tab has.

const PRESET = { k: "6", exactness: "certified", label: "" };

/** Return what the address asks for: { view, id, settings }; view is search, browse or map. */
export function parsed(hash = location.hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const settings = { ...PRESET, ...Object.fromEntries(new URLSearchParams(query)) };
  const [name, id = null] = path.split("/");
  if (/^\d+$/.test(name)) return { view: "search", kind: "image", id: name, settings }; // as addresses were before: #29
  if ((name === "image" || name === "upload") && /^\d+$/.test(id)) return { view: "search", kind: name, id, settings };
  if (name === "browse" || name === "map") return { view: name, id, settings };
  return { view: "search", kind: null, id: null, settings };
}

/** Return the address of a view, with those settings that differ from the usual. */
export function address(path, settings = {}) {
  const chosen = Object.entries(settings).filter(([name, value]) => value && value !== PRESET[name]);
  const query = new URLSearchParams(chosen).toString();
  return `#/${path}${query && `?${query}`}`;
}

/** Return the settings of the present question, for the next one. */
export function settings() {
  const { k, exactness, label } = parsed().settings;
  return { k, exactness, label };
}

/** Go to an address; `replace` leaves the present one out of the history. */
export function go(to, replace = false) {
  if (replace) {
    history.replaceState(null, "", to);
    dispatchEvent(new Event("hashchange"));
  } else if (location.hash === to) {
    dispatchEvent(new Event("hashchange"));
  } else {
    location.hash = to;
  }
}
