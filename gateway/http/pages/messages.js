// Everything that the page says in sentences: states, failures, end reasons, verdicts.

import { compareWei, ethFromWei, ethPerHour } from "./money.js";
import { NoH264 } from "./peer.js";
import { NotReached, Refused } from "./request.js";
import { SourceFailed } from "./sources.js";

export const STATES = {
  idle: "Ready. Nothing is sent and nothing is paid.",
  source: "Asking for the picture …",
  connecting: "Connecting to the gateway …",
  starting: "Connected. The job is being started.",
  waiting_for_key_frame: "Waiting for the first key frame. Nothing is paid before it.",
  live: "Live.",
  swapping: "Moving to another orchestrator. Keep sending: the stream goes on.",
  stopping: "Stopping …",
  ended: "Stopped. Nothing more is paid.",
};

export const END_REASONS = {
  publisher_left: "The publisher left, so the stream ended.",
  deleted: "The stream was stopped.",
  ingest_timeout: "The gateway received no more picture. Check the network, or whether a firewall blocks UDP.",
  no_key_frame: "The picture never began with a key frame. Stop and start again, or try another browser.",
  no_orchestrator: "No orchestrator could take the stream. Try again in a little while.",
  price_raised: "The orchestrator raised its price above what this gateway pays, so the stream ended.",
  payment_refused: "A payment was refused, so the stream ended.",
  signer_unreachable: "The signer could not be reached, so no payment could be made. See that it runs.",
  signer_refused: "The signer refused to pay for this stream. Check its account and its limits.",
  credit_exhausted: "The credit at the orchestrator ran out before a payment arrived.",
  orchestrator_lost: "The orchestrator went away. Start again to use another one.",
  swaps_exhausted: "Too many orchestrators failed one after another. Try again in a little while.",
  spend_limit: "The spending limit was reached.",
  time_limit: "The time limit was reached.",
  terminated: "The stream was ended by the operator of this gateway.",
  drained: "The gateway is being shut down. Start again in a moment.",
  internal_error: "The gateway made a mistake. Its log says which.",
};

export const VERDICTS = {
  chosen: "in use",
  available: "could take the stream",
  price_above_max: "asks more than this gateway pays",
  no_capacity: "has no free capacity",
  unreachable: "did not answer",
  model_not_offered: "does not offer this pipeline",
  bad_answer: "gave an answer that makes no sense",
  set_aside: "set aside after a fault",
};

const SECURE = "Browsers allow that only on https:// or on localhost: open this page there";
const SOURCES = {
  camera_insecure: `The camera cannot be used on this address. ${SECURE}, or choose the test picture.`,
  camera_refused: "The camera was refused. Allow it in the browser's address bar, or choose the test picture.",
  camera_missing: "There is no camera. Plug one in, or choose the test picture.",
  camera_busy: "The camera is in use by another program. Close that program and start again.",
  camera_failed: "The camera could not be opened. Choose another source.",
  screen_insecure: `The screen cannot be shared from this address. ${SECURE}, or choose the test picture.`,
  screen_refused: "Sharing the screen was refused. Start again and pick what to share.",
  screen_unsupported: "This browser cannot share its screen. Choose another source.",
  screen_failed: "The screen could not be shared. Choose another source.",
  microphone_insecure: `The microphone cannot be used on this address. ${SECURE}, or start without it.`,
  microphone_refused: "The microphone was refused. Allow it in the browser's address bar, or start without it.",
  microphone_missing: "There is no microphone. Plug one in, or start without it.",
  microphone_busy: "The microphone is in use by another program. Close that program, or start without it.",
  microphone_failed: "The microphone could not be opened. Start without it.",
};

export const SOURCE_ENDED = "The source ended: the camera was unplugged, or sharing was stopped.";
export const GATEWAY_SILENT = "The gateway does not answer. Check the network; this page keeps trying.";
export const STREAM_FORGOTTEN = "The gateway no longer knows this stream: it was probably restarted. Start again.";
export const TAKEN_OVER = "Another publisher took this name over. Choose another stream name and start again.";
export const MEDIA_LOST =
  "The connection for pictures was lost. Check the network; a firewall may block UDP to the gateway.";

/** One plain sentence, or two, for whatever went wrong while starting or steering a stream. */
export function explain(error) {
  if (error instanceof SourceFailed) return SOURCES[error.kind] ?? "The source could not be opened.";
  if (error instanceof NoH264) {
    return "This browser has no H.264 video, which the gateway needs. Use a current Chrome, Edge, Safari or Firefox.";
  }
  if (error instanceof NotReached) return "The gateway cannot be reached. Check the network and that it runs.";
  if (error instanceof Refused) return explainRefusal(error);
  return `The browser could not do that: ${error.message}`;
}

/** Why a stream ended, with what the gateway adds to it. */
export function explainEnd(ended) {
  const sentence = END_REASONS[ended.reason] ?? `The stream ended: ${ended.reason}.`;
  return ended.detail ? `${sentence} (${ended.detail})` : sentence;
}

function explainRefusal({ status, code, detail, candidates, message }) {
  if (code === "no_orchestrator" || candidates.length) return explainCandidates(candidates);
  if (code.startsWith("signer")) {
    return withDetail("The signer is out of reach, so nothing can be paid. See that it runs, then start again.", detail);
  }
  switch (status) {
    case 401:
      return "This gateway asks for a token. Fill it in under access tokens and try again.";
    case 403:
      return withDetail("This gateway does not let you do that with this token or name.", detail);
    case 404:
      return withDetail("The gateway does not know this stream: start it first.", detail);
    case 406:
      return withDetail("The gateway takes H.264 video only, and this browser did not offer it.", detail);
    case 409:
      return "Someone is already publishing under this name. Choose another stream name.";
    case 429:
      return withDetail("Too many viewers or requests. Wait a little and try again.", detail);
    case 503:
      return withDetail("The gateway takes no new streams at the moment. Try again in a little while.", detail);
    default:
      return `The gateway refused: ${message}`;
  }
}

function explainCandidates(candidates) {
  if (!candidates.length) return "This gateway knows no orchestrator yet. Try again in a little while.";
  const dear = candidates.filter((c) => c.verdict === "price_above_max" && c.price_wei_per_second);
  if (!dear.length) {
    const said = candidates.map((c) => `${c.url} ${verdictText(c.verdict)}`).join(", ");
    return `No orchestrator can take the stream now: ${said}. Try again in a little while.`;
  }
  const prices = dear.map((c) => c.price_wei_per_second).sort(compareWei);
  const cheapest = `${ethPerHour(prices[0])} ETH an hour (${ethFromWei(prices[0])} ETH a second)`;
  return (
    `No orchestrator is under the highest price that this gateway pays. The cheapest asks ${cheapest}. ` +
    "The operator can raise -maxPricePerUnit."
  );
}

export function verdictText(verdict) {
  return VERDICTS[verdict] ?? String(verdict ?? "not asked yet").replaceAll("_", " ");
}

function withDetail(sentence, detail) {
  return detail ? `${sentence} (${detail})` : sentence;
}
