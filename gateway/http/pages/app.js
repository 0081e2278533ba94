// The page for publishers: what its controls do.

import { MotionTrace, delayBetween, whenCaptured, whenShown } from "./delay.js";
import { devnetUrl, orchestratorsUrl, watchUrl } from "./endpoints.js";
import { forget, keep, kept } from "./kept.js";
import { NodesView } from "./nodes.js";
import { effectParams, parseParams } from "./params.js";
import { request } from "./request.js";
import { Session } from "./session.js";
import { openSource } from "./sources.js";
import { View } from "./view.js";
import { explain } from "./messages.js";

const MEASURE_MS = 1000;
/** What a publisher must ask for again to go on with its paid job, and the parameters. Tokens are kept nowhere. */
const KEPT = ["stream-name", "pipeline", "through", "params", "effect"];

const byId = (id) => document.getElementById(id);
const view = new View();
const nodes = new NodesView();
let session = null;
let measuring = null;
let attempts = 0;
let devnet = {};
let touched = false;
const troubles = { gateway: null, playback: null };

function settings() {
  const [width, height] = byId("resolution").value.split("x").map(Number);
  return {
    name: byId("stream-name").value.trim(),
    pipeline: byId("pipeline").value.trim(),
    orchestrator: byId("through").value,
    params: params(),
    publishToken: byId("publish-token").value.trim(),
    playToken: byId("play-token").value.trim(),
    kind: byId("source").value,
    picture: { width, height, microphone: byId("microphone").checked },
  };
}

/** The parameters of the text field and of the effect menu in one object. Throws SyntaxError. */
function params() {
  const effect = effectParams(byId("effect").value, byId("through").value, devnet);
  return { ...parseParams(byId("params").value), ...effect };
}

async function start() {
  let wanted;
  try {
    wanted = settings();
  } catch (error) {
    view.error(error.message);
    return;
  }
  setRunning(true);
  focusOn("stop");
  showSending(wanted);
  view.reset();
  tell({ gateway: null, playback: null });
  await attempt(wanted);
}

async function attempt(wanted) {
  const mine = (attempts += 1);
  let source = null;
  try {
    view.state("source");
    source = await openSource(wanted.kind, wanted.picture);
    if (mine !== attempts) {
      source.stop();
      return;
    }
    byId("source-video").srcObject = source.media;
    byId("source-stage").classList.remove("waiting");
    view.state("connecting");
    session = new Session(wanted, source, byId("result-video"), listeners);
    await session.start();
    if (mine === attempts && session) measuring = measureEverySecond(session);
  } catch (error) {
    if (mine !== attempts || session?.over) return;
    session?.abandon();
    source?.stop();
    if (error.candidates?.length) view.candidates(error.candidates);
    if (error.status === 401) byId("more").open = true;
    ended(explain(error), "idle");
  }
}

const listeners = {
  state: (key) => view.state(key),
  status: (status) => {
    view.status(status);
    nodes.roles({ publisher: status.gateway_status?.node });
    const state = status.gateway_status?.state;
    if (state && state !== "ended" && byId("state").dataset.state !== "stopping") view.state(state);
  },
  warning: (sentence) => tell({ gateway: sentence }),
  playProblem: (error) => tell({ playback: explain(error) }),
  picture: (flows) => {
    byId("result-stage").classList.toggle("waiting", !flows);
    if (flows) tell({ playback: null });
  },
  playedBy: (player) => nodes.roles({ player }),
  over: (sentence) => ended(sentence, "ended"),
};

/** Show a problem that may pass: the gateway's, or else the player's. */
function tell(news) {
  Object.assign(troubles, news);
  view.error(troubles.gateway ?? troubles.playback);
}

function ended(sentence, state) {
  attempts += 1;
  session = null;
  measuring?.stop();
  measuring = null;
  view.rates({ sent: null, received: null });
  view.delay(null);
  view.state(state);
  view.over();
  nodes.roles({ publisher: null, player: null });
  view.error(sentence);
  byId("source-video").srcObject = null;
  byId("result-video").srcObject = null;
  byId("result-stage").classList.add("waiting");
  byId("source-stage").classList.add("waiting");
  setRunning(false);
  focusOn("start");
}

async function stop() {
  byId("stop").disabled = true;
  if (session) await session.stop();
  else ended(null, "idle");
}

function setRunning(running) {
  byId("main").dataset.running = running;
  byId("start").disabled = running;
  byId("stop").disabled = !running;
  byId("send-params").disabled = !running;
  for (const field of document.querySelectorAll("[data-fixed-while-live]")) field.disabled = running;
}

/** Move the focus, if the controls have it, to the button that can be used now. */
function focusOn(button) {
  const focused = document.activeElement;
  if (focused === document.body || byId("controls").contains(focused)) {
    byId(button).focus({ preventScroll: true });
  }
}

function showSending({ name, kind, picture }) {
  const source = byId("source").querySelector(`[value="${kind}"]`).textContent;
  const sound = picture.microphone ? ", with sound" : "";
  byId("sending").textContent = `${source}, ${picture.width} × ${picture.height}${sound}, as “${name}”`;
}

function measureEverySecond(current) {
  const source = new MotionTrace(byId("source-video"), whenCaptured);
  const result = new MotionTrace(byId("result-video"), whenShown);
  const timer = setInterval(async () => {
    const rates = await current.measure();
    if (session !== current) return;
    view.rates(rates);
    view.delay(delayBetween(source.samples, result.samples));
  }, MEASURE_MS);
  return {
    stop() {
      clearInterval(timer);
      source.stop();
      result.stop();
    },
  };
}

async function sendParams() {
  const said = byId("params-said");
  try {
    said.textContent = "";
    await session?.update(params());
    said.textContent = "Sent.";
  } catch (error) {
    said.textContent = error instanceof SyntaxError ? error.message : explain(error);
  }
}

function showWatchLink() {
  const link = byId("watch-link");
  link.href = watchUrl(byId("stream-name").value.trim(), byId("play-token").value.trim());
  link.textContent = link.href;
}

async function copyWatchLink() {
  try {
    await navigator.clipboard.writeText(byId("watch-link").href);
    byId("copy-said").textContent = "Copied.";
  } catch {
    byId("copy-said").textContent = "The browser did not allow copying: select the link instead.";
  }
}

function toggleSound() {
  const video = byId("result-video");
  video.muted = !video.muted;
  byId("sound").setAttribute("aria-pressed", String(!video.muted));
}

async function offerEffects() {
  // Only a devnet knows these effects; elsewhere the answer is a 404.
  await request(devnetUrl()).then(
    async (response) => {
      byId("effects").hidden = false;
      const { comfystreams, runners } = await response.json();
      devnet = { ownServers: comfystreams?.length > 0, runners: runners?.length > 0 };
    },
    () => undefined,
  );
}

// Served on the gateway's own machine only; elsewhere the answer is a 404.
async function showOffers() {
  const offers = await request(orchestratorsUrl()).then((response) => response.json(), () => null);
  if (offers && !session) view.offer(offers);
}

// Without a camera, select the test picture.
async function selectSourceAtHand() {
  const devices = await navigator.mediaDevices?.enumerateDevices?.().catch(() => null);
  const camera = devices?.some(({ kind }) => kind === "videoinput");
  if (!camera && !touched && !session) byId("source").value = "test";
}

function prepare() {
  const asked = new URLSearchParams(location.search).get("stream");
  byId("stream-name").value = asked || `stream-${crypto.getRandomValues(new BigUint64Array(1))[0].toString(36)}`;
  const before = kept();
  for (const id of KEPT) if (before[id]) byId(id).value = before[id];
  view.reset();
  view.state("idle");
  showWatchLink();
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  byId("stop").addEventListener("click", stop);
  byId("send-params").addEventListener("click", sendParams);
  byId("effect").addEventListener("change", () => session && sendParams());
  byId("copy-link").addEventListener("click", copyWatchLink);
  byId("sound").addEventListener("click", toggleSound);
  byId("stream-name").addEventListener("input", showWatchLink);
  byId("play-token").addEventListener("input", showWatchLink);
  window.addEventListener("pageshow", forget);
  window.addEventListener("pagehide", () => {
    keep(Object.fromEntries(KEPT.map((id) => [id, byId(id).value])));
    if (!session) return;
    session.abandon();
    ended(null, "ended");
  });
  byId("source").addEventListener("change", () => (touched = true), { once: true });
  setRunning(false);
  offerEffects();
  showOffers();
  nodes.watch();
  selectSourceAtHand();
}

prepare();
