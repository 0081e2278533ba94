// Publishing: WHIP, RFC 9725.

import { HttpPeer, preferH264 } from "./peer.js";

/** The encoder's highest bit rate, in bits per second, by the picture's height. */
const BITRATE_BPS = [
  [1080, 4_500_000],
  [720, 2_500_000],
  [480, 1_500_000],
  [0, 900_000],
];

export class WhipPublisher extends HttpPeer {
  /** Publish the first video track of `media`, and its first audio track if it has one. */
  async publish(media) {
    const [video] = media.getVideoTracks();
    const [audio] = media.getAudioTracks();
    const transceiver = this.connection.addTransceiver(video, {
      direction: "sendonly",
      streams: [media],
      sendEncodings: [{ maxBitrate: maxBitrate(video.getSettings().height) }],
    });
    preferH264(transceiver, RTCRtpSender);
    if (audio) this.connection.addTransceiver(audio, { direction: "sendonly", streams: [media] });
    return this.negotiate();
  }
}

export function maxBitrate(height = 720) {
  return BITRATE_BPS.find(([atLeast]) => height >= atLeast)[1];
}
