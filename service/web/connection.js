// Listens to the inspections for as long as the page is open, whatever becomes of the connection.

const STREAM = "/v1/inspections/stream";
const AGAIN_MS = 3000;
const LOOK_MS = 5000;
// The stream says something every 15 s, which a page is not told; a cable that was pulled says nothing.
const SILENT_MS = 20000;
const PATIENCE_MS = 4000;
const LOST = "The connection to the service is lost; trying again.";

export class Connection {
  #source = null;
  #heard = 0;

  // Called with: an inspection; nothing once connected; a sentence once not.
  constructor({ inspection, connected, lost }) {
    Object.assign(this, { inspection, connected, lost });
    this.#open();
    setInterval(() => this.#look(), LOOK_MS);
    addEventListener("offline", () => this.lost(LOST));
    addEventListener("online", () => this.#open());
  }

  #open() {
    this.#source?.close();
    const source = this.#source = new EventSource(STREAM);
    this.#heard = Date.now();
    source.onopen = () => {
      this.#heard = Date.now();
      this.connected();
    };
    source.addEventListener("inspection", (event) => {
      this.#heard = Date.now();
      this.inspection(JSON.parse(event.data));
    });
    source.onerror = () => {
      this.lost(LOST);
      // Where it was refused, and not cut off, the browser does not try again.
      if (source.readyState === EventSource.CLOSED) this.#askWhy(source);
    };
  }

  async #askWhy(source) {
    try {
      const asked = new AbortController();
      const response = await fetch(STREAM, { signal: asked.signal });
      // The key was revoked or the session is over: the page leads to the sign-in.
      if (response.status === 401) return location.reload();
      if (!response.ok) this.lost((await response.json()).detail);
      asked.abort();
    } catch {
      // It is lost already.
    }
    setTimeout(() => { if (this.#source === source) this.#open(); }, AGAIN_MS);
  }

  async #look() {
    if (this.#source.readyState !== EventSource.OPEN || Date.now() - this.#heard < SILENT_MS) return;
    try {
      await fetch("/livez", { signal: AbortSignal.timeout(PATIENCE_MS) });
      this.#heard = Date.now();
    } catch {
      this.lost(LOST);
      this.#open();
    }
  }
}
