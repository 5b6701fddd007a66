// Takes a picture by address, file, drop, clipboard or click on a sample, and shows what the API answers.

import { Chart, describe } from "./chart.js";

const $ = (id) => document.getElementById(id);
const chart = new Chart($("chart"), $("tooltip"));
const uploadBytes = Number(document.body.dataset.uploadBytes);
let current = null; // the request whose answer is to be shown; older ones are given up

async function ask(init, name) {
  current?.abort();
  const request = current = new AbortController();
  complain("");
  $("answer").setAttribute("aria-busy", "true");
  try {
    const response = await fetch("api/predict?pictures=true", { method: "POST", signal: request.signal, ...init });
    const body = await response.json().catch(() => null);
    if (request !== current) return;
    if (response.ok) show(body, name);
    else complain(body?.error?.message ?? `The server answered ${response.status}.`);
  } catch (error) {
    if (error.name !== "AbortError") complain("The server cannot be reached.");
  } finally {
    if (request === current) $("answer").setAttribute("aria-busy", "false");
  }
}

function askAddress(url) {
  const address = url.trim();
  $("address").value = address;
  if (!address) return complain("Type the address of a picture first.");
  return ask({ body: JSON.stringify({ url: address }), headers: { "Content-Type": "application/json" } }, address);
}

function askFile(file) {
  if (file.size > 0.99 * uploadBytes) return complain(`The file is too large. At most ${uploadBytes / 2 ** 20} MB are taken.`);
  const body = new FormData();
  body.append("file", file);
  return ask({ body }, file.name);
}

function show({ predictions, pictures }, name) {
  $("preview").src = pictures.preview;
  $("seen").src = pictures.seen;
  $("preview").title = name;
  $("pictures").hidden = false;
  $("empty").hidden = true;
  chart.show(predictions);
  $("answer").scrollIntoView({ block: "nearest", behavior: "smooth" });
  $("status").textContent = `Most likely ${predictions.map(describe).join("; ")}.`;
}

function complain(message) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
  $("address").toggleAttribute("aria-invalid", Boolean(message));
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
  button.addEventListener("click", async () => {
    const response = await fetch(button.dataset.sample);
    askFile(new File([await response.blob()], button.title, { type: "image/png" }));
  });
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
