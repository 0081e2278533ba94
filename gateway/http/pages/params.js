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

/**
 * Parameters for one of the devnet's effects: `effect` for a worker on the network, a workflow in `prompts` for a
 * ComfyStream server. Each ignores the other's.
 */
export function effectParams(effect, through, ownServers) {
  if (!effect) return {};
  const workflow = { 1: { class_type: "Effect", inputs: { effect } } };
  return {
    ...(through !== "comfystream" && { effect }),
    ...(through !== "network" && ownServers && { prompts: workflow }),
  };
}
