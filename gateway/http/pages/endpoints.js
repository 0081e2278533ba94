// Where the gateway's routes are, seen from this document: right behind any path prefix.

const PREFIX = "live/video-to-video/";

/** The URL of a stream's route (`whip`, `whep`, `update`, `status`), with the query's filled-in fields. */
export function streamUrl(name, action, query = {}) {
  const url = new URL(`${PREFIX}${encodeURIComponent(name)}/${action}`, document.baseURI);
  for (const [key, value] of Object.entries(query)) {
    if (value) url.searchParams.set(key, value);
  }
  return url;
}

/** Who could take a stream at what price: for the operator, and so served here on a gateway's own machine only. */
export function orchestratorsUrl() {
  return new URL("orchestrators", document.baseURI);
}

/** Where the small network beside the gateway describes itself; 404 without one. */
export function devnetUrl() {
  return new URL("devnet", document.baseURI);
}

/**
 * The page that shows a stream to viewers. A play token travels in the fragment, which browsers
 * keep to themselves: it appears in no server's log.
 */
export function watchUrl(name, playToken = "") {
  const url = new URL("watch", document.baseURI);
  url.searchParams.set("stream", name);
  if (playToken) url.hash = new URLSearchParams({ token: playToken }).toString();
  return url;
}
