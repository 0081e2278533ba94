// Plays a stream over WHEP in one video element, and connects again after every failure.

import { NoH264 } from "./peer.js";
import { Refused } from "./request.js";
import { WhepViewer } from "./whep.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const STALL_MS = 2500;
const NO_WAY_MS = 8000;
const GIVE_UP = new Set([400, 401, 403, 406]);

/**
 * Calls `on.playing()` when frames come, `on.waiting()` when they stop, `on.problem(error)` after a failure, and
 * `on.noWay()` where an answer came but no connection: media does not get through; `on.node(name or null)` when a node of a
 * cluster serves it.
 */
export class Player {
  #stopped = false;
  #viewer = null;
  #stall = 0;
  #wake = () => undefined;

  constructor(video, url, token, on = {}) {
    this.video = video;
    this.url = url;
    this.token = token;
    this.on = on;
  }

  /** The present peer connection, for its statistics; null while there is none. */
  get connection() {
    return this.#viewer?.connection ?? null;
  }

  async run() {
    this.#watchFrames();
    for (let failures = 0; !this.#stopped; ) {
      this.#viewer = new WhepViewer(this.url, this.token);
      try {
        await this.#viewer.watch(this.video);
        this.on.node?.(this.#viewer.node);
        failures = 0;
        const noWay = setTimeout(() => this.#checkWay(), NO_WAY_MS);
        await this.#viewer.lost;
        clearTimeout(noWay);
      } catch (error) {
        failures += 1;
        if (!this.#stopped) this.on.problem?.(error);
        if (error instanceof NoH264 || (error instanceof Refused && GIVE_UP.has(error.status))) break;
      } finally {
        this.#viewer.close();
      }
      if (!this.#stopped) await this.#pause(Math.min(FIRST_WAIT_MS * 2 ** failures, LONGEST_WAIT_MS));
    }
  }

  #checkWay() {
    const state = this.connection?.connectionState;
    if (!this.#stopped && (state === "new" || state === "connecting" || state === "failed")) this.on.noWay?.();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#stall);
    this.#viewer?.close();
    this.#wake();
  }

  #pause(ms) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, ms);
    });
  }

  #watchFrames() {
    if (this.#stopped) return;
    this.video.requestVideoFrameCallback?.(() => {
      if (this.#stopped) return;
      this.on.playing?.();
      clearTimeout(this.#stall);
      this.#stall = setTimeout(() => this.on.waiting?.(), STALL_MS);
      this.#watchFrames();
    });
  }
}
