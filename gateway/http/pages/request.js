// Requests to the gateway: an answer, or an error that messages.explain explains.

/** The gateway or a proxy refused, with RFC 9457 problem details or without. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `the answer was ${status}`);
    this.name = "Refused";
    this.status = status;
    this.code = problem.code || "";
    this.detail = problem.detail || "";
    this.candidates = problem.candidates || [];
  }
}

/** No answer came. */
export class NotReached extends Error {
  constructor(cause) {
    super("no answer from the gateway", { cause });
    this.name = "NotReached";
  }
}

export function authorization(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/** fetch with a time limit. Throws NotReached, or Refused for a status other than 2xx. */
export async function request(url, { timeoutMs = 15000, ...options } = {}) {
  let response;
  try {
    response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(timeoutMs), ...options });
  } catch (error) {
    throw new NotReached(error);
  }
  if (!response.ok) throw new Refused(response.status, await problemOf(response));
  return response;
}

async function problemOf(response) {
  try {
    const problem = await response.json();
    return problem && typeof problem === "object" ? problem : {};
  } catch {
    return {};
  }
}
