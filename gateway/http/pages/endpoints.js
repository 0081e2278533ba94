// URLs of the gateway's routes, relative to this document: correct below any path prefix.

const PREFIX = "live/video-to-video/";

/** The URL of a stream's route (`whip`, `whep`, `update`, `status`), with the non-empty fields of `query`. */
export function streamUrl(name, action, query = {}) {
  const url = new URL(`${PREFIX}${encodeURIComponent(name)}/${action}`, document.baseURI);
  for (const [key, value] of Object.entries(query)) {
    if (value) url.searchParams.set(key, value);
  }
  return url;
}

/** Every orchestrator with its price: an operator's route, served here on the gateway's own machine only. */
export function orchestratorsUrl() {
  return new URL("orchestrators", document.baseURI);
}

/** All nodes of a cluster: an operator's route, as the one above; 404 where there is one gateway only. */
export function nodesUrl() {
  return new URL("nodes", document.baseURI);
}

/** The description of the devnet; 404 without one. */
export function devnetUrl() {
  return new URL("devnet", document.baseURI);
}

/**
 * The page for viewers of a stream. A play token goes into the fragment, which browsers do not send: it is in no
 * server's log.
 */
export function watchUrl(name, playToken = "") {
  const url = new URL("watch", document.baseURI);
  url.searchParams.set("stream", name);
  if (playToken) url.hash = new URLSearchParams({ token: playToken }).toString();
  return url;
}
