// The operator's page: asks the operator's routes again and again, and shows what they say.

import { readEvents } from "./events.js";
import { ethFromWei, ethPerHour, shortEth } from "./money.js";
import { END_REASONS, VERDICTS, explain } from "./messages.js";
import { Player } from "./player.js";
import { request } from "./request.js";
import { bitrateText } from "./stats.js";

const STREAMS_MS = 2000;
const OFFERS_MS = 5000;
const CUSTOMERS_MS = 30_000;
const MAX_EVENTS = 50;
/** Streams of which the picture is shown at once: each is a viewer. */
const MAX_PICTURES = 6;
const UNKNOWN = "–";

const byId = (id) => document.getElementById(id);
const route = (path) => new URL(path, document.baseURI);
const fetchJson = async (path) => (await request(route(path))).json();
const cards = new Map();
let draining = false;

/** Ask again and again while the page is shown; a failure is a sentence on the page. */
function repeat(what, everyMs) {
  const again = async () => {
    if (!document.hidden) {
      try {
        await what();
        say(null);
      } catch (error) {
        say(explain(error));
      }
    }
    setTimeout(again, everyMs);
  };
  again();
}

function say(sentence) {
  byId("error").textContent = sentence ?? "";
  byId("error").hidden = !sentence;
}

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

/** One row: what it is and its figure, with smaller lines below. */
function row(first, figure, ...lines) {
  const item = document.createElement("li");
  const head = element("p", "", "first");
  head.append(element("span", first), element("span", figure));
  item.append(head, ...lines.filter(Boolean).map((line) => element("p", line, "hint")));
  return item;
}

const perHour = (price) => (price === null || price === undefined ? "no price" : `${ethPerHour(price)} ETH/h`);
const minutes = (seconds) =>
  seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;

// streams

async function showStreams() {
  const { streams, totals, draining: drains, away } = await fetchJson("streams?nodes=all");
  draining = drains;
  byId("drain").hidden = false;
  byId("drain").setAttribute("aria-pressed", String(drains));
  byId("total-streams").textContent = totals.streams;
  byId("total-viewers").textContent = totals.viewers;
  byId("total-burn").textContent = `${ethPerHour(totals.cost_wei_per_second)} ETH`;
  byId("total-credited").textContent = `${shortEth(totals.credited_wei)} ETH`;
  byId("streams-none").hidden = streams.length > 0;
  byId("streams-away").textContent = `No answer from ${away.join(", ")}: their streams are not shown.`;
  byId("streams-away").hidden = away.length === 0;
  const ids = new Set(streams.map((one) => one.request_id));
  for (const [id, card] of cards) {
    if (ids.has(id)) continue;
    card.remove();
    cards.delete(id);
  }
  for (const stream of streams) {
    if (!cards.has(stream.request_id)) cards.set(stream.request_id, new StreamCard(stream));
    cards.get(stream.request_id).show(stream);
  }
}

const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const card = [...cards.values()].find((one) => one.item === target);
    card?.picture(isIntersecting);
  }
});

class StreamCard {
  #player = null;

  constructor(stream) {
    this.item = byId("stream-card").content.firstElementChild.cloneNode(true);
    this.name = stream.stream;
    this.find(".end").addEventListener("click", () => this.#ask("DELETE", "", `End ${this.name}?`));
    this.find(".swap").addEventListener("click", () => this.#ask("POST", "/swap", `Move ${this.name} to another orchestrator?`));
    this.find("video").setAttribute("aria-label", `Picture of ${this.name}`);
    byId("streams").append(this.item);
    seen.observe(this.item);
  }

  find(selector) {
    return this.item.querySelector(selector);
  }

  show(stream) {
    const state = this.find(".state");
    state.dataset.state = stream.state;
    state.textContent = `${stream.stream} – ${stream.state.replaceAll("_", " ")}`;
    const where = stream.orchestrator;
    this.find(".where").textContent = [
      where ? `${where.kind} at ${where.url}` : "no job yet",
      stream.node && `node ${stream.node}`,
      (stream.customer || stream.publisher) && `for ${stream.customer || stream.publisher}`,
    ].filter(Boolean).join(", ");
    const ingest = stream.ingest ?? {};
    this.#facts({
      "Cost a second": `${shortEth(stream.cost_wei_per_second)} ETH`,
      "So far": `${shortEth(stream.credited_wei)} ETH`,
      "Credit left": stream.credit_left_s === null ? UNKNOWN : minutes(stream.credit_left_s),
      Since: minutes(stream.elapsed_s),
      In: ingest.fps ? `${Math.round(ingest.fps)} fps, ${bitrateText(ingest.bitrate_bps ?? 0)}` : UNKNOWN,
      Out: stream.output.fps ? `${Math.round(stream.output.fps)} fps` : UNKNOWN,
      "Lost in / out": `${ingest.packets_lost ?? UNKNOWN} / ${stream.output.gaps}`,
      Viewers: stream.output.viewers,
      Swaps: stream.swaps,
    });
    this.find(".problem").textContent = stream.problem ?? "";
    this.find(".problem").hidden = !stream.problem;
  }

  /** Play the picture while the card is in view. */
  picture(shown) {
    const playing = [...cards.values()].filter((card) => card.#player).length;
    if (shown && !this.#player && playing < MAX_PICTURES) {
      this.#player = new Player(this.find("video"), route(`live/video-to-video/${encodeURIComponent(this.name)}/whep`), "");
      this.#player.run();
    } else if (!shown) {
      this.#player?.stop();
      this.#player = null;
    }
  }

  remove() {
    seen.unobserve(this.item);
    this.picture(false);
    this.item.remove();
  }

  #facts(facts) {
    const pairs = Object.entries(facts).map(([name, value]) => {
      const pair = document.createElement("div");
      pair.append(element("dt", name), element("dd", String(value)));
      return pair;
    });
    this.find(".facts").replaceChildren(...pairs);
  }

  async #ask(method, action, question) {
    if (!confirm(question)) return;
    try {
      await request(route(`streams/${encodeURIComponent(this.name)}${action}`), { method });
      await showStreams();
    } catch (error) {
      this.find(".problem").textContent = explain(error);
      this.find(".problem").hidden = false;
    }
  }
}

// who could take streams

async function showOffers() {
  const offers = await fetchJson("orchestrators");
  const others = (offers.other_models ?? []).flatMap((model) => model.orchestrators);
  const all = [...(offers.orchestrators ?? []), ...others, ...(offers.runners ?? []), ...(offers.comfystreams ?? [])];
  const most = offers.max_price_wei_per_second;
  byId("ceiling").textContent = most ? `At most ${ethPerHour(most)} ETH/h is paid.` : "Nothing is paid.";
  byId("orchestrators").replaceChildren(...all.map(offerRow));
}

function offerRow(one) {
  const verdict = one.verdict === "chosen" ? "the next stream goes here" : (VERDICTS[one.verdict] ?? one.verdict);
  const trust = one.trust
    ? `${one.trust.proven ? "proven" : "not proven yet"}: ${minutes(one.trust.delivered_s)} of pictures, ` +
      `${one.trust.starts} starts, ${one.trust.empty_starts} without a picture, paid ${shortEth(one.trust.paid_wei)} ETH`
    : "";
  const passed = one.set_aside ?? one.suspended;
  const suspended = passed ? `passed over for ${minutes(passed.seconds_left)}: ${passed.reason}` : "";
  const name = [one.url || one.addr, one.app].filter(Boolean).join(" – ");
  return row(name, perHour(one.price_wei_per_second), [verdict, one.detail].filter(Boolean).join(": "), suspended, trust);
}

async function showLimits() {
  const { limits } = await fetchJson("limits");
  const rows = limits.map(({ limit, used, most, unit }) => {
    const amount = (value) => (unit === "wei" ? `${shortEth(value)} ETH` : value);
    const item = row(limit.replace("-", "\u2011"), most === null ? amount(used) : `${amount(used)} of ${amount(most)}`);
    if (most !== null && Number(most) > 0) {
      const meter = document.createElement("meter");
      Object.assign(meter, { min: 0, max: 1, high: 0.8, optimum: 0, value: Number(used) / Number(most) });
      meter.setAttribute("aria-label", limit);
      item.append(meter);
    }
    return item;
  });
  byId("limits").replaceChildren(...rows);
}

async function showReadiness() {
  const response = await fetch(route("readyz"), { cache: "no-store" });
  const { reasons = [], notes = [] } = await response.json();
  const state = byId("readiness");
  state.dataset.state = response.ok ? "live" : draining ? "draining" : "not-ready";
  state.textContent = [response.ok ? "Publishers are served." : reasons.join(" "), ...notes].join(" ");
}

// who used how much

async function showCustomers() {
  const month = new Date().toISOString().slice(0, 7);
  const { usage } = await fetchJson(`usage?by=customer&every=month&from=${month}-01`);
  const rows = usage.map((one) =>
    row(one.key || "nobody in particular", `${ethFromWei(one.charged_wei)} ETH`,
      `${one.streams} streams, ${minutes(Number(one.seconds))}; spent ${ethFromWei(one.spent_wei)} ETH`),
  );
  byId("customers").replaceChildren(...(rows.length ? rows : [row("nobody yet", "")]));
}

async function showNodes() {
  const response = await fetch(route("nodes"), { cache: "no-store" });
  if (!response.ok) return;
  const { nodes } = await response.json();
  byId("nodes-section").hidden = false;
  byId("nodes").replaceChildren(
    ...nodes.map((node) =>
      row(node.name, `${node.streams} streams, ${node.viewers} viewers`, node.url,
        node.draining ? "drains" : node.takes_publishers ? "takes publishers" : "takes no publishers", `loop ${node.lag_seconds} s late`),
    ),
  );
}

// events

async function followEvents() {
  for await (const event of readEvents(route("events"), { after: "all" })) {
    const { stream, detail, reason, credited_wei: cost } = event.data;
    const told = [
      reason && (END_REASONS[reason] ?? reason),
      detail,
      event.data.orchestrator?.url ?? event.data.orchestrator,
      event.data.limit && `${event.data.limit}: ${event.data.used} of ${event.data.most} ${event.data.unit}`,
      cost && `cost ${shortEth(cost)} ETH`,
    ];
    const item = row(event.type, new Date(event.timestamp).toLocaleTimeString(), stream, told.filter(Boolean).join(" – "));
    byId("events").prepend(item);
    while (byId("events").childElementCount > MAX_EVENTS) byId("events").lastElementChild.remove();
  }
}

async function toggleDrain() {
  if (!draining && !confirm("Take no more publishers? Live streams go on.")) return;
  try {
    await request(route("drain"), { method: draining ? "DELETE" : "POST" });
    await showStreams();
    await showReadiness();
  } catch (error) {
    say(explain(error));
  }
}

byId("drain").addEventListener("click", toggleDrain);
repeat(async () => {
  await showStreams();
  await showReadiness();
}, STREAMS_MS);
repeat(async () => {
  await showOffers();
  await showLimits();
  await showNodes();
}, OFFERS_MS);
repeat(showCustomers, CUSTOMERS_MS);
followEvents().catch((error) => say(explain(error)));
