// The newest inspection as it happens, and the last dozen to step through.

import { Connection } from "/web/connection.js";
import { milliseconds, number, ReviewThresholds, showFacts, showScale, verdictElement } from "/web/inspection.js";
import { localTime } from "/web/page.js";
import { show } from "/web/picture.js";

const SHOWN = 12;
// A line that is faster is shown in part: nobody sees more, and pictures take the service's time.
const SHOW_EACH_MS = 400;
const ANNOUNCE_EACH_MS = 5000;
const CATCH_UP_MS = 4000;

const $ = (id) => document.getElementById(id);
const station = $("live").dataset.station;
const thresholds = new ReviewThresholds();
let records = [];
let waiting = [];
let paused = false;
let shownId = null;
let drawnId = $("open").href.split("/history/")[1];
let turn = 0;
let timer = null;
let drawnAt = 0;
let announcedAt = 0;

function take(record) {
  if ((station && record.station !== station) || records.some(({ id }) => id === record.id)) return;
  if (paused) {
    waiting = newestOf([record, ...waiting]);
    showPause();
  } else {
    records = newestOf([record, ...records]);
    drawSoon();
  }
}

// An interrupted stream tells some twice, and ids sort by time.
const newestOf = (some) => [...new Map(some.map((record) => [record.id, record])).values()]
  .sort((one, other) => (one.id < other.id ? 1 : -1)).slice(0, SHOWN);

function drawSoon() {
  if (timer !== null || document.hidden) return;
  timer = setTimeout(() => {
    timer = null;
    draw();
  }, Math.max(0, drawnAt + SHOW_EACH_MS - Date.now()));
}

function draw() {
  drawnAt = Date.now();
  if (!records.length) return;
  if (!paused) shownId = records[0].id;
  const record = records.find(({ id }) => id === shownId) ?? records[0];
  $("none").hidden = true;
  $("live").hidden = $("newest").hidden = false;
  drawStrip(record);
  drawResult(record);
}

function drawStrip(shown) {
  const focused = document.activeElement?.closest?.(".tile")?.dataset.id;
  $("strip").replaceChildren(...records.map((record) => {
    const item = document.createElement("li");
    const tile = document.createElement("a");
    tile.className = "tile";
    tile.href = `/history/${record.id}`;
    tile.dataset.id = record.id;
    if (record.id === shown.id) tile.setAttribute("aria-current", "true");
    const part = document.createElement("span");
    part.textContent = record.part_class;
    const time = document.createElement("time");
    time.className = "muted";
    time.dateTime = record.time;
    time.textContent = new Date(record.time).toLocaleTimeString();
    tile.append(verdictElement(record.verdict), " ", part, " ", time);
    item.append(tile);
    return item;
  }));
  if (focused) $("strip").querySelector(`[data-id="${focused}"]`)?.focus();
}

async function drawResult(record) {
  if (record.id === drawnId) return;
  drawnId = record.id;
  const mine = ++turn;
  const isCurrent = () => mine === turn;
  const path = `/v1/inspections/${record.id}`;
  const picture = show(document.querySelector("[data-picture]"), {
    photo: `${path}/image?browser=true`,
    heat: `${path}/heatmap?kind=layer`,
    ...record.image,
    regions: record.regions,
  }, isCurrent);
  const review = await thresholds.of(record);
  await picture;
  if (!isCurrent()) return;
  $("verdict").replaceChildren(verdictElement(record.verdict, true));
  $("unknown").hidden = !record.unknown_part;
  showScale($("scale").querySelector("svg"), record, review);
  showFacts($("facts").querySelector("dl"), {
    "Part class": `${record.part_class} (${record.part_class_source})`,
    Part: record.part_id,
    Station: record.station,
    Time: localTime(new Date(record.time)),
    Score: number(record.score),
    "p-value": number(record.p_value, 3),
    "Execution time": milliseconds(record.timing_ms.total),
  });
  $("open").href = `/history/${record.id}`;
  announce(record);
}

// For who listens to the page: not each of a fast line's parts, and the bad ones first.
function announce({ verdict, part_class }) {
  if (verdict === "pass" && Date.now() - announcedAt < ANNOUNCE_EACH_MS) return;
  announcedAt = Date.now();
  $("announcement").textContent = `${part_class}: ${verdict}`;
}

function setPaused(value) {
  paused = value;
  if (!paused) {
    records = newestOf([...waiting, ...records]);
    waiting = [];
    draw();
  }
  showPause();
}

function showPause() {
  $("pause").textContent = !paused ? "Pause" : waiting.length ? `Go on (${waiting.length} new)` : "Go on";
}

function showRecord(id) {
  setPaused(true);
  shownId = id;
  draw();
}

function step(by) {
  const at = records.findIndex(({ id }) => id === shownId);
  const next = records[at + by];
  if (next) showRecord(next.id);
}

async function catchUp() {
  const query = new URLSearchParams({ limit: SHOWN, ...(station ? { station } : {}) });
  try {
    const response = await fetch(`/v1/inspections?${query}`, { signal: AbortSignal.timeout(CATCH_UP_MS) });
    if (response.ok) for (const record of (await response.json()).inspections) take(record);
  } catch {
    // The connection says that it is lost.
  }
}

document.querySelector(".stations select").addEventListener("change", (event) => event.target.form.submit());
$("connection").textContent = "Connecting …";
// What is pressed before would find nothing to step through.
await catchUp();
draw();

$("pause").addEventListener("click", () => setPaused(!paused));
$("older").addEventListener("click", () => step(1));
$("newer").addEventListener("click", () => step(-1));
$("strip").addEventListener("click", (event) => {
  const tile = event.target.closest(".tile");
  if (!tile?.dataset.id || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  showRecord(tile.dataset.id);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "ArrowLeft") step(1);
  else if (event.key === "ArrowRight") step(-1);
  else if (event.key === " " && !event.target.closest("button, a, summary")) setPaused(!paused);
  else return;
  event.preventDefault();
});
document.addEventListener("visibilitychange", drawSoon);

for (const id of ["pause", "older", "newer", "keys"]) $(id).hidden = false;

new Connection({
  inspection: take,
  connected() {
    $("connection").textContent = "Live";
    $("connection").classList.add("live");
    $("live").classList.remove("stale");
    $("lost").hidden = true;
    document.querySelector("main > .problem:not(#lost)")?.remove();
    catchUp();
  },
  lost(sentence) {
    $("connection").textContent = "Not live";
    $("connection").classList.remove("live");
    $("live").classList.add("stale");
    $("lost").textContent = sentence;
    $("lost").hidden = false;
  },
});
