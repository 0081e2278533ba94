// Measures the delay of the result from the pictures: capture, network, AI and playout included.
//
// For each frame of both videos it takes the difference to the mean of the frames just before. That signal
// survives changed colours, a mirror or a style, and dropped frames. The shift at which the two signals
// correlate best is the delay.

const GRID_MS = 25;
const WINDOW_MS = 10_000;
const LONGEST_MS = 5_000;
const SHORTEST_OVERLAP_MS = 4_000;
const JUST_BEFORE_MS = 300;
const SETTLING_MS = 1_000;
const GOOD_FIT = 0.6;
const AS_GOOD = 0.15; // a shorter delay may fit worse by this much: a motion that repeats fits at each period
const USUAL = 0.95;
const WIDTH = 32;
const HEIGHT = 18;

/** When the camera made a frame. Not known of a canvas, which is shown within one frame. */
export const whenCaptured = (now, frame) => frame.captureTime ?? whenShown(now, frame);

/** When a frame was put on the screen. */
export const whenShown = (now, frame) => frame.presentationTime ?? now;

/** The difference of each picture to those before it. */
export class Motion {
  #began = null;
  #before = null;
  #former = null;

  /** The difference of the picture shown at `at` ms to the mean of those before; null until that has settled. */
  see(at, pixels) {
    this.#began ??= at;
    this.#before ??= Float32Array.from(pixels);
    // Older pictures count less; each counts for as long as it was shown.
    const shown = Math.max(0, at - (this.#former?.at ?? at));
    blend(this.#before, this.#former?.pixels ?? pixels, 1 - Math.exp(-shown / JUST_BEFORE_MS));
    this.#former = { at, pixels };
    return at - this.#began < SETTLING_MS ? null : difference(pixels, this.#before);
  }
}

/** Records the motion of a playing video. */
export class MotionTrace {
  #motion = new Motion();
  #samples = [];
  #stopped = false;

  constructor(video, timeOf) {
    this.video = video;
    this.timeOf = timeOf;
    this.canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.#next();
  }

  get samples() {
    return this.#samples;
  }

  stop() {
    this.#stopped = true;
  }

  #next() {
    if (this.#stopped || !this.video.requestVideoFrameCallback) return;
    this.video.requestVideoFrameCallback((now, frame) => {
      this.#look(this.timeOf(now, frame));
      this.#next();
    });
  }

  #look(at) {
    this.context.drawImage(this.video, 0, 0, WIDTH, HEIGHT);
    const pixels = this.context.getImageData(0, 0, WIDTH, HEIGHT).data;
    const change = this.#motion.see(at, pixels);
    if (change !== null) this.#samples.push({ at, change });
    const oldest = at - WINDOW_MS - LONGEST_MS;
    while (this.#samples.length && this.#samples[0].at < oldest) this.#samples.shift();
  }
}

/**
 * Milliseconds by which `later` follows `earlier`; null where they do not correlate.
 * Both are lists of {at: ms, change: number} in order of time.
 */
export function delayBetween(earlier, later) {
  if (earlier.length < 2 || later.length < 2) return null;
  [earlier, later] = [withoutCuts(earlier), withoutCuts(later)];
  const end = Math.min(earlier.at(-1).at, later.at(-1).at);
  const start = Math.max(end - WINDOW_MS, later[0].at);
  const follower = onGrid(later, start, end);
  const fits = [];
  for (let lag = 0; lag <= LONGEST_MS; lag += GRID_MS) {
    const from = Math.max(start, earlier[0].at + lag);
    if (end - from < SHORTEST_OVERLAP_MS) break;
    const skipped = Math.ceil((from - start) / GRID_MS);
    const leader = onGrid(earlier, start + skipped * GRID_MS - lag, end - lag);
    fits.push(correlation(leader, follower.slice(skipped)));
  }
  const enough = Math.max(GOOD_FIT, Math.max(...fits) - AS_GOOD);
  const peak = fits.findIndex((fit, i) => fit >= enough && fit >= (fits[i - 1] ?? 0) && fit >= (fits[i + 1] ?? 0));
  return peak < 0 ? null : peak * GRID_MS;
}

// A cut or a new effect changes the whole picture at once, which would hide all other motion.
function withoutCuts(samples) {
  const changes = samples.map(({ change }) => change).sort((a, b) => a - b);
  const usual = changes[Math.floor((changes.length - 1) * USUAL)];
  return samples.map(({ at, change }) => ({ at, change: Math.min(change, usual) }));
}

function blend(mean, pixels, share) {
  for (let i = 0; i < mean.length; i += 1) mean[i] += share * (pixels[i] - mean[i]);
}

// Mean difference of a byte; alpha is constant and adds nothing.
function difference(pixels, others) {
  let sum = 0;
  for (let i = 0; i < pixels.length; i += 1) sum += Math.abs(pixels[i] - others[i]);
  return sum / pixels.length;
}

// The change at each cell of the grid, interpolated between frames.
function onGrid(samples, start, end) {
  let next = 1;
  return Float64Array.from({ length: Math.max(0, Math.floor((end - start) / GRID_MS)) }, (_, cell) => {
    const at = start + cell * GRID_MS;
    while (next < samples.length - 1 && samples[next].at < at) next += 1;
    const [from, to] = [samples[next - 1], samples[next]];
    const way = Math.min(1, Math.max(0, (at - from.at) / (to.at - from.at || 1)));
    return from.change + way * (to.change - from.change);
  });
}

function correlation(a, b) {
  const length = Math.min(a.length, b.length);
  const [meanA, meanB] = [mean(a, length), mean(b, length)];
  let [together, squaresA, squaresB] = [0, 0, 0];
  for (let i = 0; i < length; i += 1) {
    const [x, y] = [a[i] - meanA, b[i] - meanB];
    together += x * y;
    squaresA += x * x;
    squaresB += y * y;
  }
  return squaresA && squaresB ? together / Math.sqrt(squaresA * squaresB) : 0;
}

function mean(values, length) {
  let sum = 0;
  for (let i = 0; i < length; i += 1) sum += values[i];
  return length ? sum / length : 0;
}
