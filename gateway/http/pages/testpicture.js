// A moving test picture. Colour bars show an effect, text shows a mirror, the clock and the frame counter show
// delay and loss, and the disc moves at irregular times so that delay.js can measure the delay.

const FRAME_RATE = 30;
const BARS = ["#d8d8d8", "#d6c32c", "#2cc4d0", "#35b44a", "#c54fc0", "#d2483b", "#3653c7"];
const LEAP_MS = 260;
const REST_MS = [120, 900];

export class TestPicture {
  #frame = 0;
  #from = { x: 0.3, y: 0.5 };
  #to = { x: 0.7, y: 0.4 };
  #leapAt = 0;
  #restMs = REST_MS[1];

  constructor(width, height) {
    this.canvas = Object.assign(document.createElement("canvas"), { width, height });
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.#draw();
    this.timer = setInterval(() => this.#draw(), 1000 / FRAME_RATE);
    this.stream = this.canvas.captureStream(FRAME_RATE);
    for (const track of this.stream.getTracks()) track.contentHint = "motion";
  }

  stop() {
    clearInterval(this.timer);
    for (const track of this.stream.getTracks()) track.stop();
  }

  #draw() {
    const { context, canvas } = this;
    const unit = canvas.height / 100;
    this.#frame += 1;
    BARS.forEach((colour, i) => {
      context.fillStyle = colour;
      const left = Math.floor((i * canvas.width) / BARS.length);
      context.fillRect(left, 0, canvas.width, canvas.height * 0.74);
    });
    context.fillStyle = "#14181d";
    context.fillRect(0, canvas.height * 0.74, canvas.width, canvas.height);
    this.#drawDisc(unit);
    this.#drawSweep(unit);
    context.fillStyle = "#f4f6f8";
    context.font = `600 ${12 * unit}px ui-monospace, "DejaVu Sans Mono", monospace`;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText(clockText(new Date()), 5 * unit, canvas.height * 0.855);
    context.textAlign = "right";
    context.fillText(String(this.#frame).padStart(6, "0"), canvas.width - 5 * unit, canvas.height * 0.855);
  }

  #drawDisc(unit) {
    const now = performance.now();
    if (now > this.#leapAt + LEAP_MS + this.#restMs) {
      this.#from = this.#to;
      this.#to = { x: between(0.15, 0.85), y: between(0.2, 0.54) };
      this.#restMs = between(...REST_MS);
      this.#leapAt = now;
    }
    const way = Math.min(1, (now - this.#leapAt) / LEAP_MS);
    const x = (this.#from.x + (this.#to.x - this.#from.x) * way) * this.canvas.width;
    const y = (this.#from.y + (this.#to.y - this.#from.y) * way) * this.canvas.height;
    this.context.beginPath();
    this.context.arc(x, y, 15 * unit, 0, 2 * Math.PI);
    this.context.fillStyle = "#f4f6f8";
    this.context.fill();
    this.context.fillStyle = "#14181d";
    this.context.font = `700 ${10 * unit}px system-ui, sans-serif`;
    this.context.textAlign = "center";
    this.context.textBaseline = "middle";
    this.context.fillText("LIVE", x, y + unit);
  }

  #drawSweep(unit) {
    const way = (this.#frame % (2 * FRAME_RATE)) / (2 * FRAME_RATE);
    this.context.fillStyle = "#19b37d";
    this.context.fillRect(0, this.canvas.height * 0.96, way * this.canvas.width, 4 * unit);
  }
}

function between(low, high) {
  return low + Math.random() * (high - low);
}

function clockText(date) {
  const two = (number) => String(number).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
  return `${time}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
