// A window on a map that is moved and zoomed by wheel, pointer and keys. A map that extends it has `scale` (CSS pixels
// per unit), `deepest` (the largest zoom), `reset()` and `draw()`, and says what pointing, clicking and keys do to it.

const CAPTION = 44; // CSS pixels at the lower edge

class Viewport {
  constructor(canvas) { this.canvas = canvas; }

  get middle() { return [this.canvas.clientWidth / 2, (this.canvas.clientHeight - CAPTION) / 2]; }

  toMap(px, py) {
    const s = this.scale, [u, v] = this.middle;
    return [(px - u) / s + this.centre[0], this.centre[1] - (py - v) / s];
  }

  placeOnScreen(x, y) {
    const s = this.scale, [u, v] = this.middle;
    return [(x - this.centre[0]) * s + u, (this.centre[1] - y) * s + v];
  }

  zoomAt(px, py, factor) {
    const [x, y] = this.toMap(px, py);
    this.zoom = Math.max(0.5, Math.min(this.deepest, this.zoom * factor));
    const [u, v] = this.toMap(px, py);
    this.centre[0] += x - u; this.centre[1] += y - v;
    this.request();
  }

  move(dx, dy) { this.centre[0] -= dx / this.scale; this.centre[1] += dy / this.scale; this.request(); }

  // Bring a place into view without changing the zoom.
  revealPlace(x, y) {
    const [px, py] = this.placeOnScreen(x, y), w = this.canvas.clientWidth, h = this.canvas.clientHeight;
    if (px < 20 || py < 20 || px > w - 20 || py > h - 20) this.centre = [x, y];
    this.request();
  }

  request() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  pointed(px, py) {}
  left() {}
  clicked(px, py) {}
  keys() { return {}; }

  listen() {
    const { canvas } = this;
    let from = null, moved = 0;
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      const lines = e.deltaMode === 1 ? 30 : 1;
      this.zoomAt(e.offsetX, e.offsetY, Math.exp(-Math.max(-300, Math.min(300, e.deltaY * lines)) * 0.0022));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (e) => { canvas.setPointerCapture(e.pointerId); from = [e.offsetX, e.offsetY]; moved = 0; });
    canvas.addEventListener("pointermove", (e) => {
      if (!from) { this.pointed(e.offsetX, e.offsetY); return; }
      moved += Math.abs(e.offsetX - from[0]) + Math.abs(e.offsetY - from[1]);
      if (moved > 4) { this.move(e.offsetX - from[0], e.offsetY - from[1]); from = [e.offsetX, e.offsetY]; canvas.classList.add("moving"); this.left(); }
    });
    canvas.addEventListener("pointerup", (e) => {
      if (from && moved <= 4) this.clicked(e.offsetX, e.offsetY);
      from = null; canvas.classList.remove("moving");
    });
    canvas.addEventListener("pointercancel", () => { from = null; canvas.classList.remove("moving"); });
    canvas.addEventListener("pointerleave", () => this.left());
    canvas.addEventListener("keydown", (e) => {
      const [w, h] = this.middle;
      const keys = { ArrowLeft: () => this.move(60, 0), ArrowRight: () => this.move(-60, 0), ArrowUp: () => this.move(0, 60),
        ArrowDown: () => this.move(0, -60), "+": () => this.zoomAt(w, h, 1.3), "=": () => this.zoomAt(w, h, 1.3),
        "-": () => this.zoomAt(w, h, 1 / 1.3), 0: () => this.reset(), ...this.keys() };
      if (keys[e.key] && !e.ctrlKey && !e.metaKey && !e.altKey) { keys[e.key](); e.preventDefault(); }
    });
  }
}
