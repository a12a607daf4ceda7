// A large map: tiles that the server paints, and objects that it is asked for. The panel is that of the small page.

class TileMap extends Viewport {
  // about: bounds [left, lower, side], tile, deepest; query(): the filters as a query string.
  constructor(canvas, about, query, on) {
    super(canvas);
    this.about = about; this.query = query; this.on = on;
    this.tiles = new Map(); this.selected = null; this.near = []; this.firstPaint = 0;
    this.overview = this.load("overview.png");
    this.seen = new Promise((resolve) => { this.overview.addEventListener("load", resolve); this.overview.addEventListener("error", resolve); });
    this.seen.then(() => { this.begun = true; this.request(); }); // tiles and lists wait until there is something to see
    this.reset();
    this.listen();
    new ResizeObserver(() => this.request()).observe(canvas);
  }

  load(address) {
    const image = new Image();
    image.onload = () => { image.ready = true; this.request(); };
    image.src = address;
    return image;
  }

  reset() {
    const [x, y, side] = this.about.bounds;
    this.centre = [x + side / 2, y + side / 2]; this.zoom = 1;
    this.request();
  }

  get scale() {
    return (this.zoom * Math.min(this.canvas.clientWidth || 1, Math.max((this.canvas.clientHeight || 1) - CAPTION, 1))) / this.about.bounds[2];
  }

  // Tiles of one zoom that the window needs: [column, row]. Below, the overview or a coarser tile shows through.
  needed(level) {
    const [left, lower, side] = this.about.bounds, width = side / 2 ** level, last = 2 ** level - 1, found = [];
    const [x0, y1] = this.toMap(0, 0), [x1, y0] = this.toMap(this.canvas.clientWidth, this.canvas.clientHeight);
    const clamp = (v) => Math.max(0, Math.min(last, v)), top = lower + side;
    for (let row = clamp(Math.floor((top - y1) / width)); row <= clamp(Math.floor((top - y0) / width)); row++)
      for (let column = clamp(Math.floor((x0 - left) / width)); column <= clamp(Math.floor((x1 - left) / width)); column++)
        found.push([column, row]);
    return found;
  }

  tile(level, column, row) {
    const key = `tiles/${level}/${column}/${row}.png?${this.query()}`;
    if (!this.tiles.has(key)) {
      this.tiles.set(key, this.load(key));
      if (this.tiles.size > 600) this.tiles.delete(this.tiles.keys().next().value);
    }
    return this.tiles.get(key);
  }

  draw() {
    const [c, width, height] = fitted(this.canvas), [left, lower, side] = this.about.bounds, ratio = window.devicePixelRatio || 1;
    c.clearRect(0, 0, width, height);
    if (!this.begun) return;
    c.imageSmoothingEnabled = false;
    const pixels = this.scale * side * ratio, level = Math.max(0, Math.min(this.about.deepest, Math.round(Math.log2(pixels / this.about.tile))));
    const pieces = this.needed(level).map(([column, row]) => [this.tile(level, column, row), column, row]);
    this.complete = pieces.every(([image]) => image.ready);
    const plain = this.query() === "by=label";
    if (!this.complete && plain && this.overview.ready) {
      const [x, y] = this.toScreen([left, lower + side]);
      c.drawImage(this.overview, x, y, this.scale * side, this.scale * side);
      this.painted();
    } else for (const [image, column, row] of pieces) {
      if (!image.ready) continue;
      const w = side / 2 ** level, [x, y] = this.toScreen([left + column * w, lower + side - row * w]);
      const [u, v] = this.toScreen([left + (column + 1) * w, lower + side - (row + 1) * w]);
      c.drawImage(image, Math.round(x), Math.round(y), Math.round(u) - Math.round(x), Math.round(v) - Math.round(y));
      this.painted();
    }
    this.rings(c);
  }

  painted() { if (!this.firstPaint) this.firstPaint = performance.now(); }

  rings(c) {
    if (!this.selected) return;
    const ring = (place, r, colour, width) => {
      const [x, y] = this.toScreen(place);
      c.strokeStyle = colour; c.lineWidth = width;
      c.beginPath(); c.arc(x, y, r, 0, 7); c.stroke();
    };
    for (const place of this.near) ring(place, 7, style("--ink"), 1.4);
    ring(this.selected, 10, style("--paper"), 5);
    ring(this.selected, 10, style("--ink"), 2.5);
  }

  get deepest() { return 2 ** this.about.deepest; }

  toScreen([x, y]) { return this.placeOnScreen(x, y); }

  reveal([x, y]) { this.revealPlace(x, y); }

  clicked(px, py) { this.on.click(...this.toMap(px, py), 9 / this.scale); }

  keys() { return { Escape: () => this.on.escape() }; }
}

async function asked(address) {
  const answer = await fetch(address), found = await answer.json();
  if (!answer.ok) throw new Error(found.error ?? `the server answers ${answer.status}`);
  return found;
}

class LargePage {
  constructor(about) {
    this.whole = about; this.n = about.n; this.selected = -1; this.global = []; this.asking = 0;
    this.heads = about.heads; this.rankOf = ranks(about.classes);
    this.hidden = new Set(); this.splits = new Set();
    this.lists = { rank: () => "" };
    this.about = { ...about, crossings: about.kinds.filter((name) => !about.vectors.includes(name)), notes: {}, ids: [] };
    this.map = new TileMap($("map"), about, () => this.query(true), { click: (x, y, reach) => this.click(x, y, reach), escape: () => this.clear() });
    $("subtitle").textContent = `${format(this.n)} objects · ${about.data} · model ${about.model}`;
    $("how").textContent = about.how;
    this.tools(); this.legend(); this.search();
    this.details = new Details(this);
    this.map.seen.then(() => this.filter());
    addEventListener("hashchange", () => this.fromHash());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.map.request());
    this.fromHash();
  }

  className(k) { return k < 0 ? "no label" : this.whole.classes[k]; }

  colour(k) { return k < 0 ? UNKNOWN : COLOURS[this.rankOf[k] % COLOURS.length]; }

  swatch(k) {
    const canvas = make("canvas", { className: "mark", width: 24, height: 24 }), c = canvas.getContext("2d");
    c.fillStyle = this.colour(k); c.fillRect(4, 4, 16, 16);
    canvas.setAttribute("aria-hidden", "true");
    return canvas;
  }

  // Filters (and colour) as the server reads them.
  query(painted = false) {
    const parts = painted ? [`by=${$("colour").value === "predicted" ? "predicted" : "label"}`] : [];
    if (this.hidden.size) parts.push(`hide=${[...this.hidden].sort((a, b) => a - b)}`);
    if (this.splits.size) parts.push(`splits=${[...this.splits].sort((a, b) => a - b)}`);
    if ($("wrong").checked) parts.push("wrong=1");
    return parts.join("&");
  }

  // --- lists --------------------------------------------------------------------------------------------------------

  tools() {
    const { whole } = this;
    for (const [value, textContent] of [["class", "class"], ...(whole.heads ? [["predicted", "prediction"]] : [])])
      $("colour").append(make("option", { value, textContent }));
    $("colour").addEventListener("change", () => this.map.request());
    for (const name of whole.vectors) $("score-of").append(make("option", { value: name, textContent: name }));
    $("score-of").value = "mean";
    $("score").append(make("option", { value: "own", textContent: "distance to own class" }),
      make("option", { value: "suspicion", textContent: "own − nearest other class" }));
    for (const id of ["score", "score-of"]) $(id).addEventListener("change", () => this.outliers());
    if (whole.splits.length > 1) whole.splits.forEach((name, s) => {
      const box = make("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => { if (box.checked) this.splits.delete(s); else this.splits.add(s); this.filter(); });
      $("splits").append(make("label", {}, box, ` ${name || "no split"} `));
    });
    $("wrong-label").hidden = !whole.heads;
    $("wrong").addEventListener("change", () => this.filter());
    for (const id of ["in", "out", "fit"]) $(id).addEventListener("click", () => {
      const [w, h] = this.map.middle;
      if (id === "fit") this.map.reset(); else this.map.zoomAt(w, h, id === "in" ? 1.5 : 1 / 1.5);
    });
  }

  legend() {
    const { counts } = this.whole, keys = Object.keys(counts).map(Number).sort((a, b) => counts[b] - counts[a]);
    const pressed = () => { buttons.forEach((b, m) => b.setAttribute("aria-pressed", String(!this.hidden.has(keys[m])))); this.filter(); };
    const buttons = keys.map((k) => {
      const button = make("button", { title: `${this.className(k)}: click to hide or show, double click for this one only` },
        this.swatch(k), make("span", { className: "name", textContent: this.className(k) }), make("span", { className: "n", textContent: format(counts[k]) }));
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => { if (!this.hidden.delete(k)) this.hidden.add(k); pressed(); });
      button.addEventListener("dblclick", () => { this.hidden = new Set(keys.filter((o) => o !== k)); pressed(); });
      return button;
    });
    const all = make("button", { className: "all", textContent: "show all classes" });
    all.addEventListener("click", () => { this.hidden.clear(); pressed(); });
    $("legend").replaceChildren(...buttons, all);
  }

  search() {
    const box = $("query"), list = $("matches");
    let found = [], wanted = 0;
    const close = () => { list.hidden = true; box.setAttribute("aria-expanded", "false"); };
    const choose = (k) => { if (found[k] === undefined) return; close(); box.blur(); this.select(found[k], true); };
    box.addEventListener("input", async () => {
      const text = box.value.trim(), mine = ++wanted;
      if (!text) return close();
      const { rows, ids } = await asked(`search?text=${encodeURIComponent(text)}`);
      if (mine !== wanted) return; // typed on meanwhile
      found = rows;
      const items = ids.map((id, k) => {
        const li = make("li", { textContent: id });
        li.setAttribute("role", "option");
        li.setAttribute("aria-selected", String(k === 0));
        li.addEventListener("pointerdown", (e) => { e.preventDefault(); choose(k); });
        return li;
      });
      list.replaceChildren(...(items.length ? items : [make("li", { className: "none", textContent: "No object with that id." })]));
      list.hidden = false;
      box.setAttribute("aria-expanded", "true");
    });
    box.addEventListener("keydown", (e) => { if (e.key === "Enter") choose(0); else if (e.key === "Escape") close(); });
    box.addEventListener("blur", close);
    document.addEventListener("keydown", (e) => {
      if (e.key === "/" && !["INPUT", "SELECT"].includes(document.activeElement.tagName)) { e.preventDefault(); box.focus(); box.select(); }
    });
  }

  async filter() {
    this.map.request();
    const query = this.query(), { shown: count } = await asked(`count?${query}`);
    if (query !== this.query()) return;
    $("count").textContent = count < this.n ? `${format(count)} of ${format(this.n)} shown` : `${format(count)} objects`;
    $("map-empty").hidden = count > 0;
    await this.outliers();
  }

  async outliers() {
    const query = `of=${encodeURIComponent($("score-of").value)}&score=${$("score").value}&${this.query()}`;
    this.listed = query;
    const found = await asked(`outliers?${query}`);
    if (this.listed !== query) return;
    const cell = (text, className = "") => make("td", { className, textContent: text }), name = (k) => (k >= 0 ? this.whole.classes[k] : "—");
    $("outlier-rows").replaceChildren(...found.rows.map((row, k) => {
      const line = make("tr", {}, cell(String(k + 1), "n"), make("td", {}, make("button", { textContent: found.ids[k] })),
        make("td", {}, this.swatch(found.label[k]), ` ${this.className(found.label[k])}`), cell(name(found.predicted[k])),
        cell(found.own[k].toFixed(4), "n"), cell(found.other[k]?.toFixed(4) ?? "—", "n"), cell(name(found.nearest[k])));
      line.dataset.row = row;
      line.addEventListener("click", () => this.select(row, true));
      return line;
    }));
    $("outlier-empty").hidden = found.rows.length > 0;
    $("outlier-empty").textContent = "No labelled object among those shown has this score.";
    $("outlier-note").textContent = found.rows.length ? `cosine distance to class centroids; first ${found.rows.length} of ${format(found.known)}` : "";
  }

  // --- selection ----------------------------------------------------------------------------------------------------

  async click(x, y, reach) {
    const { row } = await asked(`hit?x=${x}&y=${y}&reach=${reach}&${this.query()}`);
    if (row >= 0) await this.choose(row);
  }

  clear() {
    this.selected = -1; this.map.selected = null; this.map.near = []; this.asking++;
    this.map.request();
    history.replaceState(null, "", location.pathname);
    this.details.show(-1);
  }

  // Of the panel: j counts the objects that came with the selected one.
  near(i, by) {
    const top = this.about.neighbours;
    return [...this.core[`neighbours_${by}`].subarray(i * top, (i + 1) * top)].filter((j) => j >= 0);
  }

  select(j, isRow = false) { return this.choose(isRow ? j : this.global[j], isRow || j !== this.at); }

  // Returns when the object of a row of the map is drawn.
  async choose(row, reveal = false) {
    const mine = ++this.asking, found = await asked(`object/${row}`), core = await unpack(found.blocks.core);
    if (mine !== this.asking) return; // another one was clicked meanwhile
    this.selected = row; this.global = found.rows; this.at = found.at; this.core = core;
    this.about = { ...found.about, normalised: found.about.units.catalogue === "z-scores" };
    this.data = new Observations(found.about.block, (name) => found.blocks[name]);
    this.map.selected = found.xy[found.at];
    this.map.near = this.near(found.at, $("near-of").value).map((j) => found.xy[j]);
    if (reveal) this.map.reveal(this.map.selected);
    this.map.request();
    const hash = `#${encodeURIComponent(this.about.ids[found.at])}`;
    if (location.hash !== hash) location.hash = hash;
    await this.details.show(found.at);
    this.drawn = row;
  }

  async fromHash() {
    let id = "";
    try { id = decodeURIComponent(location.hash.slice(1)); } catch { /* not one of ours */ }
    if (!id || (this.selected >= 0 && this.about.ids[this.at] === id)) return;
    const { row } = await asked(`find?id=${encodeURIComponent(id)}`);
    if (row >= 0) await this.choose(row, true);
  }
}

function failed(error) {
  $("failure").hidden = false;
  $("failure").textContent = `${error.message ?? error}. Is the server still there?`;
}

addEventListener("unhandledrejection", (event) => { event.preventDefault(); failed(event.reason); });
window.astrom3 = new LargePage(JSON.parse(element("map-about")));
