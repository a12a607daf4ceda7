// The page: what is selected, filtered and how it is coloured; starts everything.

class Page {
  constructor(about, core) {
    this.about = about; this.core = core; this.n = about.ids.length; this.selected = -1;
    about.normalised = about.units.catalogue === "z-scores";
    this.hidden = new Set(); this.splits = about.splits.map(() => true);
    this.heads = core.probabilities ? core.probabilities.length / this.n : 0;
    this.rankOf = ranks(about.classes);
    this.data = new Observations(about.block);
    this.number = new Map(about.ids.map((id, i) => [id, i]));
    this.describe();
    this.map = new PointMap($("map"), core.xy, { select: (i) => this.select(i), hover: (i, x, y) => this.tip(i, x, y), step: (by) => this.step(by) });
    this.lists = new Lists(this);
    this.details = new Details(this);
    this.paint();
    this.filter();
    addEventListener("hashchange", () => this.fromHash());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.map.request(); this.details.show(this.selected); });
    this.fromHash();
  }

  describe() {
    const { about } = this, p = about.precision, some = this.n < about.total ? `${format(this.n)} of ${format(about.total)}, drawn at random` : format(this.n);
    $("subtitle").textContent = `${some} objects · ${about.data}${about.note ? ` · ${about.note}` : ""}`;
    const precise = about.kind === "galaxies" ? "images as JPEG" : "times to 1e-5 d, flux of a light curve to 1/131070 of its range";
    $("subtitle").title = `Model ${about.model}. ${about.data}. Stored here: ${precise}, ` +
      `spectra with ${p.bits} bits per pixel (median error ${(100 * p.spectrum_error).toPrecision(1)} % of the range of the flux)` +
      `${p.points ? `; ${p.thinned} light curves thinned to ${p.points} points` : ""}; ${p.points_not_finite} points and ${p.pixels_not_finite} pixels that are not finite left out.`;
    $("how").textContent = about.how;
  }

  className(k) { return k < 0 ? "no label" : this.about.classes[k]; }

  colour(k) { return k < 0 ? UNKNOWN : COLOURS[this.rankOf[k] % COLOURS.length]; }

  shape(k) { return k < 0 ? 0 : (this.rankOf[k] + Math.floor(this.rankOf[k] / COLOURS.length)) % SHAPES; }

  // The mark of a class as the map has it.
  swatch(k) {
    const canvas = make("canvas", { className: "mark", width: 24, height: 24 }), c = canvas.getContext("2d");
    const { mask, side } = coverage(this.shape(k), 9), image = c.createImageData(side, side), colour = rgb(this.colour(k));
    for (let p = 0; p < side * side; p++) image.data.set([...colour, mask[p]], 4 * p);
    c.putImageData(image, Math.round((24 - side) / 2), Math.round((24 - side) / 2));
    canvas.setAttribute("aria-hidden", "true");
    return canvas;
  }

  near(i, by) {
    const top = this.about.neighbours;
    return [...this.core[`neighbours_${by}`].subarray(i * top, (i + 1) * top)].filter((j) => j >= 0);
  }

  // --- selection ----------------------------------------------------------------------------------------------------

  // Returns when the object is drawn. reveal: move the map where the object is out of sight.
  async select(i, reveal = false) {
    this.selected = this.map.selected = i;
    this.map.near = i >= 0 ? this.near(i, $("near-of").value) : [];
    if (i >= 0 && (reveal || !this.map.visible[i])) this.map.reveal(i);
    this.map.request();
    this.lists.highlight();
    const hash = i >= 0 ? `#${encodeURIComponent(this.about.ids[i])}` : "";
    if (location.hash !== hash) location.hash = hash;
    await this.details.show(i);
  }

  fromHash() {
    let id = "";
    try { id = decodeURIComponent(location.hash.slice(1)); } catch { /* not one of ours */ }
    const i = this.number.get(id) ?? -1;
    if (i !== this.selected) this.select(i, true);
  }

  // To the next (1) or previous (-1) neighbour of the object that was selected on the map or by search.
  step(by) {
    if (this.selected < 0) return;
    if (!this.round?.includes(this.selected)) this.round = [this.selected, ...this.map.near];
    const k = (this.round.indexOf(this.selected) + by + this.round.length) % this.round.length;
    this.select(this.round[k], true);
  }

  tip(i, x, y) {
    const tip = $("tip");
    tip.hidden = i < 0;
    if (i < 0) return;
    const { about, core } = this, lines = [this.className(core.label[i])];
    if (core.predicted?.[i] >= 0) lines.push(`predicted ${about.classes[core.predicted[i]]}`);
    if (core.period[i] > 0) lines.push(`P ${shown(core.period[i])} d`);
    if (Number.isFinite(core.redshift[i])) lines.push(`z ${core.redshift[i].toFixed(3)}`);
    tip.replaceChildren(make("strong", { textContent: about.ids[i] }), make("br"), this.swatch(core.label[i]), ` ${lines.join(" · ")}`);
    const box = $("map-box");
    tip.style.left = `${Math.min(x + 14, box.clientWidth - tip.offsetWidth - 4)}px`;
    tip.style.top = `${y + tip.offsetHeight + 20 > box.clientHeight ? y - tip.offsetHeight - 8 : y + 14}px`;
  }

  // --- filters and colours ------------------------------------------------------------------------------------------

  filter() {
    const { core, map } = this, wrong = $("wrong").checked;
    let count = 0;
    for (let i = 0; i < this.n; i++) {
      const passes = !this.hidden.has(core.label[i]) && this.splits[core.split[i]] &&
        (!wrong || (core.label[i] >= 0 && core.predicted[i] >= 0 && core.predicted[i] !== core.label[i]));
      map.visible[i] = passes ? 1 : 0;
      count += map.visible[i];
    }
    $("count").textContent = count < this.n ? `${format(count)} of ${format(this.n)} shown` : `${format(count)} objects`;
    $("map-empty").hidden = count > 0;
    this.lists.fill();
    map.request();
  }

  paint() {
    const { core, map, about } = this, how = $("colour").value;
    $("by-label").hidden = how !== "own";
    const classes = how === "class" ? core.label : how === "predicted" ? core.predicted : null;
    if (classes) {
      for (let i = 0; i < this.n; i++) { map.colours.set(rgb(this.colour(classes[i])), 3 * i); map.shapes[i] = this.shape(classes[i]); }
      this.lists.bar(null);
    } else {
      const values = how === "own" ? core[`own_${$("by").value}`] : this.column(how.slice("column:".length));
      const title = how === "own" ? "cosine distance to own class" : how.slice("column:".length);
      const known = Float64Array.from(values.filter(Number.isFinite)).sort(), at = (q) => known[Math.round(q * (known.length - 1))] ?? 0;
      const low = at(0.01), high = Math.max(at(0.99), low + 1e-12), logs = title === "period" && !about.normalised && low > 0;
      const t = (v) => (logs ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
      for (let i = 0; i < this.n; i++) {
        map.colours.set(Number.isFinite(values[i]) ? cividis(t(values[i])) : rgb(UNKNOWN), 3 * i);
        map.shapes[i] = 0;
      }
      const unit = about.column_units[about.columns.indexOf(title)];
      this.lists.bar(low, high, `${title}${unit ? ` [${unit}${logs ? ", log" : ""}]` : ""}`, cividis);
    }
    map.request();
  }

  column(name) {
    const k = this.about.columns.indexOf(name), width = this.about.columns.length;
    if (k === this.about.period_column && !this.about.normalised) return this.core.period;
    return Float64Array.from({ length: this.n }, (_, i) => this.core.catalogue[i * width + k]);
  }
}

const begin = performance.now();
async function start() {
  const about = JSON.parse($("about").textContent);
  const page = new Page(about, await unpack(element("core")));
  page.loadMs = performance.now() - begin;
  window.astrom3 = page; // for the console and the tests
}

start().catch((error) => {
  $("failure").hidden = false;
  $("failure").textContent = `This page cannot be shown (${error.message}): it needs a browser of 2023 or later and the whole file.`;
  console.error(error);
});
