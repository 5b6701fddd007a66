// Takes a picture by address, file, drop, clipboard or click on a sample, and shows what the API answers: the most likely classes,
// and where the network looked for the one that is chosen among them.

import { Chart, describe, readable } from "./chart.js";

const $ = (id) => document.getElementById(id);
const chart = new Chart($("chart"), $("tooltip"), explain);
const uploadBytes = Number(document.body.dataset.uploadBytes);
const faintest = Number(document.body.dataset.faintest); // of probability; what takes away less does not show
const SMALL = 128; // pixels; a smaller picture is enlarged with crisp pixels
const empty = $("empty").textContent;
let current = null, explaining = null; // the requests whose answers are to be shown; older ones are given up
let seen = null, chosen = null; // what the network sees, as a file, and the prediction that is explained
const explanations = new Map(); // of that picture, by class and method

class Unreadable extends Error {
  constructor() {
    super("That file cannot be read: it is a folder, or no longer there.");
  }
}

// Has a picture classified and shows the answer. `prepare` makes what is sent, and may take time over it.
async function ask(name, prepare, { isAddress = false, caption = "" } = {}) {
  current?.abort();
  explaining?.abort();
  current = new AbortController();
  const { signal } = current;
  complain("");
  $("status").textContent = $("empty").textContent = "Looking at the picture…";
  $("answer").setAttribute("aria-busy", "true");
  try {
    const response = await fetch("api/predict?pictures=true", { method: "POST", signal, ...await prepare(signal) });
    const body = await response.json().catch(() => null);
    if (signal.aborted) return;
    if (response.ok) show(body, name, caption);
    else complain(body?.error?.message ?? `The server answered ${response.status}.`, isAddress && response.status < 500);
  } catch (error) {
    if (!signal.aborted) complain(error instanceof Unreadable ? error.message : "The server cannot be reached.");
  } finally {
    if (!signal.aborted) rest();
  }
}

// Nothing is on its way any more.
function rest() {
  $("answer").setAttribute("aria-busy", "false");
  $("empty").textContent = empty;
}

function askAddress(url) {
  const address = url.trim();
  $("address").value = address;
  if (!address) return complain("Type the address of a picture first.", true);
  const sent = { body: JSON.stringify({ url: address }), headers: { "Content-Type": "application/json" } };
  return ask(address, () => sent, { isAddress: true });
}

function askFile(file) {
  $("address").value = "";
  if (file.size > 0.99 * uploadBytes) return complain(`The file is too large. At most ${uploadBytes / 2 ** 20} MB are taken.`);
  return ask(file.name, async () => {
    await file.slice(0, 1).arrayBuffer().catch(() => { throw new Unreadable(); });
    return form(file);
  });
}

function askSample({ title, dataset }) {
  $("address").value = "";
  return ask(title, async (signal) => {
    const response = await fetch(dataset.sample, { signal });
    if (!response.ok) throw new Error(response.statusText);
    return form(await response.blob());
  }, { caption: `: ${title}` });
}

function form(file) {
  const body = new FormData();
  body.append("file", file);
  return { body };
}

// The file of a data URL.
function fileOf(url) {
  const [head, data] = url.split(",");
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: head.slice("data:".length).split(";")[0] });
}

function show({ predictions, pictures }, name, caption) {
  $("preview").src = pictures.preview;
  $("seen").src = pictures.seen;
  $("preview").title = name;
  $("name").textContent = caption;
  $("result").hidden = false;
  $("empty").hidden = true;
  chart.show(predictions);
  seen = fileOf(pictures.seen);
  explaining?.abort(); // of the picture before, if a class of it was chosen meanwhile
  explanations.clear();
  dropExplanation("Finding out what the network looked at…");
  explain(predictions[0]);
  $("answer").scrollIntoView({ block: "nearest" });
  $("status").textContent = `Most likely ${predictions.map(describe).join("; ")}.`;
}

// Shows where the network looked for the class of a prediction. Asked the same again, it waits for the answer, or tries again where
// there was none.
async function explain(prediction) {
  chosen = prediction;
  const method = document.querySelector("[name=method]:checked").value;
  const query = String(new URLSearchParams({ class: prediction.class, method }));
  if (explaining?.query === query && !explaining.signal.aborted) return;
  explaining?.abort();
  if (explanations.has(query)) return showExplanation(explanations.get(query));
  const asking = explaining = Object.assign(new AbortController(), { query }), { signal } = asking;
  $("looked").setAttribute("aria-busy", "true");
  try {
    const response = await fetch(`api/explain?${query}`, { method: "POST", signal, ...form(seen) });
    const body = await response.json().catch(() => null);
    if (signal.aborted) return;
    if (response.ok) showExplanation(explanations.set(query, body).get(query));
    else dropExplanation(body?.error?.message ?? `The server answered ${response.status}.`);
  } catch {
    if (!signal.aborted) dropExplanation("The server cannot be reached.");
  } finally {
    if (explaining === asking) explaining = null;
  }
}

function showExplanation({ class: name, method, values, heat_map: map }) {
  $("heat").src = map;
  $("heat").hidden = false;
  const most = values.flat().reduce((a, b) => Math.max(a, b)); // as arguments, the pixels of a large picture are too many
  const points = `${(100 * most).toFixed(1)} percentage points`;
  const strong = document.createElement("b");
  strong.textContent = readable(name);
  const how = method === "saliency" ? ": its score changes most with the bright yellow pixels."
    : most > faintest ? `: covering the bright yellow parts makes it less certain, by up to ${points}.`
    : ": nothing in particular. Covering any one part makes it no less certain.";
  $("explanation").replaceChildren("What the network looked at for ", strong, how);
  $("looked").setAttribute("aria-busy", "false");
}

function dropExplanation(message) {
  $("heat").hidden = true;
  $("explanation").textContent = message;
  $("looked").setAttribute("aria-busy", "false");
}

function complain(message, aboutAddress = false) {
  if (message) {
    current?.abort(); // whose answer would replace the message
    explaining?.abort();
    rest();
    clear();
  }
  $("problem").textContent = message;
  $("problem").hidden = !message;
  if (message) $("problem").scrollIntoView({ block: "nearest" });
  $("address").setAttribute("aria-invalid", String(aboutAddress));
  $("status").textContent = "";
}

// Takes the last answer away: beside a message, it would seem to be that of the new picture.
function clear() {
  chart.show([]);
  $("result").hidden = true;
  $("empty").hidden = false;
}

function askTransfer(transfer) {
  const [file] = transfer.files;
  const address = transfer.getData("text/uri-list").split(/\r?\n/).find((line) => line && !line.startsWith("#"));
  const text = transfer.getData("text/plain").trim();
  if (file) askFile(file);
  else if (address) askAddress(address);
  else if (/^https?:\/\/\S+$/i.test(text)) askAddress(text);
  else return false;
  return true;
}

$("address-form").addEventListener("submit", (event) => {
  event.preventDefault();
  askAddress($("address").value);
});

$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) askFile(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});

for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", () => askSample(button));
}

for (const method of document.querySelectorAll("[name=method]")) {
  method.addEventListener("change", () => explain(chosen));
}

for (const image of [$("preview"), $("seen")]) {
  image.addEventListener("load", () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= SMALL));
}

for (const type of ["dragover", "dragleave", "drop"]) {
  addEventListener(type, (event) => {
    event.preventDefault(); // or the browser would leave for the file
    $("drop").classList.toggle("over", type === "dragover");
  });
}

addEventListener("drop", (event) => {
  if (!askTransfer(event.dataTransfer)) complain("That is neither a picture nor the address of one.");
});

addEventListener("paste", (event) => {
  const typing = event.target === $("address") && !event.clipboardData.files.length;
  if (!typing && askTransfer(event.clipboardData)) event.preventDefault();
});
