"use strict";
const drop = document.getElementById("drop"), bars = document.getElementById("bars");
const said = document.getElementById("said"), shown = document.getElementById("shown");
let address = "";

async function ask(file) {
  if (!file) return;
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(file);
  shown.src = address;
  shown.hidden = false;
  said.textContent = "";
  bars.replaceChildren();
  const form = new FormData();
  form.append("picture", file);
  const answer = await fetch("/v1/classify", { method: "POST", body: form });
  const found = await answer.json();
  if (!answer.ok) { said.textContent = found.detail; return; }
  for (const { label, probability } of found.results[0].classes) {
    const row = document.createElement("div"), name = document.createElement("span");
    const bar = document.createElement("progress"), number = document.createElement("span");
    row.className = "row";
    name.textContent = label;
    bar.value = probability;
    bar.setAttribute("aria-label", label);
    number.textContent = (100 * probability).toFixed(1) + " %";
    row.append(name, bar, number);
    bars.append(row);
  }
}

drop.addEventListener("dragover", e => { e.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", e => { e.preventDefault(); drop.classList.remove("over"); ask(e.dataTransfer.files[0]); });
document.getElementById("file").addEventListener("change", e => ask(e.target.files[0]));
