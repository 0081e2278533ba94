// One stream from start to end: publishes, plays the result, polls the status.

import { streamUrl } from "./endpoints.js";
import { LiveStream } from "./livestream.js";
import { Player } from "./player.js";
import { StatusPoller, fetchStatus } from "./poller.js";
import { VideoStats } from "./stats.js";
import { WhipPublisher } from "./whip.js";
import { GATEWAY_SILENT, MEDIA_LOST, SOURCE_ENDED, STREAM_FORGOTTEN, TAKEN_OVER, explainEnd } from "./messages.js";

const FINAL_POLLS = 10;
const FINAL_POLL_MS = 300;

/**
 * Calls `on.state(key)` with a key of messages.STATES, `on.status(json)`, `on.warning(sentence or null)` for a
 * problem that may pass, `on.picture(flows)`, `on.playProblem(error)`, `on.playedBy(node or null)`, and once, at the
 * end, `on.over(sentence or null)`.
 */
export class Session {
  #requestId = null;
  #over = false;
  #poller = null;
  #player = null;
  #sent = null;
  #received = null;

  constructor({ name, pipeline, orchestrator, params, publishToken, playToken }, source, video, on) {
    Object.assign(this, { source, on });
    this.stream = new LiveStream(document.baseURI, name, { publishToken, playToken });
    const filled = Object.keys(params).length ? JSON.stringify(params) : "";
    const query = { pipeline, orchestrator, params: filled };
    this.publisher = new WhipPublisher(streamUrl(name, "whip", query), publishToken);
    this.statusUrl = this.stream.urls.status;
    this.#player = new Player(video, this.stream.urls.whep, playToken, {
      playing: () => this.on.picture(true),
      waiting: () => this.on.picture(false),
      problem: (error) => this.on.playProblem(error),
      node: (name) => this.on.playedBy(name),
    });
  }

  /** Whether it is ending or has ended. */
  get over() {
    return this.#over;
  }

  /** Publish; resolves when the gateway has accepted. Throws errors that messages.explain explains. */
  async start() {
    this.source.onEnded(() => this.#finish(SOURCE_ENDED));
    this.publisher.lost.then(() => this.#finish(MEDIA_LOST));
    await this.publisher.publish(this.source.media);
    if (this.#over) return;
    this.#sent = new VideoStats(this.publisher.connection, "outbound-rtp");
    this.#poller = new StatusPoller(this.statusUrl, {
      status: (status) => this.#show(status),
      silent: () => this.on.warning(GATEWAY_SILENT),
      forgotten: () => this.#finish(STREAM_FORGOTTEN),
    });
    this.#poller.start();
    this.#player.run();
  }

  /** Send new parameters to the worker. Throws Refused or NotReached. */
  async update(params) {
    await this.stream.update(params);
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

  /** Stop, because the user asked for it. */
  stop() {
    return this.#finish(null, { resume: "false" });
  }

  /**
   * Release everything at once, without waiting for an answer: the page is being left, or reloaded. The gateway holds
   * the paid job for a while, unless `query` says otherwise.
   */
  abandon(query = {}) {
    this.#over = true;
    this.#poller?.stop();
    this.#player.stop();
    this.source.stop();
    return this.publisher.close(query);
  }

  #show(status) {
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

  async #finish(sentence, query = {}) {
    if (this.#over) return;
    this.on.state("stopping");
    await this.abandon(query);
    const ended = this.#poller && (await this.#finalStatus());
    // A gateway that ends a stream closes the media path, too: show its reason.
    const told = sentence === MEDIA_LOST && ended && ended.reason !== "deleted";
    this.on.over(told ? explainEnd(ended) : sentence);
  }

  // The last payments are counted after the end: poll until the status says that it has ended.
  async #finalStatus() {
    for (let polls = 0; polls < FINAL_POLLS; polls += 1) {
      const status = await fetchStatus(this.statusUrl).catch(() => null);
      const id = status?.gateway_status?.request_id;
      if (!id || id !== (this.#requestId ??= id)) return null;
      this.on.status(status);
      if (status.gateway_status.ended) return status.gateway_status.ended;
      await new Promise((resolve) => setTimeout(resolve, FINAL_POLL_MS));
    }
    return null;
  }
}
