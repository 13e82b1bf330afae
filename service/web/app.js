// The page for people: sends one image, shows the verdict and where it comes from.

import { call } from "/web/key.js";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
const shown = { original: null, overlay: null, regions: [], width: 0, height: 0 };
let newest = 0;
let engine = null;

const number = (value, digits = 4) => Number(value).toPrecision(digits);

async function describeEngine() {
  try {
    const response = await call("/v1/engine");
    if (!response.ok) throw new Error(response.statusText);
    engine = await response.json();
    $("engine").textContent =
      `${engine.name} ${engine.version} · ${engine.method} · ${engine.precision} · ${engine.backend ?? "starting"}`;
    const chosen = $("part-class").value;
    $("part-class").replaceChildren(
      new Option("recognise", ""), ...engine.part_classes.map((part) => new Option(part.name, part.name)));
    $("part-class").value = engine.part_classes.some((part) => part.name === chosen) ? chosen : "";
  } catch {
    $("engine").textContent = "The service does not answer.";
  }
}

async function inspect(file) {
  const turn = ++newest;
  const query = new URLSearchParams({ heatmap: "overlay" });
  if ($("part-class").value) query.set("part_class", $("part-class").value);
  $("busy").hidden = false;
  $("problem").hidden = true;
  try {
    const response = await call(`/v1/inspections?${query}`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream", Accept: "application/json" },
      body: file,
    });
    const answer = await response.json();
    if (turn !== newest) return;
    if (!response.ok) throw new Error(answer.detail);
    const overlay = await decode(new Blob([fromBase64(answer.heatmap)], { type: "image/png" }));
    // A browser shows no TIFF: then the overlay alone is the picture.
    const original = await decode(file).catch(() => overlay);
    // The line may have changed its engine since the page asked.
    if (!engine || engine.name !== answer.engine.name || engine.version !== answer.engine.version) {
      await describeEngine();
    }
    if (turn !== newest) return;
    Object.assign(shown, { original, overlay, regions: answer.regions, ...answer.image });
    showResult(answer);
    draw();
  } catch (error) {
    if (turn === newest) showProblem(error.message);
  } finally {
    if (turn === newest) $("busy").hidden = true;
  }
}

const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
const decode = (blob) => createImageBitmap(blob, { imageOrientation: "from-image" });

function draw() {
  const { original, overlay, regions, width, height } = shown;
  if (!overlay) return;
  canvas.width = overlay.width;
  canvas.height = overlay.height;
  const context = canvas.getContext("2d");
  context.drawImage(original, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = $("opacity").value / 100;
  context.drawImage(overlay, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 1;
  if (!$("outlines").checked) return;
  const scaleX = canvas.width / width;
  const scaleY = canvas.height / height;
  const line = Math.max(1.5, Math.max(canvas.width, canvas.height) / 300);
  for (const region of regions) {
    const box = [region.x * scaleX, region.y * scaleY, region.width * scaleX, region.height * scaleY];
    // Dark under light: seen on any part.
    context.lineWidth = 2 * line;
    context.strokeStyle = "#000a";
    context.strokeRect(...box);
    context.lineWidth = line;
    context.strokeStyle = "#5ff";
    context.strokeRect(...box);
  }
}

const VERDICTS = {
  pass: ["✓ PASS", "passed"], review: ["? REVIEW", "left to a person"], fail: ["✕ FAIL", "failed"],
};

function showResult(answer) {
  const [sign, outcome] = VERDICTS[answer.verdict];
  $("hint").hidden = $("invitation").hidden = true;
  $("answer").hidden = $("view").hidden = canvas.hidden = false;
  $("drop").classList.add("filled");
  $("verdict").className = `verdict ${answer.verdict}`;
  $("verdict").textContent = sign;
  canvas.setAttribute("aria-label", `The inspected image, ${outcome}, ` +
    `with ${answer.regions.length} suspicious region${answer.regions.length === 1 ? "" : "s"}`);
  $("unknown").hidden = !answer.unknown_part;
  const share = answer.threshold > 0 ? answer.score / (2 * answer.threshold) : 1;
  $("score-bar").className = `score-bar ${answer.verdict}`;
  $("score-bar").style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  const part = engine?.part_classes.find(({ name }) => name === answer.part_class);
  const review = part?.review_threshold ?? null;
  $("review-mark").hidden = review === null || answer.threshold <= 0;
  $("review-mark").style.left = `${Math.max(0, 50 * (review ?? 0) / answer.threshold)}%`;
  showFacts($("facts"), {
    Score: number(answer.score),
    Threshold: number(answer.threshold),
    ...(review === null ? {} : { "Review above": number(review) }),
    "p-value": number(answer.p_value, 3),
    "Part class": `${answer.part_class} (${answer.part_class_source})`,
    Image: `${answer.image.width} × ${answer.image.height}`,
  });
  $("regions").replaceChildren(...answer.regions.map((region) => {
    const item = document.createElement("li");
    item.textContent = `${region.width} × ${region.height} at ${region.x}, ${region.y}; peak ${number(region.peak, 3)}`;
    return item;
  }));
  if (!answer.regions.length) $("regions").textContent = "none";
  showFacts($("timing"), Object.fromEntries(
    Object.entries(answer.timing_ms).map(([stage, time]) => [stage, `${time.toFixed(2)} ms`])));
}

function showFacts(list, facts) {
  list.replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
    const term = document.createElement("dt");
    const fact = document.createElement("dd");
    term.textContent = name;
    fact.textContent = value;
    return [term, fact];
  }));
}

function showProblem(sentence) {
  $("problem").textContent = sentence || "The service does not answer.";
  $("problem").hidden = false;
  $("hint").hidden = $("answer").hidden = $("view").hidden = canvas.hidden = true;
  $("invitation").hidden = false;
  $("drop").classList.remove("filled");
}

let latest = null;
function take(file) {
  if (!file) return;
  latest = file;
  inspect(file);
}

for (const id of ["file", "camera"]) {
  $(id).addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = "";
  });
}
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
$("opacity").addEventListener("input", draw);
$("outlines").addEventListener("change", draw);
describeEngine();
