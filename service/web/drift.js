// The lines of an open page that say where production is not as in training.

import { localTime } from "/web/page.js";

const SECONDS = 30;
const banner = document.getElementById("drift");

function line({ part_class, direction, since }) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = "/statistics#drift";
  link.textContent = `${part_class} is not as in training: its scores are ${direction}`;
  item.append(link, ` since ${localTime(new Date(since))}.`);
  return item;
}

async function ask() {
  try {
    const response = await fetch("/v1/drift");
    if (!response.ok) return;
    const drifting = (await response.json()).part_classes.filter((part) => part.drifting);
    banner.querySelector("ul").replaceChildren(...drifting.map(line));
    banner.hidden = !drifting.length;
  } catch {
    // The page says itself when the service does not answer.
  }
}

setInterval(ask, SECONDS * 1000);
