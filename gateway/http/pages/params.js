// What the parameter field says: a JSON object as it is, plain words as a prompt.

/** Throws SyntaxError, with a sentence, for text that means to be JSON and is not. */
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
 * An effect of the devnet's, for whoever takes the stream: its worker has a parameter for it, its ComfyStream
 * servers a workflow's node. Each leaves the other's alone.
 */
export function effectParams(effect, through, ownServers) {
  if (!effect) return {};
  const workflow = { 1: { class_type: "Effect", inputs: { effect } } };
  return {
    ...(through !== "comfystream" && { effect }),
    ...(through !== "network" && ownServers && { prompts: workflow }),
  };
}
