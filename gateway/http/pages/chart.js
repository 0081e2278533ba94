// A small SVG chart of paid and owed wei over the stream's time, drawn again with each point.

import { ethFromWei, share } from "./money.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const PLOT = { left: 2, top: 24, bottom: HEIGHT - 26 };
const MAX_POINTS = 600;
const NOTHING = { seconds: 0, paid: 0n, owed: 0n };

export class CostChart {
  #points = [NOTHING];

  constructor(svg) {
    this.svg = svg;
    svg.setAttribute("height", HEIGHT);
  }

  clear() {
    this.#points = [NOTHING];
    this.#draw();
  }

  /** Add a moment: seconds since the start, wei paid and owed (whole numbers as text). */
  add(seconds, paidWei, owedWei) {
    this.#points.push({ seconds, paid: BigInt(paidWei), owed: BigInt(owedWei) });
    if (this.#points.length > MAX_POINTS) {
      // Half the resolution keeps the whole stream in view, however long it is.
      this.#points = this.#points.filter((_, i) => i % 2 === 0 || i === this.#points.length - 1);
    }
    this.#draw();
  }

  #draw() {
    const last = this.#points.at(-1);
    this.svg.replaceChildren();
    const top = this.#points.reduce((most, p) => max(most, max(p.paid, p.owed)), 1n);
    const { left, top: upper, bottom } = PLOT;
    const right = this.svg.clientWidth - left;
    const x = (point) => left + (right - left) * (last.seconds > 0 ? point.seconds / last.seconds : 0);
    const y = (wei) => bottom - (bottom - upper) * share(wei, top);
    this.#line("grid", `M${left} ${upper}H${right}M${left} ${bottom}H${right}`);
    const paid = path(steps(this.#points), (p) => [x(p), y(p.paid)]);
    this.#line("ahead", `${paid}V${bottom}H${left}Z`);
    this.#line("owed", path(this.#points, (p) => [x(p), y(p.owed)]));
    this.#line("paid", paid);
    this.#text(`${ethFromWei(top > 1n ? top : 0n)} ETH`, left, upper - 8, "start");
    this.#text("start", left, HEIGHT - 8, "start");
    this.#text(`${Math.round(last.seconds)} s`, right, HEIGHT - 8, "end");
    const label = `after ${Math.round(last.seconds)} seconds ${ethFromWei(String(last.paid))} ETH paid, `;
    this.svg.setAttribute("aria-label", `${label}${ethFromWei(String(last.owed))} ETH owed`);
  }

  #line(kind, d) {
    this.svg.append(element("path", { class: kind, d }));
  }

  #text(content, x, y, anchor) {
    const text = element("text", { x, y, "text-anchor": anchor });
    text.textContent = content;
    this.svg.append(text);
  }
}

// A payment is a step, not a slope.
function steps(points) {
  return points.flatMap((point, i) => (i ? [{ ...points[i - 1], seconds: point.seconds }, point] : [point]));
}

function path(points, place) {
  const at = (point) => place(point).map((number) => number.toFixed(1)).join(" ");
  return points.map((point, i) => `${i ? "L" : "M"}${at(point)}`).join("");
}

function element(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function max(a, b) {
  return a > b ? a : b;
}
