// Polls a stream's status once a second.

import { request, Refused } from "./request.js";

const INTERVAL_MS = 1000;
const TIMEOUT_MS = 4000;
const MISSES = 2;

/** Calls `on.status(json)`, `on.silent()` when the gateway stops answering, `on.forgotten()` on 404s. */
export class StatusPoller {
  #misses = 0;
  #stopped = false;
  #timer = 0;

  constructor(url, on) {
    this.url = url;
    this.on = on;
  }

  start() {
    this.#poll();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  async #poll() {
    const began = performance.now();
    try {
      const status = await fetchStatus(this.url);
      if (this.#stopped) return;
      this.#misses = 0;
      this.on.status(status);
    } catch (error) {
      if (this.#stopped) return;
      this.#misses += 1;
      if (this.#misses >= MISSES) this.#missed(error);
    }
    const rest = Math.max(100, INTERVAL_MS - (performance.now() - began));
    if (!this.#stopped) this.#timer = setTimeout(() => this.#poll(), rest);
  }

  #missed(error) {
    if (error instanceof Refused && error.status === 404) this.on.forgotten();
    else this.on.silent();
  }
}

export async function fetchStatus(url) {
  return (await request(url, { timeoutMs: TIMEOUT_MS })).json();
}
