// Server-sent events over fetch: with a token, which EventSource cannot send, and over interruptions.

import { NotReached, Refused, authorization } from "./request.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const SILENCE_MS = 40_000;
const GIVE_UP = new Set([400, 401, 403, 404, 405]);

/**
 * The events at `url`, each as its JSON, as they come; after an interruption from the last one on. Ends when `signal`
 * is aborted. Throws Refused where the gateway does not let anybody read.
 */
export async function* readEvents(url, { token = "", after = "", signal } = {}) {
  let last = after;
  for (let failures = 0; !signal?.aborted; ) {
    try {
      for await (const { id, data } of connection(url, token, last, signal)) {
        failures = 0;
        if (id) last = id;
        if (data) yield JSON.parse(data);
      }
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof Refused && GIVE_UP.has(error.status)) throw error;
    }
    failures += 1;
    await pause(Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), LONGEST_WAIT_MS), signal);
  }
}

/** The messages of one connection, until it ends. */
async function* connection(url, token, last, signal) {
  const silent = new AbortController();
  const abort = () => silent.abort();
  let timer = setTimeout(abort, SILENCE_MS);
  signal?.addEventListener("abort", abort);
  try {
    const headers = { ...authorization(token), ...(last && { "Last-Event-ID": last }) };
    const response = await fetch(url, { headers, cache: "no-store", signal: silent.signal }).catch((error) => {
      throw new NotReached(error);
    });
    if (!response.ok) throw new Refused(response.status, await response.json().catch(() => ({})));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(abort, SILENCE_MS);
      text += value;
      const messages = text.split("\n\n");
      text = messages.pop();
      for (const message of messages) yield fieldsOf(message);
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    abort();
  }
}

function fieldsOf(message) {
  const lines = message.split("\n").map((line) => line.match(/^(\w+): ?(.*)$/) ?? []);
  return Object.fromEntries(lines.filter(([whole]) => whole).map(([, name, value]) => [name, value]));
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
