// Shows a stream's status on the page.

import { CostChart } from "./chart.js";
import { besideEth, compareWei, ethFromWei, ethPerHour, groupDigits, shortEth, usdPerHour } from "./money.js";
import { bitrateText } from "./stats.js";
import { PAYMENTS_ENDED, PAYMENT_STATES, STATES, ingestNotes, verdictText } from "./messages.js";

const PAYMENTS_SHOWN = 50;
const UNKNOWN = "–";

const byId = (id) => document.getElementById(id);

export class View {
  #chart = new CostChart(byId("chart"));
  #payments = { accepted: 0, credited: "0", tickets: 0 };
  #candidates = [];
  #inUse = null;

  /** Clear what the previous stream left. */
  reset() {
    delete byId("main").dataset.paid;
    this.#chart.clear();
    this.#payments = { accepted: 0, credited: "0", tickets: 0 };
    byId("payment-log").replaceChildren();
    this.#money("0", "0");
    byId("price-note").textContent = "";
    for (const id of ["price-hour", "credit-left", "last-payment", "next-payment"]) {
      byId(id).textContent = UNKNOWN;
    }
    byId("payments").textContent = byId("tickets").textContent = "0";
    byId("payment-state").textContent = "No payment yet.";
    this.candidates([]);
    this.rates({ sent: null, received: null });
    this.delay(null);
    this.notes([]);
    this.worker({});
  }

  /** A key of messages.STATES, or a state that a newer gateway may have. */
  state(key) {
    const state = byId("state");
    if (state.dataset.state === key) return;
    state.dataset.state = key;
    state.textContent = STATES[key] ?? key.replaceAll("_", " ");
  }

  error(sentence) {
    const error = byId("error");
    if (error.textContent !== (sentence ?? "")) error.textContent = sentence ?? "";
    error.hidden = !sentence;
  }

  status({ gateway_status: gateway = {}, ...worker }) {
    this.candidates(gateway.candidates ?? [], gateway.orchestrator, Boolean(gateway.ended));
    if (gateway.orchestrator?.price_wei_per_second) {
      const price = `${ethPerHour(gateway.orchestrator.price_wei_per_second)} ETH`;
      byId("price-hour").textContent = besideEth(price, gateway.usd?.price_per_hour);
      byId("price-note").textContent = "";
    }
    if (gateway.orchestrator?.kind === "comfystream") this.#free();
    if (gateway.payments) this.#paymentsOf(gateway.payments, gateway.elapsed_s ?? 0, gateway.usd ?? {});
    byId("viewers").textContent = gateway.output?.viewers ?? UNKNOWN;
    byId("swaps").textContent = gateway.swaps ?? 0;
    byId("gaps").textContent = gateway.output?.gaps ?? 0;
    byId("packets-lost").textContent = gateway.ingest?.packets_lost ?? UNKNOWN;
    this.notes(ingestNotes(gateway.ingest ?? {}));
    this.worker(worker);
  }

  /** Before a start: who could take a stream, and the highest price that this gateway pays (wei per second). */
  offer({ orchestrators = [], runners = [], max_price_wei_per_second: ceiling, eth_usd: rate }) {
    const all = [...orchestrators, ...runners];
    const offers = all.map((one) => (one.verdict === "chosen" ? { ...one, verdict: "available" } : one));
    this.candidates(offers);
    const usable = offers.filter((one) => one.verdict === "available" && one.price_wei_per_second);
    const [cheapest] = usable.map((one) => one.price_wei_per_second).sort(compareWei);
    if (!cheapest) return;
    const perHour = (price) => besideEth(`${ethPerHour(price)} ETH`, usdPerHour(price, rate));
    byId("price-hour").textContent = perHour(cheapest);
    byId("price-note").textContent = ceiling ? `at most ${perHour(ceiling)} by this gateway's limit` : "";
  }

  /** The candidates, and the one in use: that it was, once the stream has `ended`. */
  candidates(candidates, inUse = null, ended = false) {
    this.#candidates = candidates;
    this.#inUse = inUse;
    const rows = candidates.map((candidate) => {
      const used = candidate.url === inUse?.url;
      return candidateRow(used ? { ...inUse, ...candidate } : candidate, used, ended);
    });
    byId("candidates").replaceChildren(...rows);
    byId("candidates-none").hidden = rows.length > 0;
    byId("candidates-table").hidden = rows.length === 0;
  }

  /** Show nobody as in use or being paid any more. */
  over() {
    this.candidates(this.#candidates, this.#inUse, true);
    if (!("paid" in byId("main").dataset)) return;
    byId("payment-state").textContent = PAYMENTS_ENDED;
    byId("payment-state").dataset.state = "";
    byId("next-payment").textContent = byId("credit-left").textContent = UNKNOWN;
  }

  /** Sentences about what is sent. */
  notes(sentences) {
    const items = sentences.map((textContent) => Object.assign(document.createElement("li"), { textContent }));
    byId("source-notes").replaceChildren(...items);
    byId("source-notes").hidden = items.length === 0;
  }

  rates({ sent, received }) {
    this.#rate("source", sent);
    this.#rate("result", received);
  }

  delay(milliseconds) {
    byId("delay").textContent = milliseconds === null ? UNKNOWN : `${(milliseconds / 1000).toFixed(2)} s`;
  }

  worker(status) {
    const told = Object.keys(status).length > 0;
    byId("worker").hidden = !told;
    byId("worker-status").textContent = told ? JSON.stringify(status, null, 2) : "";
  }

  #rate(side, rate) {
    byId(`${side}-fps`).textContent = rate ? `${Math.round(rate.fps)} fps` : UNKNOWN;
    byId(`${side}-bitrate`).textContent = rate ? bitrateText(rate.bitrate) : UNKNOWN;
    byId(`${side}-size`).textContent = rate?.width ? `${rate.width} × ${rate.height}` : UNKNOWN;
  }

  #free() {
    byId("price-hour").textContent = "free";
    byId("payment-state").textContent = "Nothing is paid: the gateway uses its own ComfyStream server.";
  }

  #money(paid, owed, usd = {}) {
    byId("cost-eth").textContent = besideEth(`${ethFromWei(paid)} ETH`, usd.credited);
    byId("cost-wei").textContent = `${groupDigits(paid)} wei`;
    byId("owed-eth").textContent = besideEth(`${shortEth(owed)} ETH`, usd.owed);
    byId("owed-wei").textContent = `${groupDigits(owed)} wei`;
  }

  #paymentsOf(payments, elapsed, usd) {
    this.#money(payments.credited_wei, payments.owed_wei, usd);
    byId("main").dataset.paid = "";
    this.#chart.add(elapsed, payments.credited_wei, payments.owed_wei);
    byId("payments").textContent = payments.accepted;
    byId("tickets").textContent = payments.tickets;
    byId("last-payment").textContent = secondsText(payments.last_accepted_age_s, " ago");
    byId("next-payment").textContent = secondsText(payments.next_due_in_s, "");
    byId("credit-left").textContent = secondsText(payments.credit_left_s, "");
    byId("payment-state").textContent = PAYMENT_STATES[payments.state] ?? payments.state ?? UNKNOWN;
    byId("payment-state").dataset.state = payments.state ?? "";
    if (payments.accepted > this.#payments.accepted) this.#logPayment(payments);
  }

  #logPayment(payments) {
    const former = this.#payments;
    const wei = BigInt(payments.credited_wei) - BigInt(former.credited);
    const many = payments.accepted - former.accepted;
    const tickets = payments.tickets - former.tickets;
    const item = document.createElement("li");
    const when = document.createElement("time");
    when.textContent = new Date(Date.now() - 1000 * (payments.last_accepted_age_s ?? 0)).toLocaleTimeString();
    const amount = document.createElement("span");
    amount.textContent = `${ethFromWei(String(wei))} ETH`;
    const count = document.createElement("span");
    count.textContent = `${many > 1 ? `${many} payments, ` : ""}${tickets} ${tickets === 1 ? "ticket" : "tickets"}`;
    item.append(when, amount, count);
    const list = byId("payment-log");
    list.prepend(item);
    while (list.children.length > PAYMENTS_SHOWN) list.lastChild.remove();
    this.#payments = {
      accepted: payments.accepted,
      credited: payments.credited_wei,
      tickets: payments.tickets,
    };
  }
}

function candidateRow(candidate, inUse, ended) {
  const price = candidate.price_wei_per_second;
  const verdict = inUse ? "chosen" : candidate.verdict;
  const row = document.createElement("tr");
  row.dataset.verdict = ended && verdict === "chosen" ? "" : (verdict ?? "");
  const url = Object.assign(document.createElement("th"), { scope: "row", textContent: candidate.url });
  const app = [candidate.app, candidate.version, candidate.gpu && `on ${candidate.gpu}`].filter(Boolean).join(" ");
  if (app) url.append(Object.assign(document.createElement("small"), { textContent: app }));
  const cost = document.createElement("td");
  cost.textContent = price ? `${ethPerHour(price)} ETH` : UNKNOWN;
  cost.toggleAttribute("data-unknown", !price);
  if (price && compareWei(price, "0") === 0) cost.textContent = "free";
  const why = document.createElement("td");
  why.textContent = verdictText(verdict, ended);
  if (candidate.detail) {
    why.append(Object.assign(document.createElement("small"), { textContent: candidate.detail }));
  }
  row.append(url, cost, why);
  return row;
}

function secondsText(seconds, ending) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s${ending}`;
}
