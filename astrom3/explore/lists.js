// Legend with filters, search box, table of outliers.

const ROWS = 200; // of the table

class Lists {
  constructor(page) {
    this.page = page;
    this.legend(); this.tools(); this.search(); this.outliers();
  }

  legend() {
    const { page } = this, { about, core } = page, counts = new Map();
    for (const k of core.label) counts.set(k, (counts.get(k) ?? 0) + 1);
    const known = about.classes.map((_, k) => k).filter((k) => counts.has(k) || k < page.heads);
    this.keys = [...known.sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0)), ...(counts.has(-1) ? [-1] : [])];
    this.buttons = this.keys.map((k) => {
      const button = make("button", { title: `${page.className(k)}: click to hide or show, double click for this one only` },
        page.swatch(k), make("span", { className: "name", textContent: page.className(k) }),
        make("span", { className: "n", textContent: (counts.get(k) ?? 0).toLocaleString("en") }));
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => this.toggle(k));
      button.addEventListener("dblclick", () => { page.hidden.clear(); this.keys.forEach((o) => o !== k && page.hidden.add(o)); this.pressed(); });
      return button;
    });
    const all = make("button", { className: "all", textContent: "show all classes" });
    all.addEventListener("click", () => { page.hidden.clear(); this.pressed(); });
    this.scale = make("div", { id: "scale", hidden: true });
    $("legend").replaceChildren(this.scale, ...this.buttons, all);
  }

  toggle(k) {
    const { hidden } = this.page;
    if (hidden.has(k)) hidden.delete(k); else hidden.add(k);
    this.pressed();
  }

  pressed() {
    this.buttons.forEach((b, m) => b.setAttribute("aria-pressed", String(!this.page.hidden.has(this.keys[m]))));
    this.page.filter();
  }

  // Colour bar of a continuous quantity, null: none.
  bar(low, high, title, colourAt) {
    this.scale.hidden = low === null;
    if (low === null) return;
    const canvas = make("canvas", { width: 100, height: 1 }), c = canvas.getContext("2d");
    for (let x = 0; x < 100; x++) { c.fillStyle = `rgb(${colourAt(x / 99)})`; c.fillRect(x, 0, 1, 1); }
    this.scale.replaceChildren(make("div", { textContent: title }), canvas,
      make("div", { className: "ends" }, make("span", { textContent: shown(low, 3) }), make("span", { textContent: shown(high, 3) })),
      make("div", { textContent: "grey: not known" }));
  }

  tools() {
    const { page } = this, { about, core } = page;
    const ways = [["class", "class"], ...(core.predicted ? [["predicted", "prediction"]] : []), ["own", "outlier score"]];
    for (const [value, textContent] of ways) $("colour").append(make("option", { value, textContent }));
    const group = make("optgroup", { label: "catalogue" });
    about.columns.forEach((name) => group.append(make("option", { value: `column:${name}`, textContent: name })));
    $("colour").append(group);
    for (const name of about.vectors) {
      $("by").append(make("option", { value: name, textContent: name }));
      $("score-of").append(make("option", { value: name, textContent: name }));
    }
    $("by").value = $("score-of").value = "mean";
    for (const id of ["colour", "by"]) $(id).addEventListener("change", () => page.paint());
    if (about.splits.length > 1) about.splits.forEach((name, s) => {
      const box = make("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => { page.splits[s] = box.checked; page.filter(); });
      $("splits").append(make("label", {}, box, ` ${name || "no split"} `));
    });
    $("wrong-label").hidden = !core.predicted;
    $("wrong").addEventListener("change", () => page.filter());
    for (const id of ["in", "out", "fit"]) $(id).addEventListener("click", () => {
      const { map } = page, w = map.canvas.clientWidth / 2, h = map.canvas.clientHeight / 2;
      if (id === "fit") map.reset(); else map.zoomAt(w, h, id === "in" ? 1.5 : 1 / 1.5);
    });
  }

  // --- search -------------------------------------------------------------------------------------------------------

  search() {
    const box = $("query"), list = $("matches"), lower = this.page.about.ids.map((id) => id.toLowerCase());
    let found = [], at = 0;
    const close = () => { list.hidden = true; box.setAttribute("aria-expanded", "false"); box.removeAttribute("aria-activedescendant"); };
    const mark = () => [...list.children].forEach((li, k) => {
      li.setAttribute("aria-selected", String(k === at && found.length > 0));
      if (k === at && found.length) { li.scrollIntoView({ block: "nearest" }); box.setAttribute("aria-activedescendant", li.id); }
    });
    const choose = (k) => { if (found[k] === undefined) return; close(); box.blur(); this.page.select(found[k], true); };
    box.addEventListener("input", () => {
      found = matching(lower, box.value.trim().toLowerCase()); at = 0;
      const rows = found.map((i, k) => {
        const li = make("li", { id: `match-${k}`, textContent: this.page.about.ids[i] });
        li.setAttribute("role", "option");
        li.addEventListener("pointerdown", (e) => { e.preventDefault(); choose(k); });
        return li;
      });
      if (!found.length) rows.push(make("li", { className: "none", textContent: "No object with that id." }));
      list.replaceChildren(...rows);
      list.hidden = !box.value.trim();
      box.setAttribute("aria-expanded", String(!list.hidden));
      mark();
    });
    box.addEventListener("keydown", (e) => {
      if (e.key === "ArrowDown" || e.key === "ArrowUp") {
        at = Math.max(0, Math.min(found.length - 1, at + (e.key === "ArrowDown" ? 1 : -1)));
        e.preventDefault(); mark();
      } else if (e.key === "Enter") choose(at);
      else if (e.key === "Escape") close();
    });
    box.addEventListener("blur", close);
    document.addEventListener("keydown", (e) => {
      if (e.key === "/" && !["INPUT", "SELECT"].includes(document.activeElement.tagName)) { e.preventDefault(); box.focus(); box.select(); }
    });
  }

  // --- outliers -----------------------------------------------------------------------------------------------------

  outliers() {
    $("score").append(make("option", { value: "own", textContent: "distance to own class" }),
      make("option", { value: "suspicion", textContent: "own − nearest other class" }));
    for (const id of ["score", "score-of"]) $(id).addEventListener("change", () => { this.fill(); this.page.details.show(this.page.selected); });
    this.places = new Map();
  }

  scoreOf(i) {
    const { core } = this.page, by = $("score-of").value, own = core[`own_${by}`][i];
    return $("score").value === "own" ? own : own - core[`other_${by}`][i];
  }

  // The outliers among the objects that pass the filters.
  fill() {
    const { page } = this, { about, core } = page, by = $("score-of").value, scored = [];
    for (let i = 0; i < about.ids.length; i++) if (page.map.visible[i] && Number.isFinite(this.scoreOf(i))) scored.push(i);
    const scores = new Map(scored.map((i) => [i, this.scoreOf(i)]));
    scored.sort((a, b) => scores.get(b) - scores.get(a));
    this.places = new Map(scored.map((i, k) => [i, k + 1]));
    const cell = (text, className = "") => make("td", { className, textContent: text });
    $("outlier-rows").replaceChildren(...scored.slice(0, ROWS).map((i, k) => {
      const open = make("button", { textContent: about.ids[i], title: about.ids[i] });
      const row = make("tr", {}, cell(String(k + 1), "n"), make("td", {}, open), make("td", {}, page.swatch(core.label[i]), ` ${page.className(core.label[i])}`),
        cell(core.predicted && core.predicted[i] >= 0 ? about.classes[core.predicted[i]] : "—"),
        cell(core[`own_${by}`][i].toFixed(4), "n"), cell(shownDistance(core[`other_${by}`][i]), "n"),
        cell(core[`nearest_${by}`][i] >= 0 ? about.classes[core[`nearest_${by}`][i]] : "—"));
      row.dataset.index = i;
      row.addEventListener("click", () => page.select(i, true));
      return row;
    }));
    $("outlier-empty").hidden = scored.length > 0;
    $("outlier-empty").textContent = "No labelled object among those shown has this score.";
    const least = Math.min(ROWS, scored.length);
    $("outlier-note").textContent = scored.length ? `cosine distance to class centroids; first ${least} of ${scored.length.toLocaleString("en")}` : "";
    this.highlight();
  }

  highlight() {
    for (const row of $("outlier-rows").children) row.setAttribute("aria-selected", String(Number(row.dataset.index) === this.page.selected));
  }

  rank(i) {
    const place = this.places.get(i);
    if (!place) return Number.isFinite(this.scoreOf(i)) ? "" : "no outlier score";
    return `outlier ${place.toLocaleString("en")} of ${this.places.size.toLocaleString("en")}`;
  }
}

function shownDistance(value) { return Number.isFinite(value) ? value.toFixed(4) : "—"; }

// Up to 30 objects: the id itself first, then those that begin with the text, then those that have it anywhere.
function matching(lower, text) {
  if (!text) return [];
  const whole = [], first = [], inside = [];
  for (let i = 0; i < lower.length; i++) {
    const at = lower[i].indexOf(text);
    if (at < 0) continue;
    (lower[i] === text ? whole : at === 0 ? first : inside).push(i);
  }
  return [...whole, ...first, ...inside].slice(0, 30);
}
