// Parameters from the text field: a JSON object as it is, other text as a prompt.

/** Throws SyntaxError, with a sentence, for text that begins like JSON and is not. */
export function parseParams(text) {
  const trimmed = text.trim();
  if (!trimmed) return {};
  if (!/^[{[]/.test(trimmed)) return { prompt: trimmed };
  let value;
  try {
    value = JSON.parse(trimmed);
  } catch (error) {
    throw new SyntaxError(`The parameters are not valid JSON: ${error.message}`);
  }
  if (Array.isArray(value)) throw new SyntaxError("The parameters must be one JSON object, not a list.");
  return value;
}

const APP_MODES = { none: "echo", grey: "gray", negative: "invert" };

/**
 * Parameters for one of the devnet's effects: `effect` for a worker on the network, `mode` for the app of its live
 * runners, a workflow in `prompts` for a ComfyStream server. Each ignores the others'.
 */
export function effectParams(effect, through, { ownServers = false, runners = false } = {}) {
  if (!effect) return {};
  const may = (kind) => through === "" || through === kind;
  const workflow = { 1: { class_type: "Effect", inputs: { effect } } };
  return {
    ...(may("network") && { effect }),
    ...(may("runner") && runners && APP_MODES[effect] && { mode: APP_MODES[effect] }),
    ...(may("comfystream") && ownServers && { prompts: workflow }),
  };
}
