// Publishes media, and publishes it again where the connection is lost: the gateway goes on with the paid job.

import { NoH264 } from "./peer.js";
import { Refused } from "./request.js";
import { WhipPublisher } from "./whip.js";

const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 3000;
/** Statuses after which another try may be accepted: the name is free a little later, or the gateway drains. */
const MAY_PASS = new Set([408, 409, 429, 500, 502, 503, 504]);

/**
 * An EventTarget: `reconnecting` when the connection is lost, `connected` when it is back, and at the end `ended`, whose
 * `detail` is the error, or null after `stop`.
 */
export class Publication extends EventTarget {
  #peer = null;
  #over = false;

  /** `resumeMs`: for how long to try again after a loss. Longer than the gateway's -resumeTimeout makes a new job. */
  constructor(url, media, token = "", { resumeMs = 10_000 } = {}) {
    super();
    Object.assign(this, { url, media, token, resumeMs });
  }

  /** The present peer connection, for its statistics. */
  get connection() {
    return this.#peer?.connection ?? null;
  }

  get over() {
    return this.#over;
  }

  /** Publish; resolves when the gateway has accepted. Throws Refused, NotReached or NoH264. */
  async start() {
    try {
      await this.#publish();
    } catch (error) {
      this.#over = true;
      throw error;
    }
    this.#keep();
  }

  /** End the stream, and what it costs. The media's tracks go on: they are the caller's. */
  stop() {
    return this.#end(null, { resume: "false" });
  }

  /** Leave without ending it, such as on `pagehide`: who publishes the name again soon goes on with the paid job. */
  leave() {
    return this.#end(null, {});
  }

  async #publish() {
    const peer = new WhipPublisher(this.url, this.token);
    this.#peer = peer;
    try {
      await peer.publish(this.media);
    } catch (error) {
      peer.close();
      throw error;
    }
  }

  async #keep() {
    while (!this.#over) {
      await this.#peer.lost;
      if (this.#over) return;
      this.dispatchEvent(new Event("reconnecting"));
      this.#peer.close();
      const error = await this.#publishAgain();
      if (error) await this.#end(error, {});
      else if (!this.#over) this.dispatchEvent(new Event("connected"));
    }
  }

  async #publishAgain() {
    const until = performance.now() + this.resumeMs;
    for (let failures = 0; !this.#over; failures += 1) {
      try {
        await this.#publish();
        return null;
      } catch (error) {
        const final = error instanceof NoH264 || (error instanceof Refused && !MAY_PASS.has(error.status));
        if (final || performance.now() > until) return error;
      }
      await new Promise((resolve) => setTimeout(resolve, Math.min(FIRST_WAIT_MS * 2 ** failures, LONGEST_WAIT_MS)));
    }
    return null;
  }

  async #end(error, query) {
    if (this.#over) return;
    this.#over = true;
    await this.#peer?.close(query);
    this.dispatchEvent(new CustomEvent("ended", { detail: error }));
  }
}
