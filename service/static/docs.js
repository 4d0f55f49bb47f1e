// The page at /docs: the routes of openapi.json in words, each with a command to copy.

const api = await (await fetch("openapi.json")).json();
const base = new URL(".", location.href).href.replace(/\/$/, "");

function made(name, text = "", ...children) {
  const node = document.createElement(name);
  node.append(text, ...children);
  return node;
}

/** The schema that a "$ref" names; for "anyOf: [schema, null]", the schema. */
function resolved(schema) {
  if (schema?.anyOf) return resolved(schema.anyOf[0]);
  if (!schema?.$ref) return schema;
  return schema.$ref.slice(2).split("/").reduce((found, key) => found[key], api);
}

/** Form fields, path and query parameters: [name, schema, required, description, where]. */
function inputs(route) {
  const form = resolved(route.requestBody?.content["multipart/form-data"]?.schema);
  return [
    ...(route.parameters ?? []).map((p) => [p.name, p.schema, p.required, p.description ?? p.schema.description, p.in]),
    ...Object.entries(form?.properties ?? {}).map(([name, schema]) => [
      name, schema, form.required?.includes(name), schema.description, "form",
    ]),
  ];
}

function command(path, method, route) {
  const fields = method === "post" ? ["file=@image.jpg"] : [];
  for (const [name, schema, , , where] of inputs(route)) {
    if (where === "form" && (schema.default ?? null) !== null) fields.push(`${name}=${schema.default}`);
  }
  return ["curl", ...fields.map((field) => `-F ${field}`), base + path.replace("{image_id}", "29")].join(" ");
}

function inputList(route) {
  const list = made("dl");
  for (const [name, schema, required, description, where] of inputs(route)) {
    const preset = (schema.default ?? null) !== null ? `default ${schema.default}` : required ? "required" : "optional";
    list.append(made("dt", "", made("code", name)), made("dd", [description, `${where}, ${preset}`].filter(Boolean).join(" · ")));
  }
  return list;
}

function answerList(route) {
  const list = made("dl");
  for (const [status, answer] of Object.entries(route.responses)) {
    for (const [kind, content] of Object.entries(answer.content ?? {})) {
      const schema = resolved(content.schema) ?? {};
      const examples = content.examples
        ? Object.values(content.examples).map((example) => example.value)
        : [content.example ?? schema.example].filter(Boolean);
      const shown = examples.map((example) =>
        made("pre", typeof example === "string" ? example : JSON.stringify(example, null, 1)));
      const known = shown.length ? shown : [schema.description ?? ""];
      list.append(made("dt", "", made("code", status)), made("dd", kind, ...known));
    }
  }
  return made("details", "", made("summary", "Answers"), list);
}

document.getElementById("about").textContent = api.info.description.split("\n")[0];
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    const section = made("section", "", made("h2", "", made("code", `${method.toUpperCase()} ${path}`)));
    section.className = "route";
    section.append(made("p", route.description), made("pre", command(path, method, route)), inputList(route), answerList(route));
    document.getElementById("routes").append(section);
  }
}
