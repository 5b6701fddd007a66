// Takes a picture by address, file, drop, clipboard or click on a sample, and shows what the API answers.

import { Chart, describe } from "./chart.js";

const $ = (id) => document.getElementById(id);
const chart = new Chart($("chart"), $("tooltip"));
const uploadBytes = Number(document.body.dataset.uploadBytes);
let current = null; // the request whose answer is to be shown; older ones are given up

// Has a picture classified and shows the answer. `prepare` makes what is sent, and may take time over it.
async function ask(name, prepare, isAddress = false) {
  current?.abort();
  current = new AbortController();
  const { signal } = current;
  complain("");
  $("status").textContent = "Looking at the picture…";
  $("answer").setAttribute("aria-busy", "true");
  try {
    const response = await fetch("api/predict?pictures=true", { method: "POST", signal, ...await prepare(signal) });
    const body = await response.json().catch(() => null);
    if (signal.aborted) return;
    if (response.ok) show(body, name);
    else complain(body?.error?.message ?? `The server answered ${response.status}.`, isAddress && response.status < 500);
  } catch {
    if (!signal.aborted) complain("The server cannot be reached.");
  } finally {
    if (!signal.aborted) $("answer").setAttribute("aria-busy", "false");
  }
}

function askAddress(url) {
  const address = url.trim();
  $("address").value = address;
  if (!address) return complain("Type the address of a picture first.", true);
  const sent = { body: JSON.stringify({ url: address }), headers: { "Content-Type": "application/json" } };
  return ask(address, () => sent, true);
}

function askFile(file) {
  if (file.size > 0.99 * uploadBytes) return complain(`The file is too large. At most ${uploadBytes / 2 ** 20} MB are taken.`);
  return ask(file.name, () => form(file));
}

function askSample({ title, dataset }) {
  return ask(title, async (signal) => {
    const response = await fetch(dataset.sample, { signal });
    if (!response.ok) throw new Error(response.statusText);
    return form(await response.blob());
  });
}

function form(file) {
  const body = new FormData();
  body.append("file", file);
  return { body };
}

function show({ predictions, pictures }, name) {
  $("preview").src = pictures.preview;
  $("seen").src = pictures.seen;
  $("preview").title = name;
  $("pictures").hidden = false;
  $("empty").hidden = true;
  chart.show(predictions);
  $("answer").scrollIntoView({ block: "nearest" });
  $("status").textContent = `Most likely ${predictions.map(describe).join("; ")}.`;
}

function complain(message, aboutAddress = false) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
  $("address").setAttribute("aria-invalid", String(aboutAddress));
  $("status").textContent = "";
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
