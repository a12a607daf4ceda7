// The map: points painted into pixels by hand (20,000 take milliseconds, with or without a GPU), a grid to find them.

const SHAPES = 5; // circle, square, triangle, diamond, cross: a class is told by colour and by shape

// Coverage 0..255 of a shape of radius r pixels, (2r + 3) on a side, from 4 x 4 samples of each pixel.
function coverage(shape, r) {
  const half = Math.ceil(r) + 1, side = 2 * half + 1, mask = new Uint8Array(side * side);
  const inside = [
    (x, y) => x * x + y * y <= r * r,
    (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= r * 0.86,
    (x, y) => y <= r * 0.7 && y >= -r && Math.abs(x) <= (y + r) * 0.62,
    (x, y) => Math.abs(x) + Math.abs(y) <= r * 1.2,
    (x, y) => Math.min(Math.abs(x), Math.abs(y)) <= r * 0.4 && Math.max(Math.abs(x), Math.abs(y)) <= r * 1.1,
  ][shape];
  for (let py = 0; py < side; py++) for (let px = 0; px < side; px++) {
    let hits = 0;
    for (let s = 0; s < 16; s++) hits += inside(px - half + ((s & 3) - 1.5) / 4, py - half + ((s >> 2) - 1.5) / 4);
    mask[py * side + px] = (hits * 255) / 16;
  }
  return { mask, half, side };
}

class PointMap extends Viewport {
  // xy: Float32Array of 2n; colours: Uint8Array of 3n; shapes, visible: Uint8Array of n.
  constructor(canvas, xy, on) {
    super(canvas);
    this.deepest = 400;
    this.xy = xy; this.n = xy.length / 2; this.on = on;
    this.colours = new Uint8Array(3 * this.n); this.shapes = new Uint8Array(this.n);
    this.visible = new Uint8Array(this.n).fill(1); this.selected = -1; this.near = []; this.hovered = -1;
    this.order = shuffled(this.n); // no class is painted over all others
    this.masks = new Map(); this.frameMs = 0; this.frames = 0;
    this.index();
    this.reset();
    this.listen();
    new ResizeObserver(() => this.request()).observe(canvas);
  }

  // Objects sorted by the cell of a grid over the map: start[cell] .. start[cell + 1] in `members`.
  index() {
    const { xy, n } = this;
    let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < n; i++) {
      x0 = Math.min(x0, xy[2 * i]); x1 = Math.max(x1, xy[2 * i]);
      y0 = Math.min(y0, xy[2 * i + 1]); y1 = Math.max(y1, xy[2 * i + 1]);
    }
    this.bounds = [x0, y0, Math.max(x1, x0 + 1e-6), Math.max(y1, y0 + 1e-6)];
    this.cells = Math.max(1, Math.min(256, Math.ceil(Math.sqrt(n / 2))));
    this.start = new Uint32Array(this.cells * this.cells + 1);
    this.members = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.start[this.cell(xy[2 * i], xy[2 * i + 1]) + 1]++;
    for (let k = 1; k < this.start.length; k++) this.start[k] += this.start[k - 1];
    const at = this.start.slice();
    for (let i = 0; i < n; i++) this.members[at[this.cell(xy[2 * i], xy[2 * i + 1])]++] = i;
  }

  column(v, axis) {
    const low = this.bounds[axis], high = this.bounds[axis + 2];
    return Math.max(0, Math.min(this.cells - 1, Math.floor(((v - low) / (high - low)) * this.cells)));
  }

  cell(x, y) { return this.column(y, 1) * this.cells + this.column(x, 0); }

  reset() {
    const [x0, y0, x1, y1] = this.bounds;
    this.centre = [(x0 + x1) / 2, (y0 + y1) / 2]; this.zoom = 1;
    this.request();
  }

  // CSS pixels per unit of the map at this zoom; the caption has the lowest ones for itself.
  get scale() {
    const [x0, y0, x1, y1] = this.bounds, w = this.canvas.clientWidth || 1, h = this.canvas.clientHeight || 1;
    return this.zoom * 0.94 * Math.min(w / (x1 - x0), Math.max(h - CAPTION, 1) / (y1 - y0));
  }

  // The visible object nearest to a place on the screen, within `reach` CSS pixels; -1 where there is none.
  hit(px, py, reach = 9) {
    const [x, y] = this.toMap(px, py), r = reach / this.scale;
    let best = -1, least = r * r;
    for (let row = this.column(y - r, 1); row <= this.column(y + r, 1); row++) {
      const from = row * this.cells + this.column(x - r, 0), to = row * this.cells + this.column(x + r, 0);
      for (let m = this.start[from]; m < this.start[to + 1]; m++) {
        const i = this.members[m];
        if (!this.visible[i]) continue;
        const d = (this.xy[2 * i] - x) ** 2 + (this.xy[2 * i + 1] - y) ** 2;
        if (d < least) { least = d; best = i; }
      }
    }
    return best;
  }

  toScreen(i) { return this.placeOnScreen(this.xy[2 * i], this.xy[2 * i + 1]); }

  reveal(i) { this.revealPlace(this.xy[2 * i], this.xy[2 * i + 1]); }

  draw() {
    const begin = performance.now(), ratio = window.devicePixelRatio || 1, canvas = this.canvas;
    const [context, width, height] = fitted(canvas), w = canvas.width, h = canvas.height;
    if (!this.image || this.image.width !== w || this.image.height !== h) this.image = context.createImageData(w, h);
    const pixels = this.image.data, [red, green, blue] = rgb(style("--paper"));
    new Uint32Array(pixels.buffer).fill((255 << 24) | (blue << 16) | (green << 8) | red);
    const few = this.n < 1500 ? 1.5 : this.n < 6000 ? 1 : 0.75, k = this.scale * ratio;
    const radius = ratio * Math.min(7, (1.7 + few) * Math.max(0.7, this.zoom) ** 0.35);
    const faint = rgb(style("--faint")), [u, v] = this.middle;
    const x0 = u * ratio - this.centre[0] * k, y0 = v * ratio + this.centre[1] * k;
    for (const pass of [0, 1]) { // those that do not pass the filters lie behind
      for (let m = 0; m < this.n; m++) {
        const i = this.order[m];
        if (this.visible[i] !== pass) continue;
        const x = Math.round(this.xy[2 * i] * k + x0), y = Math.round(y0 - this.xy[2 * i + 1] * k);
        if (pass) this.paint(pixels, w, h, x, y, this.mask(this.shapes[i], radius), this.colours, 3 * i, 0.88);
        else this.paint(pixels, w, h, x, y, this.mask(0, radius * 0.6), faint, 0, 1);
      }
    }
    context.putImageData(this.image, 0, 0);
    this.rings(context);
    this.frameMs = performance.now() - begin;
    this.frames++;
  }

  mask(shape, radius) {
    const r = Math.round(radius * 4) / 4, key = shape * 1000 + r * 4;
    if (!this.masks.has(key)) this.masks.set(key, coverage(shape, r));
    return this.masks.get(key);
  }

  paint(pixels, w, h, cx, cy, { mask, half, side }, colours, at, opacity) {
    if (cx < -half || cy < -half || cx >= w + half || cy >= h + half) return;
    const red = colours[at], green = colours[at + 1], blue = colours[at + 2];
    for (let row = Math.max(0, half - cy); row < side && cy - half + row < h; row++) {
      let p = 4 * ((cy - half + row) * w + cx - half), m = row * side;
      for (let column = 0; column < side; column++, p += 4, m++) {
        const x = cx - half + column;
        if (!mask[m] || x < 0 || x >= w) continue;
        const a = (mask[m] * opacity) / 255;
        pixels[p] += (red - pixels[p]) * a;
        pixels[p + 1] += (green - pixels[p + 1]) * a;
        pixels[p + 2] += (blue - pixels[p + 2]) * a;
      }
    }
  }

  rings(c) {
    const ring = (i, r, colour, width) => {
      const [x, y] = this.toScreen(i);
      c.strokeStyle = colour; c.lineWidth = width;
      c.beginPath(); c.arc(x, y, r, 0, 7); c.stroke();
    };
    if (this.selected >= 0) {
      const [x, y] = this.toScreen(this.selected);
      c.strokeStyle = style("--quiet"); c.lineWidth = 1; c.setLineDash([3, 3]);
      for (const i of this.near) { c.beginPath(); c.moveTo(x, y); c.lineTo(...this.toScreen(i)); c.stroke(); }
      c.setLineDash([]);
      for (const i of this.near) ring(i, 7, style("--ink"), 1.4);
      ring(this.selected, 10, style("--paper"), 5);
      ring(this.selected, 10, style("--ink"), 2.5);
    }
    if (this.hovered >= 0 && this.hovered !== this.selected) ring(this.hovered, 8, style("--ink"), 1.5);
  }

  pointed(px, py) { this.hover(this.hit(px, py), px, py); }

  left() { this.hover(-1); }

  clicked(px, py) {
    const i = this.hit(px, py);
    if (i >= 0) this.on.select(i);
  }

  keys() {
    const [w, h] = this.middle;
    return { n: () => this.on.step(1), p: () => this.on.step(-1),
      Enter: () => { const i = this.hit(w, h, 1e4); if (i >= 0) this.on.select(i); }, Escape: () => this.on.select(-1) };
  }

  hover(i, px, py) {
    if (i !== this.hovered) { this.hovered = i; this.request(); }
    this.on.hover(i, px, py);
  }
}

// 0 .. n-1 in an order that is the same each time (Lehmer generator).
function shuffled(n) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  let state = 42;
  for (let i = n - 1; i > 0; i--) {
    state = (state * 48271) % 2147483647;
    const j = state % (i + 1);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

function rgb(hex) { return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)); }
