// Plays a stream over HLS by Media Source Extensions, where WebRTC finds no way. Shows it some seconds later.

import { authorization, request, Refused } from "./request.js";

const BEHIND_S = 1.5;
const TOO_FAR_BEHIND_S = 4;
const KEPT_S = 20;
const RETRY_MS = 1000;
const TELL_MS = 250;
const GIVE_UP = new Set([400, 401, 403]);

/** What a playlist lists: `codecs`, and segments with their number, header, URL and the time that they began. */
export function parsePlaylist(text, url) {
  let codecs = "";
  let number = 0;
  let header = null;
  let began = NaN;
  const segments = [];
  for (const line of text.split("\n")) {
    const [tag, value] = [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1)];
    if (line.startsWith("# codecs=")) codecs = line.slice("# codecs=".length);
    else if (tag === "#EXT-X-MEDIA-SEQUENCE") number = Number(value);
    else if (tag === "#EXT-X-MAP") header = new URL(value.match(/URI="([^"]*)"/)[1], url);
    else if (tag === "#EXT-X-PROGRAM-DATE-TIME") began = Date.parse(value);
    else if (line && !line.startsWith("#")) {
      segments.push({ number: number + segments.length, header, url: new URL(line, url), began });
    }
  }
  return { codecs, segments };
}

/** As Player of player.js: calls `on.playing()`, `on.waiting()` and `on.problem(error)`. */
export class HlsPlayer {
  #stopped = false;
  #stop = new AbortController();
  #next = -1;
  #header = "";
  #buffer = null;
  #shown = [];
  #telling = 0;

  constructor(video, url, token, on = {}) {
    this.video = video;
    this.url = url;
    this.token = token;
    this.on = on;
  }

  /** Milliseconds from a picture's way out of the gateway until it is shown; NaN while nothing is. */
  get delay() {
    const now = this.video.currentTime;
    const at = this.#shown.findLast((segment) => segment.from <= now);
    return at ? Date.now() - at.began - (now - at.from) * 1000 : NaN;
  }

  async run() {
    const tell = () => (this.video.dataset.delayMs = String(Math.round(this.delay)));
    this.#telling = setInterval(tell, TELL_MS);
    while (!this.#stopped) {
      try {
        await this.#attach();
        while (!this.#stopped) await this.#load();
      } catch (error) {
        if (this.#stopped) return;
        this.on.problem?.(error);
        if (error instanceof Refused && GIVE_UP.has(error.status)) return;
        this.on.waiting?.();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  stop() {
    this.#stopped = true;
    this.#stop.abort();
    clearInterval(this.#telling);
    this.video.removeAttribute("src");
    this.video.load();
  }

  async #attach() {
    this.#next = -1;
    this.#header = "";
    this.#buffer = null;
    this.#shown = [];
    this.source = new MediaSource();
    const opened = new Promise((resolve) => this.source.addEventListener("sourceopen", resolve, { once: true }));
    this.video.srcObject = null;
    this.video.src = URL.createObjectURL(this.source);
    await opened;
    URL.revokeObjectURL(this.video.src);
  }

  async #get(url) {
    const abort = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(15000)]);
    return request(url, { headers: authorization(this.token), cache: "default", signal: abort });
  }

  async #load() {
    const url = new URL(this.url);
    if (this.#next >= 0) url.searchParams.set("_HLS_msn", String(this.#next));
    const { codecs, segments } = parsePlaylist(await (await this.#get(url)).text(), this.url);
    const fresh = segments.filter((segment) => segment.number >= this.#next);
    // The first time, only the newest: older ones would only be skipped.
    for (const segment of this.#next < 0 ? fresh.slice(-2) : fresh) {
      await this.#append(segment, codecs);
      this.#next = segment.number + 1;
      await this.#forget();
      this.#keepUp();
      this.on.playing?.();
    }
  }

  async #append(segment, codecs) {
    if (segment.header.href !== this.#header) {
      const type = `video/mp4; codecs="${codecs}"`;
      if (this.#buffer) this.#buffer.changeType(type);
      else this.#buffer = this.source.addSourceBuffer(type);
      // Times begin anew with each header; in this mode they follow what was there before.
      this.#buffer.mode = "sequence";
      await this.#feed(await (await this.#get(segment.header)).arrayBuffer());
      this.#header = segment.header.href;
    }
    const data = await (await this.#get(segment.url)).arrayBuffer();
    const buffered = this.#buffer.buffered;
    const from = buffered.length ? buffered.end(buffered.length - 1) : 0;
    await this.#feed(data);
    this.#shown = [...this.#shown.slice(-30), { from, began: segment.began }];
  }

  #feed(data) {
    return this.#updated(() => this.#buffer.appendBuffer(data));
  }

  #updated(change) {
    return new Promise((resolve, reject) => {
      this.#buffer.addEventListener("updateend", resolve, { once: true });
      this.#buffer.addEventListener("error", reject, { once: true });
      change();
    });
  }

  #keepUp() {
    const { video } = this;
    const { buffered } = this.#buffer;
    if (!buffered.length) return;
    const [start, end] = [buffered.start(0), buffered.end(buffered.length - 1)];
    const behind = end - video.currentTime;
    if (video.currentTime < start || behind < 0 || behind > TOO_FAR_BEHIND_S) {
      video.currentTime = Math.max(start, end - BEHIND_S);
    }
    if (video.paused) video.play().catch(() => undefined);
  }

  async #forget() {
    const { buffered } = this.#buffer;
    const old = this.video.currentTime - KEPT_S;
    if (!buffered.length || old <= buffered.start(0)) return;
    await this.#updated(() => this.#buffer.remove(buffered.start(0), old));
  }
}
