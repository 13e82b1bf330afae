// The line of the page that says where production is not as in training.

import { call } from "/web/key.js";

const SECONDS = 30;
const line = document.getElementById("drift");

function sentence({ part_class, direction, since }) {
  const when = new Date(since).toLocaleString();
  return `${part_class} is not as in training: its scores are ${direction} since ${when}.`;
}

async function ask() {
  try {
    const response = await call("/v1/drift");
    if (!response.ok) return;
    const drifting = (await response.json()).part_classes.filter((part) => part.drifting);
    line.textContent = drifting.map(sentence).join(" ");
    line.hidden = !drifting.length;
  } catch {
    // The page says itself when the service does not answer.
  }
}

ask();
setInterval(ask, SECONDS * 1000);
