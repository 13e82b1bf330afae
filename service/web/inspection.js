// An inspection's verdict, scale and facts, as macros.html writes them.

const ASK_EACH_MS = 5000;
const WORDS = { pass: "✓ PASS", review: "? REVIEW", fail: "✕ FAIL" };

export const number = (value, digits = 4) => {
  const text = Number(value).toPrecision(digits);
  return text.includes("e") ? Number(value).toExponential(digits - 1) : text;
};
export const milliseconds = (value) => `${value.toFixed(1)} ms`;

export function verdictElement(verdict, big = false) {
  const element = document.createElement("span");
  element.className = `verdict ${verdict}${big ? " big" : ""}`;
  element.textContent = WORDS[verdict];
  return element;
}

export function showScale(svg, { score, threshold }, reviewThreshold) {
  const percent = (value) => (threshold > 0 ? Math.min(100, Math.max(0, (50 * value) / threshold)) : 100 * (score > threshold));
  const review = reviewThreshold ?? null;
  const state = score > threshold ? "fail" : review !== null && score > review ? "review" : "pass";
  const bar = svg.querySelector(".score");
  bar.setAttribute("class", `score ${state}`);
  bar.setAttribute("width", `${percent(score)}%`);
  let mark = svg.querySelector(".mark.review");
  if (review === null || threshold <= 0) mark?.remove();
  else {
    if (!mark) {
      mark = svg.querySelector(".mark").cloneNode();
      mark.setAttribute("class", "mark review");
      svg.querySelector(".mark").before(mark);
    }
    mark.setAttribute("x", `${percent(review)}%`);
  }
  svg.querySelector("text").textContent = `threshold ${number(threshold)}`;
  svg.setAttribute("aria-label", `Score ${number(score)}, threshold ${number(threshold)}`);
}

export function showFacts(list, facts) {
  list.replaceChildren(...Object.entries(facts).map(([name, value]) => {
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const fact = document.createElement("dd");
    term.textContent = name;
    fact.textContent = value ?? "–";
    row.append(term, fact);
    return row;
  }));
}

// Review thresholds of the engines that served while the page was open.
export class ReviewThresholds {
  #engines = new Map();
  #asking = null;
  #askedAt = 0;

  // Of the engine and the part class of an inspection; null where there is none or nobody knows.
  async of({ engine, part_class }) {
    const key = `${engine.name} ${engine.version}`;
    if (!this.#engines.has(key) && Date.now() - this.#askedAt > ASK_EACH_MS) {
      this.#askedAt = Date.now();
      this.#asking = this.#ask();
    }
    await this.#asking;
    return this.#engines.get(key)?.find(({ name }) => name === part_class)?.review_threshold ?? null;
  }

  async #ask() {
    try {
      const response = await fetch("/v1/engine");
      if (!response.ok) return;
      const engine = await response.json();
      this.#engines.set(`${engine.name} ${engine.version}`, engine.part_classes);
    } catch {
      // The scale goes without the mark; the page says itself when the service does not answer.
    }
  }
}
