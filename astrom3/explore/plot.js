// A plot on a canvas: axes, points with errors or a line, marks; drag for a range of x, double click for all of it.

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  const w = Math.max(1, Math.round(width * ratio)), h = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return [context, width, height];
}

function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((m) => m * power >= rough * 0.999) * power, found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9) + (Math.abs(step / power - 2.5) < 1e-9 ? 1 : 0));
  const large = Math.max(Math.abs(low), Math.abs(high));
  const text = (v) => (large >= 1e6 || (large > 0 && large < 1e-3) ? v.toExponential(1) : v.toFixed(Math.min(digits, 8)));
  return found.map((v) => [v, text(v)]);
}

// Range of y that a few wild values do not spoil: [low, high, number outside].
function robust(values) {
  const sorted = Float64Array.from(values).sort(), n = sorted.length;
  const at = (q) => sorted[Math.min(n - 1, Math.max(0, Math.round(q * (n - 1))))];
  let low = at(0.005), high = at(0.995);
  const room = (high - low) * 0.5;
  if (sorted[0] > low - room) low = sorted[0];
  if (sorted[n - 1] < high + room) high = sorted[n - 1];
  if (high <= low) { const pad = Math.abs(low) * 0.1 || 1; low -= pad; high += pad; }
  const margin = (high - low) * 0.07;
  low -= margin; high += margin;
  return [low, high, sorted.reduce((count, v) => count + (v < low || v > high), 0)];
}

class Plot {
  constructor(canvas, name) {
    this.canvas = canvas; this.name = name; this.data = null; this.empty = ""; this.view = null; this.drag = null;
    canvas.setAttribute("role", "img");
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (e) => {
      if (!this.data) return;
      canvas.setPointerCapture(e.pointerId);
      this.drag = [this.x(e.offsetX), this.x(e.offsetX)];
    });
    canvas.addEventListener("pointermove", (e) => {
      this.pointer = [e.offsetX, e.offsetY];
      if (this.drag) this.drag[1] = this.x(e.offsetX);
      this.draw();
    });
    canvas.addEventListener("pointerup", () => {
      const [a, b] = this.drag ?? [0, 0];
      this.drag = null;
      if (this.data && Math.abs(b - a) > (this.xr[1] - this.xr[0]) * 0.015) this.view = [Math.min(a, b), Math.max(a, b)];
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => { this.pointer = null; this.draw(); });
    canvas.addEventListener("dblclick", () => { this.view = null; this.draw(); });
  }

  // data: {x, y, error, line: bool, xLabel, yLabel, range: [low, high] of x, marks: [{x, name, kind}]}
  show(data, keep = false) {
    this.data = data; this.empty = "";
    if (!keep) this.view = null;
    this.canvas.setAttribute("aria-label", `${this.name}: ${data.y.length} values, ${data.yLabel} against ${data.xLabel}`);
    this.draw();
  }

  none(text) {
    this.data = null; this.empty = text;
    this.canvas.setAttribute("aria-label", `${this.name}: ${text}`);
    this.draw();
  }

  x(px) { const [a, b] = this.xr; return a + ((px - this.box.l) / this.box.w) * (b - a); }
  px(x) { const [a, b] = this.xr; return this.box.l + ((x - a) / (b - a)) * this.box.w; }
  py(y) { const [a, b] = this.yr; return this.box.t + (1 - (y - a) / (b - a)) * this.box.h; }

  draw() {
    const [c, width, height] = fitted(this.canvas);
    c.clearRect(0, 0, width, height);
    c.font = "11px system-ui, sans-serif";
    if (!this.data) {
      c.fillStyle = style("--panel");
      c.fillRect(0, 0, width, height);
      c.fillStyle = style("--quiet");
      c.textAlign = "center";
      wrapped(c, this.empty, width - 30).forEach((t, k, all) => c.fillText(t, width / 2, height / 2 + (k - all.length / 2) * 16 + 8));
      return;
    }
    const d = this.data;
    this.box = { l: 56, t: d.marks ? 20 : 6, w: width - 64, h: height - (d.marks ? 52 : 38) };
    this.xr = this.view ?? d.range;
    const inside = [];
    for (let i = 0; i < d.x.length; i++) if (d.x[i] >= this.xr[0] && d.x[i] <= this.xr[1]) inside.push(d.y[i]);
    const [low, high, outside] = robust(inside.length ? inside : d.y);
    this.yr = [low, high];
    this.axes(c, width, height);
    c.save();
    c.beginPath();
    c.rect(this.box.l, this.box.t, this.box.w, this.box.h);
    c.clip();
    if (d.line) this.line(c); else this.points(c);
    if (this.drag) {
      const [a, b] = this.drag.map((x) => this.px(x));
      c.fillStyle = style("--accent"); c.globalAlpha = 0.15;
      c.fillRect(Math.min(a, b), this.box.t, Math.abs(b - a), this.box.h);
    }
    c.restore();
    if (d.marks) this.marks(c);
    c.textAlign = "right"; c.fillStyle = style("--quiet");
    const notes = [];
    if (outside) notes.push(`${outside} outside`);
    if (this.view) notes.push("double click: all");
    if (this.pointer && !this.drag) notes.unshift(this.reading());
    c.fillText(notes.filter(Boolean).join("  ·  "), width - 10, this.box.t + 13);
  }

  reading() {
    const [px, py] = this.pointer, b = this.box;
    if (px < b.l || px > b.l + b.w || py < b.t || py > b.t + b.h) return "";
    const y = this.yr[0] + (1 - (py - b.t) / b.h) * (this.yr[1] - this.yr[0]), x = this.x(px);
    return `${Number(x.toPrecision(6))}, ${Number(y.toPrecision(4))}`;
  }

  axes(c, width, height) {
    const b = this.box;
    c.lineWidth = 1; c.strokeStyle = style("--rule"); c.fillStyle = style("--quiet");
    c.textAlign = "center";
    for (const [v, text] of ticks(this.xr[0], this.xr[1], b.w / 75)) {
      const x = Math.round(this.px(v)) + 0.5;
      c.beginPath(); c.moveTo(x, b.t); c.lineTo(x, b.t + b.h + 4); c.globalAlpha = 0.6; c.stroke(); c.globalAlpha = 1;
      c.fillText(text, Math.min(x, width - c.measureText(text).width / 2 - 1), b.t + b.h + 15);
    }
    c.textAlign = "right";
    for (const [v, text] of ticks(this.yr[0], this.yr[1], b.h / 36)) {
      const y = Math.round(this.py(v)) + 0.5;
      c.beginPath(); c.moveTo(b.l - 4, y); c.lineTo(b.l + b.w, y); c.globalAlpha = 0.6; c.stroke(); c.globalAlpha = 1;
      c.fillText(text, b.l - 6, y + 4);
    }
    c.strokeRect(b.l + 0.5, b.t + 0.5, b.w, b.h);
    c.textAlign = "center";
    c.fillText(this.data.xLabel, b.l + b.w / 2, height - 4);
    c.save(); c.translate(11, b.t + b.h / 2); c.rotate(-Math.PI / 2);
    c.fillText(this.data.yLabel, 0, 0); c.restore();
  }

  points(c) {
    const { x, y, error } = this.data, colour = this.data.colour ?? style("--point");
    const r = x.length > 400 ? 1.4 : 1.9;
    c.strokeStyle = c.fillStyle = colour;
    c.globalAlpha = 0.3; c.beginPath();
    for (let i = 0; i < x.length; i++) if (error && error[i] > 0) {
      const px = this.px(x[i]);
      c.moveTo(px, this.py(y[i] - error[i])); c.lineTo(px, this.py(y[i] + error[i]));
    }
    c.stroke();
    c.globalAlpha = 0.85; c.beginPath();
    for (let i = 0; i < x.length; i++) {
      const px = this.px(x[i]), py = this.py(y[i]);
      c.moveTo(px + r, py); c.arc(px, py, r, 0, 7);
    }
    c.fill(); c.globalAlpha = 1;
  }

  line(c) {
    const { x, y } = this.data;
    c.strokeStyle = style("--line"); c.lineWidth = 0.9; c.beginPath();
    for (let i = 0; i < x.length; i++) c.lineTo(this.px(x[i]), this.py(y[i]));
    c.stroke();
  }

  // Names of close marks are written once, and not over each other.
  marks(c) {
    const b = this.box, colours = { balmer: "#bd1f01", metal: "#0b62c4", band: "#832db6", forbidden: "#0a7d33", telluric: style("--quiet") };
    let last = -1e9, name = "";
    c.textAlign = "center"; c.font = "10.5px system-ui, sans-serif"; c.lineWidth = 1;
    for (const mark of [...this.data.marks].sort((p, q) => p.wavelength - q.wavelength)) {
      const x = this.px(mark.wavelength);
      if (x < b.l || x > b.l + b.w) continue;
      c.strokeStyle = c.fillStyle = colours[mark.kind];
      c.globalAlpha = 0.5; c.setLineDash(mark.kind === "band" ? [5, 3] : mark.kind === "telluric" ? [2, 3] : []);
      c.beginPath(); c.moveTo(x, b.t); c.lineTo(x, b.t + b.h); c.stroke();
      c.setLineDash([]); c.globalAlpha = 1;
      const half = c.measureText(mark.name).width / 2;
      if (x - half < last || (mark.name === name && x - last < 18)) continue;
      c.fillText(mark.name, x, b.t - 5);
      last = x + half + 3; name = mark.name;
    }
  }
}

function wrapped(c, text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (c.measureText(longer).width > width && lines.at(-1)) lines.push(word); else lines[lines.length - 1] = longer;
  }
  return lines;
}
