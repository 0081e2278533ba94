// All sentences of the pages: states, problems, end reasons, verdicts.

import { compareWei, ethFromWei, ethPerHour } from "./money.js";
import { NoH264 } from "./peer.js";
import { NotReached, Refused } from "./request.js";
import { SourceFailed } from "./sources.js";

export const STATES = {
  idle: "Ready. Nothing is sent and nothing is paid.",
  source: "Opening the source …",
  connecting: "Connecting to the gateway …",
  starting: "Connected. The job is starting.",
  waiting_for_key_frame: "Waiting for the first key frame. Nothing is paid before it.",
  live: "Live.",
  swapping: "Changing to another orchestrator. Keep sending: the stream goes on.",
  waiting_for_publisher: "The publisher is gone. The job waits for it, and nothing is paid meanwhile.",
  stopping: "Stopping …",
  ended: "Stopped. Nothing more is paid.",
};

export const PAYMENT_STATES = {
  ok: "Payments are up to date.",
  waiting: "Waiting for a payment to be accepted.",
  failing: "Payments fail. The stream goes on for as long as the credit lasts.",
};
export const PAYMENTS_ENDED = "Payments have ended.";

export const END_REASONS = {
  publisher_left: "The publisher left, so the stream ended.",
  deleted: "The stream was stopped.",
  ingest_timeout: "The gateway received no more pictures. Check the network, and whether a firewall blocks UDP.",
  no_key_frame: "No key frame came. Stop and start again, or try another browser.",
  no_orchestrator: "No orchestrator could take the stream. Try again in a little while.",
  price_raised: "The orchestrator raised its price above what this gateway pays. Start again to use another one.",
  payment_refused: "A payment was refused. Check the signer's deposit and reserve.",
  signer_unreachable: "The signer cannot be reached, so nothing can be paid. Check that it runs.",
  signer_refused: "The signer refused to pay for this stream. Check its account and its limits.",
  credit_exhausted: "The credit at the orchestrator ran out before the next payment. Check the signer.",
  orchestrator_lost: "The orchestrator failed. Start again to use another one.",
  swaps_exhausted: "Too many orchestrators failed one after another. Try again in a little while.",
  spend_limit: "The spending limit is reached. The operator of this gateway can raise it.",
  time_limit: "The time limit for one stream is reached. Start again.",
  terminated: "The operator of this gateway ended the stream.",
  drained: "The gateway is shutting down. Start again in a moment.",
  taken_over: "This part of the gateway was cut off, and another one has the stream now. Start again.",
  internal_error: "The gateway failed. Its log has the error.",
};

export const VERDICTS = {
  chosen: "in use",
  available: "could take the stream",
  price_above_max: "asks more than this gateway pays",
  no_capacity: "has no free capacity",
  unreachable: "did not answer",
  model_not_offered: "does not offer this pipeline",
  bad_params: "cannot use these parameters",
  bad_answer: "gave an invalid answer",
  set_aside: "not used for a while, after a fault",
  unfunded: "cannot be paid from the signer's funds",
  bad_ticket_params: "asks for tickets that this gateway does not pay",
  blocked: "is not used by this gateway",
  untrusted: "has to show a picture before it gets another stream",
  signer_refuses_type: "is paid in a way that the signer does not pay",
  address_changed: "asks to be paid under another address than before",
};
const OFFERED = {
  audio: "the sound",
  video: "one of the videos",
  simulcast: "all of the picture sizes",
  application: "the data channel",
};
const KEY_FRAMES_MATTER =
  "A loss shows until the next one, and new viewers may wait for it. Set the encoder's key frame interval to 1 or 2 s.";
const WAS_USED = "was in use until the end";

/** Refusals of the gateway, by the problem's code. */
export const PROBLEMS = {
  bad_http: "The gateway could not read the request. Shorten the parameters and try again.",
  bad_json: "The parameters are not a valid JSON object.",
  bad_name: "This stream name is not allowed. Use letters, digits, _ . and - only.",
  bad_parameter: "The gateway does not understand this request.",
  bad_params: "The orchestrators cannot use these parameters. Change them and start again.",
  bad_sdp: "The gateway does not understand this browser's offer. Try another browser.",
  body_too_slow: "The request took too long to arrive. Check the network and try again.",
  cluster_away: "The gateway cannot reach its other nodes and takes no new streams. Try again in a little while.",
  draining: "The gateway is shutting down. Try again in a moment.",
  forbidden: "This token is not for this stream. Use another token or another stream name.",
  internal_error: "The gateway failed. Its log has the error.",
  issuer_unreachable: "The gateway cannot check this token now. Try again in a little while.",
  ledger_unavailable: "The gateway's ledger cannot be used, so nothing can be paid. The operator must repair it.",
  limit_reached: "A limit of this gateway is reached. Wait a little and try again.",
  bad_output: "The stream cannot be sent on to the server that was named. Check its URL.",
  may_not_output: "You may not send the stream on to other servers here. Ask for a token that allows it.",
  may_not_choose: "You may not choose the orchestrator here. Leave that to the gateway, or use another token.",
  nobody_shows: "No worker could show your last stream. Wait half a minute, then try another picture size or encoder.",
  name_taken: "Someone is already publishing under this name. Choose another stream name.",
  node_silent: "The part of the gateway that has this stream does not answer. Try again in a little while.",
  no_common_codec: "The gateway takes H.264 video only, and this browser did not offer it.",
  no_hls: "The stream cannot be shown in this way yet. Try again in a moment.",
  no_orchestrator: "This gateway knows no orchestrator for this stream.",
  no_udp_port: "The gateway has no free UDP port. Wait a little and try again.",
  no_video: "The browser offered no video. Choose another source.",
  not_found: "This address is not a gateway's. Open the page that the gateway serves.",
  signer_refused: "Whoever pays for this stream has refused to. Ask the gateway's operator about your account.",
  rate_unknown: "The gateway does not know what an ether costs in dollars now. Try again in a little while.",
  overloaded: "The gateway is busy and takes nobody new. Try again in a little while.",
  refused_by_webhook: "The operator of this gateway did not allow this stream.",
  spend_limit: "The spending limit is reached. The operator of this gateway can raise it.",
  too_large: "The parameters are too large. Send less.",
  too_many_requests: "Too many requests came from this address. Wait a little and try again.",
  unauthorized: "This gateway asks for a token. Fill it in under access tokens and try again.",
  unfunded: "The signer cannot pay. Fund its deposit and reserve, or cancel their unlock, then start again.",
  too_many_models: "As many pipelines as this gateway takes at once are in use. Try again in a little while.",
  unknown_model: "No orchestrator offers this pipeline. Check its name under Pipeline.",
  unknown_stream: "The gateway does not know this stream. Start it first.",
  unsupported_media_type: "The gateway does not understand this request.",
  webhook_unreachable: "The server that decides who may publish does not answer. Try again in a little while.",
  worker_busy: "The worker is busy with earlier changes. Wait a moment and send again.",
  worker_refused: "The worker refused the parameters.",
  worker_silent: "The worker did not answer. The parameters may not be in use.",
};
const SAYS_ALL = new Set(["name_taken", "unauthorized"]);

// Answers without a code: a proxy's, or those of a newer gateway.
const STATUSES = {
  401: PROBLEMS.unauthorized,
  403: "This gateway does not allow that.",
  404: PROBLEMS.unknown_stream,
  429: "Too many viewers or requests. Wait a little and try again.",
  503: "The gateway takes no new streams at the moment. Try again in a little while.",
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
export const STREAM_FORGOTTEN = "The gateway does not know this stream any more: it was probably restarted. Start again.";
export const TAKEN_OVER = "Another publisher took over this name. Choose another stream name and start again.";
export const MEDIA_LOST =
  "The media connection was lost. Check the network; a firewall may block UDP to the gateway.";

/** What went wrong while a stream was started, watched or changed, and what to do about it. */
export function explain(error) {
  if (error instanceof SourceFailed) return SOURCES[error.kind] ?? "The source could not be opened.";
  if (error instanceof NoH264) {
    return "This browser has no H.264 video, which the gateway needs. Use a current Chrome, Edge, Safari or Firefox.";
  }
  if (error instanceof NotReached) return "The gateway cannot be reached. Check the network, and that the gateway runs.";
  if (error instanceof Refused) return explainRefusal(error);
  return `The browser could not do that: ${error.message}`;
}

/** Why a stream ended, with the gateway's detail. */
export function explainEnd(ended) {
  const sentence = END_REASONS[ended.reason] ?? `The stream ended: ${ended.reason}.`;
  return ended.detail ? `${sentence} (${ended.detail})` : sentence;
}

function explainRefusal({ status, code, detail, candidates, message }) {
  if (code === "no_orchestrator") return explainCandidates(candidates, detail);
  const sentence = PROBLEMS[code] ?? STATUSES[status];
  if (!sentence) return `The gateway refused: ${message}`;
  return SAYS_ALL.has(code) ? sentence : withDetail(sentence, detail);
}

function explainCandidates(candidates, detail) {
  if (!candidates.length) return withDetail(PROBLEMS.no_orchestrator, detail);
  const dear = candidates.filter((c) => c.verdict === "price_above_max" && c.price_wei_per_second);
  if (dear.length) return explainPrices(dear.map((c) => c.price_wei_per_second));
  const all = (verdict) => candidates.every((c) => c.verdict === verdict);
  if (all("model_not_offered")) return "No orchestrator offers this pipeline. Check its name under Pipeline.";
  const said = candidates.map((c) => `${c.url} ${verdictText(c.verdict)}`).join(", ");
  return `No orchestrator can take the stream now: ${said}. Try again in a little while.`;
}

function explainPrices(prices) {
  const [lowest] = prices.sort(compareWei);
  return (
    "No orchestrator is under the highest price that this gateway pays. " +
    `The cheapest asks ${ethPerHour(lowest)} ETH an hour (${ethFromWei(lowest)} ETH a second). ` +
    "The operator can raise -maxPricePerUnit."
  );
}

/** What a publisher should know of its own sending (the status's `ingest`): a sentence each. */
export function ingestNotes({ gop_note: slow, gop_s: gop, key_frame_age_s: age, rejected = [] }) {
  const notes = rejected.map(({ kind, reason }) => `The gateway does not use ${OFFERED[kind] ?? kind}: ${reason}.`);
  if (!slow) return notes;
  const seconds = Math.round(Math.max(gop ?? 0, age ?? 0));
  return [`Key frames come ${seconds} s apart, and none when the gateway asks. ${KEY_FRAMES_MATTER}`, ...notes];
}

/** A candidate's verdict in words. `ended`: the stream is over, so that nobody is in use. */
export function verdictText(verdict, ended = false) {
  if (ended && verdict === "chosen") return WAS_USED;
  return VERDICTS[verdict] ?? String(verdict ?? "not asked yet").replaceAll("_", " ");
}

function withDetail(sentence, detail) {
  return detail ? `${sentence} (${detail})` : sentence;
}
