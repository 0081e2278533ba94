// One stream of a gateway: its URLs and tokens, and what can be done with it.

import { readEvents } from "./events.js";
import { Player } from "./player.js";
import { Publication } from "./publication.js";
import { authorization, request } from "./request.js";

const PREFIX = "live/video-to-video/";
const ACTIONS = ["whip", "whep", "update", "status", "payments", "events"];

export class LiveStream {
  /** The stream `name` of the gateway at `base`. Tokens: `publishToken`, `playToken`, where the gateway asks for them. */
  constructor(base, name, { publishToken = "", playToken = "" } = {}) {
    const root = new URL(base, globalThis.document?.baseURI);
    if (!root.pathname.endsWith("/")) root.pathname += "/";
    this.name = name;
    this.urls = Object.fromEntries(
      ACTIONS.map((action) => [action, new URL(`${PREFIX}${encodeURIComponent(name)}/${action}`, root)]),
    );
    this.tokens = { publish: publishToken, play: playToken };
  }

  /** The stream that `POST live/video-to-video` created, from its answer; `base` completes URLs without a host. */
  static created(answer, base = globalThis.document?.baseURI) {
    const whip = new URL(answer.whip_url, base);
    const root = new URL(whip.pathname.slice(0, whip.pathname.indexOf(PREFIX)), whip);
    const name = decodeURIComponent(whip.pathname.split("/").at(-2));
    const tokens = { publishToken: answer.publish_token, playToken: answer.play_token };
    const stream = new LiveStream(root, name, tokens);
    for (const action of ["whip", "whep", "status", "events"]) {
      if (answer[`${action}_url`]) stream.urls[action] = new URL(answer[`${action}_url`], base);
    }
    return stream;
  }

  /**
   * Publish the first video and audio track of `media`. Gives a Publication once the gateway has accepted; throws
   * Refused, NotReached or NoH264. The options are fields of the WHIP request's query, and those of a Publication.
   */
  async publish(media, { params = {}, resumeMs, ...query } = {}) {
    const url = new URL(this.urls.whip);
    if (Object.keys(params).length) url.searchParams.set("params", JSON.stringify(params));
    for (const [key, value] of Object.entries(query)) if (value) url.searchParams.set(key, value);
    const publication = new Publication(url, media, this.tokens.publish, { resumeMs });
    await publication.start();
    return publication;
  }

  /** Play the result in a video element, now or once there is one, until the Player is stopped. */
  watch(video, on = {}) {
    const player = new Player(video, this.urls.whep, this.tokens.play, on);
    player.run();
    return player;
  }

  /** Send parameters to the worker, all of them. Gives the gateway's answer. Throws Refused or NotReached. */
  async update(params) {
    const headers = { "Content-Type": "application/json", ...authorization(this.tokens.publish) };
    const sent = await request(this.urls.update, { method: "POST", headers, body: JSON.stringify(params) });
    return sent.json();
  }

  /** The gateway's part of the status; the worker's fields stand in `worker`. */
  async status() {
    const { gateway_status: status, ...worker } = await (await request(this.urls.status)).json();
    return { ...status, worker };
  }

  /** What the stream paid to whom, from the ledger. */
  async payments() {
    return (await request(this.urls.payments, { headers: authorization(this.tokens.publish) })).json();
  }

  /** The stream's events as they come, over interruptions: `for await (const event of stream.events())`. */
  events(options = {}) {
    return readEvents(this.urls.events, { token: this.tokens.play, ...options });
  }
}
