// Frame rate, bit rate and size, from WebRTC's counters (W3C webrtc-stats).

/** The video entry of a getStats() report: sent (`outbound-rtp`) or received (`inbound-rtp`). */
export function videoEntry(report, type) {
  for (const entry of report.values()) {
    if (entry.type === type && entry.kind === "video") return entry;
  }
  return null;
}

/** Rates from two readings of counters that only grow. */
export class RateMeter {
  #last = null;

  /** Frames and bits per second since the last reading, and the picture's size; null the first time. */
  measure(entry) {
    const now = {
      at: entry.timestamp,
      frames: entry.framesEncoded ?? entry.framesDecoded ?? 0,
      bytes: entry.bytesSent ?? entry.bytesReceived ?? 0,
    };
    const before = this.#last;
    this.#last = now;
    const seconds = before ? (now.at - before.at) / 1000 : 0;
    if (seconds <= 0 || now.frames < before.frames) return null;
    return {
      fps: (now.frames - before.frames) / seconds,
      bitrate: ((now.bytes - before.bytes) * 8) / seconds,
      width: entry.frameWidth ?? 0,
      height: entry.frameHeight ?? 0,
      frames: now.frames,
    };
  }
}

/** Measures one direction of a peer connection. */
export class VideoStats {
  #meter = new RateMeter();

  constructor(connection, type) {
    this.connection = connection;
    this.type = type;
  }

  async measure() {
    const entry = videoEntry(await this.connection.getStats(), this.type);
    return entry && this.#meter.measure(entry);
  }
}

export function bitrateText(bitsPerSecond) {
  if (bitsPerSecond >= 999_500) return `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
  return `${Math.round(bitsPerSecond / 1000)} kbit/s`;
}
