// The panel of the selected object. Every name from the data goes in as text, never as HTML.

function make(tag, properties = {}, ...children) {
  const { style: css, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  Object.assign(element.style, css);
  element.append(...children);
  return element;
}

const $ = (id) => document.getElementById(id);

function shown(value, digits = 5) {
  if (!Number.isFinite(value)) return "—";
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e6 || size < 1e-4) ? value.toExponential(3) : String(Number(value.toPrecision(digits)));
}

// Two cycles of a light curve; phase 0 is the faintest of 24 bins, so that folded curves can be compared.
function fold(curve, period) {
  const n = curve.time.length, phase = new Float64Array(n), sum = new Float64Array(24), count = new Float64Array(24);
  for (let i = 0; i < n; i++) {
    const cycles = (curve.time[i] - curve.time[0]) / period;
    phase[i] = cycles - Math.floor(cycles);
    const bin = Math.min(23, Math.floor(phase[i] * 24));
    sum[bin] += curve.flux[i]; count[bin]++;
  }
  let faintest = -1;
  for (let b = 0; b < 24; b++) if (count[b] && (faintest < 0 || sum[b] / count[b] < sum[faintest] / count[faintest])) faintest = b;
  const x = new Float64Array(2 * n), y = new Float64Array(2 * n), error = new Float64Array(2 * n);
  for (let i = 0; i < n; i++) {
    const p = (phase[i] - (faintest + 0.5) / 24 + 1) % 1;
    x[i] = p; x[n + i] = p + 1;
    y[i] = y[n + i] = curve.flux[i]; error[i] = error[n + i] = curve.error[i];
  }
  return { x, y, error };
}

class Details {
  constructor(page) {
    this.page = page; this.shownObject = -1;
    this.curve = new Plot($("curve"), "Light curve");
    this.folded = new Plot($("folded"), "Folded light curve");
    this.spectrum = new Plot($("spectrum"), "Spectrum");
    this.galaxies = page.about.kind === "galaxies";
    $("picture-box").hidden = !this.galaxies;
    $("curves-box").hidden = this.galaxies;
    if (this.galaxies) $("near-note").textContent = "cosine similarity; an arrow means another modality";
    for (const id of ["lines", "smooth"]) $(id).addEventListener("change", () => this.drawSpectrum(true));
    $("period").addEventListener("change", () => this.foldAt(Number($("period").value)));
    for (const [id, factor] of [["half", 0.5], ["once", 1], ["twice", 2]])
      $(id).addEventListener("click", () => this.foldAt(page.core.period[this.shownObject] * factor));
    for (const name of [...page.about.vectors, ...page.about.crossings]) $("near-of").append(make("option", { value: name, textContent: name }));
    $("near-of").value = "mean";
    $("near-of").addEventListener("change", () => page.select(this.shownObject));
  }

  // Resolves when everything is drawn.
  async show(i) {
    this.shownObject = i;
    $("nothing").hidden = i >= 0;
    $("object").hidden = i < 0;
    if (i < 0) return;
    this.head(i); this.probabilities(i); this.catalogue(i); this.notes(i);
    const { data } = this.page, first = this.galaxies ? data.image(i) : data.lightCurve(i);
    const [observed, spectrum] = await Promise.all([first, data.spectrum(i)]);
    if (this.shownObject !== i) return; // another one was clicked meanwhile
    this.light = spectrum;
    if (this.galaxies) this.drawPicture(observed);
    else { this.raw = observed; this.drawCurve(); this.foldAt(this.page.core.period[i]); }
    this.drawSpectrum();
    await this.neighbours(i);
  }

  chip(k, text, bad) {
    return make("span", { className: bad ? "chip bad" : "chip" }, this.page.swatch(k), text);
  }

  head(i) {
    const { about, core } = this.page, parts = [make("span", { className: "id", textContent: about.ids[i] })];
    parts.push(this.chip(core.label[i], this.page.className(core.label[i])));
    if (core.predicted) {
      const k = core.predicted[i], p = k >= 0 ? core.probabilities[i * about.classes.length + k] / 65535 : NaN;
      const text = k < 0 ? "no prediction" : k < this.page.heads ? `predicted ${about.classes[k]} ${(100 * p).toFixed(0)} %` : "";
      parts.push(this.chip(k, text, core.label[i] >= 0 && k >= 0 && k !== core.label[i]));
    }
    const rank = this.page.lists.rank(i);
    parts.push(make("span", { className: "quiet", textContent: [about.splits[core.split[i]] || "no split", rank].filter(Boolean).join(" · ") }));
    $("head").replaceChildren(...parts);
  }

  // The image with a bar of ten seconds of arc.
  drawPicture(image) {
    const canvas = $("picture");
    canvas.setAttribute("role", "img");
    $("picture-note").textContent = image ? "z, r, g as red, green, blue; the bar is 10″" : "";
    canvas.setAttribute("aria-label", image ? `Image of ${image.width} pixels` : this.missing("image"));
    if (!image) return thumbnailText(canvas, this.missing("image"));
    const [c, width] = drawn(canvas, image), length = (10 / 0.262) * (width / image.width);
    c.strokeStyle = "#ffffff"; c.lineWidth = 2;
    c.beginPath(); c.moveTo(10, width - 10); c.lineTo(10 + length, width - 10); c.stroke();
  }

  drawCurve() {
    const { about } = this.page, curve = this.raw;
    if (!curve) { $("curve-note").textContent = ""; return this.curve.none(this.missing("light curve")); }
    const first = curve.time[0], zero = first > 2400000 ? 2450000 : 0;
    const x = curve.time.map((t) => t - zero), last = x.length - 1, pad = (x[last] - x[0]) * 0.02 || 1;
    const label = zero ? `HJD − ${zero} [d]` : about.units.time;
    this.curve.show({ x, y: curve.flux, error: curve.error, xLabel: label, yLabel: about.units.flux, range: [x[0] - pad, x[last] + pad] });
    const notes = [curve.full > x.length ? `${x.length} of ${curve.full} points` : `${x.length} points`];
    if (curve.dropped) notes.push(`${curve.dropped} not finite`);
    $("curve-note").textContent = notes.join(" · ");
  }

  foldAt(period) {
    const { about, core } = this.page, own = core.period[this.shownObject], good = period > 0 && Number.isFinite(period);
    $("period").value = good ? String(Number(period.toPrecision(9))) : "";
    for (const [id, factor] of [["half", 0.5], ["once", 1], ["twice", 2]]) {
      $(id).setAttribute("aria-pressed", good && Math.abs(period / (own * factor) - 1) < 1e-9);
      $(id).disabled = !(own > 0);
    }
    $("fold-note").textContent = "";
    if (!this.raw) return this.folded.none(this.missing("light curve"));
    if (!good) {
      const why = about.units.catalogue === "z-scores" ? "the data set has it normalised, and no statistics were given" : "it is not in the catalogue";
      return this.folded.none(`No period: ${why}. Type one above.`);
    }
    if (about.time_step && period < 10 * about.time_step) $("fold-note").textContent = `times in steps of ${about.time_step} d`;
    this.folded.show({ ...fold(this.raw, period), xLabel: "phase (0: faintest)", yLabel: about.units.flux, range: [-0.02, 2.02] });
  }

  drawSpectrum(keep = false) {
    const { about } = this.page, light = this.light;
    $("spectrum-note").textContent = "";
    if (!light) return this.spectrum.none(this.missing("spectrum"));
    const x = light.wavelength, y = $("smooth").checked ? smoothed(light.flux, 3) : light.flux;
    const z = this.galaxies ? this.page.core.redshift[this.shownObject] : 0, known = Number.isFinite(z);
    const where = this.galaxies ? (known ? `lines at z = ${z.toFixed(4)}` : "redshift not known: no lines") : "lines at rest";
    const notes = [`vacuum; ${where}`];
    if ($("smooth").checked) notes.push("running mean of 7 pixels");
    if (light.dropped) notes.push(`${light.dropped} pixels not finite`);
    $("spectrum-note").textContent = notes.join(" · ");
    this.spectrum.show({ x, y, line: true, xLabel: "wavelength [Å]", yLabel: about.units.spectrum, range: [x[0], x[x.length - 1]],
      marks: $("lines").checked ? shifted(about.features, z) : [] }, keep);
  }

  missing(what) {
    const notes = this.page.about.notes[this.shownObject] ?? [];
    const absent = notes.find((n) => n.startsWith("not in the data set"));
    return absent ? `No ${what}: ${absent}.` : `This object has no ${what}.`;
  }

  probabilities(i) {
    const { about, core } = this.page, box = $("probabilities"), count = about.classes.length;
    if (!core.probabilities) return box.replaceChildren(make("p", { className: "quiet", textContent: "The model has no class head." }));
    if (core.predicted[i] < 0) return box.replaceChildren(make("p", { className: "quiet", textContent: "Nothing to predict from." }));
    const p = Array.from(core.probabilities.subarray(i * count, (i + 1) * count), (v) => v / 65535);
    const order = [...p.keys()].sort((a, b) => p[b] - p[a]);
    box.replaceChildren(...order.map((k) => make("div", { className: "probability" },
      make("span", { textContent: about.classes[k], title: about.classes[k], style: { fontWeight: k === core.label[i] ? "700" : "" } }),
      make("span", { className: "track" }, make("i", { style: { width: `${100 * p[k]}%`, background: this.page.colour(k) } })),
      make("span", { className: "n", textContent: `${(100 * p[k]).toFixed(1)}` }))));
  }

  catalogue(i) {
    const { about, core } = this.page, width = about.columns.length, parts = [];
    about.columns.forEach((name, k) => {
      const value = k === about.period_column && !about.normalised ? core.period[i] : core.catalogue[i * width + k];
      const unit = about.column_units[k];
      parts.push(make("dt", { textContent: name, title: name }), make("dd", { textContent: shown(value, 5) + (unit && Number.isFinite(value) ? ` ${unit}` : "") }));
    });
    $("catalogue").replaceChildren(...parts);
    $("catalogue-note").textContent = about.units.catalogue;
  }

  notes(i) {
    const notes = this.page.about.notes[i] ?? [];
    $("notes").replaceChildren(...(notes.length ? [make("h2", { textContent: "Notes on the input" }),
      make("ul", {}, ...notes.map((text) => make("li", { textContent: text })))] : []));
  }

  async neighbours(i) {
    const { about, core } = this.page, by = $("near-of").value, top = about.neighbours, found = this.page.near(i, by);
    if (!found.length) {
      const why = by === "mean" ? "There is no other object." : `No neighbours by ${by}: the object lacks it, or no other has it.`;
      return $("near").replaceChildren(make("p", { className: "empty", textContent: why }));
    }
    const cards = found.map((j, k) => {
      const canvas = make("canvas"), cosine = core[`cosine_${by}`][i * top + k];
      const card = make("button", { title: `${about.ids[j]}: ${this.page.className(core.label[j])}, cosine ${cosine.toFixed(4)}` },
        canvas, make("span", { className: "id", textContent: about.ids[j] }),
        make("span", { className: "what" }, this.page.swatch(core.label[j]), this.page.className(core.label[j]),
          make("span", { className: "n", textContent: cosine.toFixed(3) })));
      card.dataset.index = j;
      card.addEventListener("click", () => this.page.select(j));
      return [card, canvas, j];
    });
    $("near").replaceChildren(...cards.map(([card]) => card));
    const { data } = this.page, colour = (j) => this.page.colour(core.label[j]);
    await Promise.all(cards.map(async ([, canvas, j]) => (this.galaxies ? miniature(canvas, await data.image(j))
      : thumbnail(canvas, await data.lightCurve(j), core.period[j], colour(j)))));
  }
}

// Lines at a redshift; those of our atmosphere stay, and where it is not known only they do.
function shifted(features, z) {
  return features.filter((f) => f.kind === "telluric" || Number.isFinite(z))
    .map((f) => (f.kind === "telluric" ? f : { ...f, wavelength: f.wavelength * (1 + z) }));
}

// An image over the whole of a canvas, its shorter side filled.
function drawn(canvas, image) {
  const [c, width, height] = fitted(canvas), scale = Math.max(width / image.width, height / image.height);
  c.clearRect(0, 0, width, height);
  c.drawImage(image, (width - image.width * scale) / 2, (height - image.height * scale) / 2, image.width * scale, image.height * scale);
  return [c, width, height];
}

function miniature(canvas, image) {
  if (image) drawn(canvas, image); else thumbnailText(canvas, "no image");
}

function thumbnailText(canvas, text) {
  const [c, width, height] = fitted(canvas);
  c.clearRect(0, 0, width, height);
  c.fillStyle = style("--panel");
  c.fillRect(0, 0, width, height);
  c.fillStyle = style("--quiet"); c.textAlign = "center"; c.font = "11px system-ui, sans-serif";
  wrapped(c, text, width - 16).forEach((line, k, all) => c.fillText(line, width / 2, height / 2 + (k - all.length / 2) * 14 + 11));
}

function smoothed(values, half) {
  const out = new Float64Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const from = Math.max(0, i - half), to = Math.min(values.length, i + half + 1);
    let sum = 0;
    for (let j = from; j < to; j++) sum += values[j];
    out[i] = sum / (to - from);
  }
  return out;
}

// A small folded (without period: plain) light curve.
function thumbnail(canvas, curve, period, colour) {
  const [c, width, height] = fitted(canvas);
  if (!curve) return thumbnailText(canvas, "no light curve");
  c.clearRect(0, 0, width, height);
  c.fillStyle = style("--panel");
  c.fillRect(0, 0, width, height);
  const known = period > 0, { x, y } = known ? fold(curve, period) : { x: curve.time, y: curve.flux };
  const [low, high] = robust(y), first = known ? 0 : x[0], span = (known ? 2 : x[x.length - 1] - x[0]) || 1;
  c.fillStyle = colour; c.globalAlpha = 0.8;
  for (let i = 0; i < x.length; i++)
    c.fillRect(3 + ((x[i] - first) / span) * (width - 7), 2 + (1 - (y[i] - low) / (high - low)) * (height - 5), 1.5, 1.5);
  c.globalAlpha = 1;
}
