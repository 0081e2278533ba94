// Wei and ETH, exactly: BigInt only, because a float cannot hold one ether in wei.

const WEI_PER_ETH = 10n ** 18n;
const SECONDS_PER_HOUR = 3600n;

/** A sum or price as the gateway writes it: "12" or "n/d". Gives [numerator, denominator]. */
export function parseWei(text) {
  const match = /^(-?\d+)(?:\/(\d+))?$/.exec(String(text));
  if (!match) throw new RangeError(`${text} is no amount of wei`);
  const denominator = BigInt(match[2] ?? 1);
  if (denominator === 0n) throw new RangeError(`${text} has a denominator of zero`);
  return [BigInt(match[1]), denominator];
}

/** "1500000000000000" -> "0.0015". Digits past the 18th are cut off and marked by a leading "≈ ". */
export function ethFromWei(text) {
  const [numerator, denominator] = parseWei(text);
  return decimalEth(numerator, denominator);
}

/** As ethFromWei, with 6 significant digits: for places that show the wei, too. */
export function shortEth(text) {
  return /^≈? ?-?(?:0\.0*|[1-9]\d*\.?)?\d{0,6}/.exec(ethFromWei(text))[0];
}

/** A price in wei per second as ETH per hour. */
export function ethPerHour(weiPerSecond) {
  const [numerator, denominator] = parseWei(weiPerSecond);
  return decimalEth(numerator * SECONDS_PER_HOUR, denominator);
}

/** "0.01 ETH" and "30.512345" -> "0.01 ETH (30.51 USD)"; without dollars the ether alone. */
export function besideEth(eth, usd) {
  return usd === undefined || usd === null ? eth : `${eth} (${shortUsd(usd)} USD)`;
}

/** "30.5" -> "30.50"; below one dollar all digits that are there. */
export function shortUsd(text) {
  const [whole, places = ""] = String(text).split(".");
  return whole === "0" ? String(text) : `${whole}.${places.padEnd(2, "0").slice(0, 2)}`;
}

/** A price in wei per second as dollars per hour with 6 places; null without a rate, dollars for an ether. */
export function usdPerHour(weiPerSecond, ethUsd) {
  if (!ethUsd) return null;
  const [numerator, denominator] = parseWei(weiPerSecond);
  const [whole, places = ""] = String(ethUsd).split(".");
  const millionths = BigInt(whole + places.padEnd(6, "0").slice(0, 6));
  const usd = (numerator * SECONDS_PER_HOUR * millionths) / (denominator * WEI_PER_ETH);
  return `${usd / 1000000n}.${(usd % 1000000n).toString().padStart(6, "0")}`;
}

/** "1234567" -> "1 234 567", with spaces that do not break; a rational keeps its denominator. */
export function groupDigits(text) {
  return String(text).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}

/** Negative, zero or positive, for sort. */
export function compareWei(a, b) {
  const [an, ad] = parseWei(a);
  const [bn, bd] = parseWei(b);
  const difference = an * bd - bn * ad;
  return difference < 0n ? -1 : Number(difference > 0n);
}

/** `part` of `whole` as a number from 0 to 1, for drawing only. */
export function share(part, whole) {
  return whole > 0n ? Number((part * 10000n) / whole) / 10000 : 0;
}

function decimalEth(numerator, denominator) {
  const wei = numerator / denominator;
  const size = wei < 0n ? -wei : wei;
  const fraction = (size % WEI_PER_ETH).toString().padStart(18, "0").replace(/0+$/, "");
  const sign = numerator < 0n ? "-" : "";
  const exact = numerator % denominator === 0n;
  return `${exact ? "" : "≈ "}${sign}${size / WEI_PER_ETH}${fraction && `.${fraction}`}`;
}
