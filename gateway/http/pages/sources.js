// Sources of pictures and sound: camera, screen, test picture, microphone.

import { TestPicture } from "./testpicture.js";

const FRAME_RATE = 30;

/** The source cannot be opened; `kind` is a key of SOURCES in messages.js. */
export class SourceFailed extends Error {
  constructor(kind, cause) {
    super(kind, { cause });
    this.name = "SourceFailed";
    this.kind = kind;
  }
}

/** An open source: a MediaStream, and `stop` that releases the devices. */
export class Source {
  #parts;

  constructor(...parts) {
    this.#parts = parts;
    this.media = new MediaStream(parts.flatMap((part) => (part.stream ?? part).getTracks()));
  }

  /** Call `callback` once when the device is unplugged or the user stops sharing. */
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

// Browsers have no `navigator.mediaDevices` on pages over plain http.
function devices(kind) {
  if (!navigator.mediaDevices) throw new SourceFailed(`${kind}_insecure`);
  return navigator.mediaDevices;
}

function asSourceFailed(kind, error) {
  if (error instanceof SourceFailed) return error;
  const why = { NotAllowedError: "refused", NotFoundError: "missing", NotReadableError: "busy" };
  return new SourceFailed(`${kind}_${why[error.name] ?? "failed"}`, error);
}
