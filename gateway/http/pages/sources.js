// Where pictures and sound come from: camera, screen or the moving test picture, and the microphone.

import { TestPicture } from "./testpicture.js";

const FRAME_RATE = 30;

/** Why there is no picture to send; `kind` is one that messages.js has a sentence for. */
export class SourceFailed extends Error {
  constructor(kind, cause) {
    super(kind, { cause });
    this.name = "SourceFailed";
    this.kind = kind;
  }
}

/** An open source: a MediaStream, and `stop` that gives every device back. */
export class Source {
  #parts;

  constructor(...parts) {
    this.#parts = parts;
    this.media = new MediaStream(parts.flatMap((part) => (part.stream ?? part).getTracks()));
  }

  /** Call back once when the device is unplugged or its user stops sharing it. */
  onEnded(callback) {
    this.media.getVideoTracks()[0].addEventListener("ended", callback, { once: true });
  }

  stop() {
    for (const part of this.#parts) {
      if (part.stream) part.stop();
      else for (const track of part.getTracks()) track.stop();
    }
  }
}

/** Open `kind` ("camera", "screen" or "test") at about `width` x `height`. Throws SourceFailed. */
export async function openSource(kind, { width, height, microphone }) {
  const picture = await openPicture(kind, width, height);
  if (!microphone) return new Source(picture);
  try {
    return new Source(picture, await devices("microphone").getUserMedia({ audio: true }));
  } catch (error) {
    new Source(picture).stop();
    throw asSourceFailed("microphone", error);
  }
}

async function openPicture(kind, width, height) {
  if (kind === "test") return new TestPicture(width, height);
  const video = { width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: FRAME_RATE } };
  try {
    if (kind === "camera") return await devices(kind).getUserMedia({ video });
    if (!devices(kind).getDisplayMedia) throw new SourceFailed("screen_unsupported");
    return await devices(kind).getDisplayMedia({ video, audio: false });
  } catch (error) {
    throw asSourceFailed(kind, error);
  }
}

// Browsers take `navigator.mediaDevices` away where the page came over plain http.
function devices(kind) {
  if (!navigator.mediaDevices) throw new SourceFailed(`${kind}_insecure`);
  return navigator.mediaDevices;
}

function asSourceFailed(kind, error) {
  if (error instanceof SourceFailed) return error;
  const why = { NotAllowedError: "refused", NotFoundError: "missing", NotReadableError: "busy" };
  return new SourceFailed(`${kind}_${why[error.name] ?? "failed"}`, error);
}
