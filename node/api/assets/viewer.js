// Shows /openapi.json. Text from the document is only ever set as text, never as markup.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function table(head, rows) {
  const cells = (tag, values) => element("tr", {}, ...values.map((value) => element(tag, {}, value)));
  return element("table", {}, cells("th", head), ...rows.map((row) => cells("td", row)));
}

function schemaText(schema) {
  return JSON.stringify(schema, null, 2);
}

function parameters(operation) {
  if (operation.parameters.length === 0) return [];
  const rows = operation.parameters.map((parameter) => [
    element("code", {}, parameter.name),
    parameter.in,
    parameter.description,
  ]);
  return [table(["Parameter", "In", "Meaning"], rows)];
}

function body(operation) {
  if (!operation.requestBody) return [];
  const kinds = Object.keys(operation.requestBody.content).join(", ");
  return [element("p", {}, `Body (${kinds}): ${operation.requestBody.description}`)];
}

function answers(operation) {
  const rows = Object.entries(operation.responses).map(([status, answer]) => [
    element("code", {}, status),
    Object.keys(answer.content || {}).join(", "),
    answer.description,
  ]);
  const schemas = Object.entries(operation.responses)
    .flatMap(([status, answer]) => Object.values(answer.content || {}).map((kind) => [status, kind.schema]))
    .filter(([status, schema]) => schema && status < "300")
    .map(([, schema]) => element("pre", {}, schemaText(schema)));
  return [table(["Status", "Type", "Meaning"], rows), ...schemas];
}

function operationNode(path, method, operation) {
  const summary = element(
    "summary",
    {},
    element("span", { class: "method" }, method.toUpperCase()),
    element("code", {}, path),
    " ",
    element("span", { class: "dim" }, operation.summary),
  );
  const id = element("details", { id: operation.operationId }, summary);
  id.append(...parameters(operation), ...body(operation), ...answers(operation));
  return id;
}

function show(description) {
  const viewer = document.getElementById("viewer");
  viewer.replaceChildren(element("p", {}, description.info.description));
  for (const tag of description.tags) {
    viewer.append(element("h2", {}, tag.description));
    for (const [path, methods] of Object.entries(description.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.tags.includes(tag.name)) viewer.append(operationNode(path, method, operation));
      }
    }
  }
  viewer.append(element("h2", {}, "Schemas"));
  for (const [name, schema] of Object.entries(description.components.schemas)) {
    viewer.append(
      element("details", {}, element("summary", {}, element("code", {}, name)), element("pre", {}, schemaText(schema))),
    );
  }
}

try {
  const answer = await fetch("/openapi.json");
  show(await answer.json());
} catch (error) {
  document.getElementById("viewer").textContent = `/openapi.json could not be read: ${error}`;
}
