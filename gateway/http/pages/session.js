// One stream from Start to its end: publishing, watching the result, asking for the status.

import { streamUrl } from "./endpoints.js";
import { Player } from "./player.js";
import { StatusPoller, fetchStatus } from "./poller.js";
import { authorization, request } from "./request.js";
import { VideoStats } from "./stats.js";
import { WhipPublisher } from "./whip.js";
import { GATEWAY_SILENT, MEDIA_LOST, SOURCE_ENDED, STREAM_FORGOTTEN, TAKEN_OVER, explainEnd } from "./messages.js";

const LAST_LOOKS = 10;
const LAST_LOOK_MS = 300;

/**
 * `on.state(key)` with a key of words.STATES, `on.status(json)`, `on.warning(sentence or null)` for what
 * may pass, `on.over(sentence or null)` once, at the end. `close` may be called at any time.
 */
export class Session {
  #requestId = null;
  #over = false;
  #poller = null;
  #player = null;
  #sent = null;
  #received = null;

  constructor({ name, pipeline, orchestrator, params, publishToken, playToken }, source, video, on) {
    Object.assign(this, { name, publishToken, source, on });
    const filled = Object.keys(params).length ? JSON.stringify(params) : "";
    const query = { pipeline, orchestrator, params: filled };
    this.publisher = new WhipPublisher(streamUrl(name, "whip", query), publishToken);
    this.statusUrl = streamUrl(name, "status");
    this.#player = new Player(video, streamUrl(name, "whep"), playToken, {
      playing: () => this.on.picture(true),
      waiting: () => this.on.picture(false),
      problem: (error) => this.on.playProblem(error),
    });
  }

  /** Whether it is ending or has ended. */
  get over() {
    return this.#over;
  }

  /** Publish; returns once the gateway has taken the stream. Throws what words.explain has words for. */
  async start() {
    this.source.onEnded(() => this.#finish(SOURCE_ENDED));
    this.publisher.lost.then(() => this.#finish(MEDIA_LOST));
    await this.publisher.publish(this.source.media);
    if (this.#over) return;
    this.#sent = new VideoStats(this.publisher.connection, "outbound-rtp");
    this.#poller = new StatusPoller(this.statusUrl, {
      status: (status) => this.#look(status),
      silent: () => this.on.warning(GATEWAY_SILENT),
      forgotten: () => this.#finish(STREAM_FORGOTTEN),
    });
    this.#poller.start();
    this.#player.run();
  }

  /** Hand new parameters to the worker. Throws Refused or NotReached. */
  async update(params) {
    const headers = { "Content-Type": "application/json", ...authorization(this.publishToken) };
    await request(streamUrl(this.name, "update"), { method: "POST", headers, body: JSON.stringify(params) });
  }

  /** Rates of both directions: {sent, received}, each null while unknown. */
  async measure() {
    const connection = this.#player.connection;
    if (connection && this.#received?.connection !== connection) {
      this.#received = new VideoStats(connection, "inbound-rtp");
    }
    const [sent, received] = await Promise.all([this.#sent?.measure(), connection && this.#received.measure()]);
    return { sent: sent ?? null, received: received ?? null };
  }

  /** Stop at the user's wish. */
  stop() {
    return this.#finish(null);
  }

  /** Give everything back at once, without waiting for an answer: the page is being left. */
  abandon() {
    this.#over = true;
    this.#poller?.stop();
    this.#player.stop();
    this.source.stop();
    return this.publisher.close();
  }

  #look(status) {
    const gateway = status.gateway_status ?? {};
    this.#requestId ??= gateway.request_id;
    if (gateway.request_id !== this.#requestId) {
      this.#finish(TAKEN_OVER);
      return;
    }
    this.on.status(status);
    if (gateway.ended) this.#finish(explainEnd(gateway.ended));
    else this.on.warning(gateway.error ? gateway.error.error_message : null);
  }

  async #finish(sentence) {
    if (this.#over) return;
    this.on.state("stopping");
    await this.abandon();
    const ended = this.#poller && (await this.#lastLook());
    // A gateway that ends a stream closes the media path: its reason says more than the closing.
    const told = sentence === MEDIA_LOST && ended && ended.reason !== "deleted";
    this.on.over(told ? explainEnd(ended) : sentence);
  }

  // The last payments are counted only after the end: look until they are.
  async #lastLook() {
    for (let looks = 0; looks < LAST_LOOKS; looks += 1) {
      const status = await fetchStatus(this.statusUrl).catch(() => null);
      const id = status?.gateway_status?.request_id;
      if (!id || id !== (this.#requestId ??= id)) return null;
      this.on.status(status);
      if (status.gateway_status.ended) return status.gateway_status.ended;
      await new Promise((resolve) => setTimeout(resolve, LAST_LOOK_MS));
    }
    return null;
  }
}
