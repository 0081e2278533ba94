// What WHIP and WHEP share: a complete offer with H.264 first, one POST, one DELETE.

import { authorization, request } from "./request.js";

const GATHERING_MS = 1000;
const DELETE_MS = 3000;

/** The browser has no H.264, the one video codec that the gateway takes. */
export class NoH264 extends Error {}

/** H.264 with packetization mode 1 first, then other H.264, then the rest in the browser's order. */
export function h264First(codecs) {
  const rank = (codec) => {
    if (codec.mimeType.toLowerCase() !== "video/h264") return 2;
    return /packetization-mode=1/.test(codec.sdpFmtpLine || "") ? 0 : 1;
  };
  return [...codecs].sort((a, b) => rank(a) - rank(b));
}

/** Put H.264 first in the transceiver's codecs. Throws NoH264. */
export function preferH264(transceiver, endpoint) {
  const ordered = h264First(endpoint.getCapabilities("video")?.codecs ?? []);
  if (ordered[0]?.mimeType.toLowerCase() !== "video/h264") throw new NoH264();
  transceiver.setCodecPreferences(ordered);
}

/** One WebRTC session: a POST of an offer opens it, a DELETE of its Location ends it. */
export class HttpPeer {
  #lost;
  #noteLost;

  constructor(url, token) {
    this.#lost = new Promise((resolve) => (this.#noteLost = resolve));
    this.url = url;
    this.token = token;
    this.location = null;
    /** The node of a cluster that serves the session; null where there is one gateway only. */
    this.node = null;
    this.closed = false;
    this.query = {};
    this.connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  }

  /** Offer, POST, apply the answer; gives the POST's response. Throws Refused, NotReached or NoH264. */
  async negotiate() {
    await this.connection.setLocalDescription();
    await gathered(this.connection);
    const response = await request(this.url, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", ...authorization(this.token) },
      body: this.connection.localDescription.sdp,
    });
    const location = response.headers.get("Location");
    this.node = response.headers.get("Livepeer-Node");
    this.location = location ? new URL(location, response.url || this.url) : null;
    const sdp = await response.text();
    if (this.closed) {
      this.#delete();
      return response;
    }
    await this.connection.setRemoteDescription({ type: "answer", sdp });
    this.#watchTransport();
    return response;
  }

  /** Resolves when the media path is gone: ICE failed, or the gateway closed it. */
  get lost() {
    return this.#lost;
  }

  /** Send DELETE, with `query`, then close. May be called again, and while the page is being left. */
  async close(query = {}) {
    if (this.closed) return;
    this.closed = true;
    this.query = query;
    this.#noteLost();
    // Closed first, the gateway would take it for a lost connection.
    await this.#delete();
    this.connection.close();
  }

  // Chromium stays "connected" for half a minute after a DTLS close_notify: check the transport, too.
  #watchTransport() {
    const [transceiver] = this.connection.getTransceivers();
    const transport = transceiver.sender.transport ?? transceiver.receiver.transport;
    const look = () => {
      const states = [this.connection.connectionState, transport?.state];
      if (states.some((state) => state === "failed" || state === "closed")) this.#noteLost();
    };
    this.connection.addEventListener("connectionstatechange", look);
    transport?.addEventListener("statechange", look);
    look();
  }

  async #delete() {
    if (!this.location) return;
    const url = new URL(this.location);
    for (const [key, value] of Object.entries(this.query)) url.searchParams.set(key, value);
    const headers = authorization(this.token);
    const options = { method: "DELETE", keepalive: true, timeoutMs: DELETE_MS, headers };
    // If DELETE fails, the gateway ends the session a little later by itself.
    await request(url, options).catch(() => undefined);
  }
}

function gathered(connection) {
  if (connection.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    const enough = setTimeout(resolve, GATHERING_MS);
    connection.addEventListener("icegatheringstatechange", () => {
      if (connection.iceGatheringState !== "complete") return;
      clearTimeout(enough);
      resolve();
    });
  });
}
