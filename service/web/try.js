// Sends one image at a time and shows the verdict and where it comes from.

import { milliseconds, number, ReviewThresholds, showFacts, showScale, verdictElement } from "/web/inspection.js";
import { show } from "/web/picture.js";

const $ = (id) => document.getElementById(id);
const thresholds = new ReviewThresholds();
let newest = 0;
let latest = null;
let address = null;

const pngOf = (base64) => `data:image/png;base64,${base64}`;
// A browser shows no TIFF: then the colours on the picture are the picture.
const isShownByBrowsers = async (url) => {
  const image = new Image();
  image.src = url;
  return image.decode().then(() => true, () => false);
};

async function inspect(file) {
  const turn = ++newest;
  $("busy").hidden = false;
  $("refused").hidden = true;
  const url = URL.createObjectURL(file);
  try {
    const shown = await isShownByBrowsers(url);
    const query = new URLSearchParams({ heatmap: shown ? "layer" : "overlay", station: "try" });
    if ($("part-class").value) query.set("part_class", $("part-class").value);
    const response = await fetch(`/v1/inspections?${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream", Accept: "application/json" },
      body: file,
    });
    if (response.status === 401) return location.reload();
    const answer = await response.json();
    if (turn !== newest) return;
    if (!response.ok) throw new Error(answer.detail);
    const review = await thresholds.of(answer);
    if (turn !== newest) return;
    if (address) URL.revokeObjectURL(address);
    address = shown ? url : null;
    await showAnswer(answer, review, shown ? url : pngOf(answer.heatmap), shown ? pngOf(answer.heatmap) : null);
  } catch (error) {
    if (turn === newest) showProblem(error);
  } finally {
    if (address !== url) URL.revokeObjectURL(url);
    if (turn === newest) $("busy").hidden = true;
  }
}

async function showAnswer(answer, review, photo, heat) {
  $("hint").hidden = $("invitation").hidden = true;
  $("answer").hidden = $("shown").hidden = false;
  $("drop").classList.add("filled");
  $("verdict").replaceChildren(verdictElement(answer.verdict, true));
  $("unknown").hidden = !answer.unknown_part;
  showScale($("scale").querySelector("svg"), answer, review);
  showFacts($("facts").querySelector("dl"), {
    "Part class": `${answer.part_class} (${answer.part_class_source})`,
    Score: number(answer.score),
    "p-value": number(answer.p_value, 3),
    Image: `${answer.image.width} × ${answer.image.height}`,
    "Execution time": milliseconds(answer.timing_ms.total),
    Decoding: milliseconds(answer.timing_ms.decode),
    Waiting: milliseconds(answer.timing_ms.queue),
    Network: milliseconds(answer.timing_ms.inference),
    "Verdict and heatmap": milliseconds(answer.timing_ms.postprocess),
  });
  await show(document.querySelector("[data-picture]"), { photo, heat, ...answer.image, regions: answer.regions });
}

function showProblem(error) {
  const unreachable = error instanceof TypeError;
  $("refused").textContent = unreachable ? "The service does not answer; try again in a moment." : error.message;
  $("refused").hidden = false;
  $("answer").hidden = $("shown").hidden = true;
  $("hint").hidden = $("invitation").hidden = false;
  $("drop").classList.remove("filled");
}

function take(file) {
  if (!file) return;
  latest = file;
  inspect(file);
}

for (const id of ["file", "camera"]) {
  $(id).addEventListener("change", (event) => take(event.target.files[0]));
}
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (latest) take(latest);
  else showProblem(new Error("Choose an image first."));
});
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files[0]);
});
$("part-class").addEventListener("change", () => take(latest));
// What was dropped is in no field.
$("file").required = false;
$("by-script").hidden = $("camera-label").hidden = false;
