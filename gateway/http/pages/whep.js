// Watching: WHEP, draft-ietf-wish-whep.

import { HttpPeer, preferH264 } from "./peer.js";

export class WhepViewer extends HttpPeer {
  /** Connect, and show the picture in `element` when the stream has one. */
  async watch(element) {
    const media = new MediaStream();
    element.srcObject = media;
    this.connection.addEventListener("track", ({ track }) => media.addTrack(track));
    preferH264(this.connection.addTransceiver("video", { direction: "recvonly" }), RTCRtpReceiver);
    this.connection.addTransceiver("audio", { direction: "recvonly" });
    return this.negotiate();
  }
}
