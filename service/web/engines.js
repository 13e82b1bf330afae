// Keeps the engines page up to date: asks for it again and takes over the parts that are new.

import { localTime } from "/web/page.js";

const BUSY_SECONDS = 2;
const QUIET_SECONDS = 15;
const connection = document.getElementById("connection");
const news = document.getElementById("news");

// A part as the server wrote it, whatever the browser's clock and its visitor have made of it.
function written(part) {
  const copy = part.cloneNode(true);
  for (const time of copy.querySelectorAll("time[title]")) {
    time.textContent = time.title;
    time.removeAttribute("title");
  }
  for (const opened of copy.querySelectorAll("details[open]")) opened.removeAttribute("open");
  return copy.outerHTML;
}

function takeOver(fresh) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const other = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
    // Nothing is taken away under somebody's hands.
    if (!other || written(other) === written(part) || part.contains(document.activeElement)) continue;
    for (const time of other.querySelectorAll("time[datetime]")) {
      time.title = time.textContent;
      time.textContent = localTime(new Date(time.dateTime));
    }
    for (const opened of part.querySelectorAll("details[open][id]")) {
      other.querySelector(`#${CSS.escape(opened.id)}`)?.setAttribute("open", "");
    }
    part.replaceWith(document.adoptNode(other));
  }
  const stages = [...document.querySelectorAll("[data-stage]")].map((stage) => stage.textContent).join(". ");
  if (news.textContent !== stages) news.textContent = stages;
}

async function ask() {
  if (!document.hidden) {
    try {
      const response = await fetch("/engines", { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(10_000) });
      // The session is over: the server says what comes next.
      if (response.redirected) return location.assign("/engines");
      if (!response.ok) throw new Error();
      takeOver(new DOMParser().parseFromString(await response.text(), "text/html"));
      connection.hidden = true;
    } catch {
      connection.textContent = "The service does not answer; this page is as it was, and asks again.";
      connection.hidden = false;
    }
  }
  plan();
}

function plan() {
  const busy = document.querySelector('[data-busy="true"]') !== null;
  setTimeout(ask, 1000 * (busy ? BUSY_SECONDS : QUIET_SECONDS));
}

plan();
