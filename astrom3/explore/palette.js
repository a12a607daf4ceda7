// Colours of classes and of numbers.

// Petroff 2021 (arXiv:2107.02270), ten colours that stay apart with colour vision deficiency, the vivid ones first.
const COLOURS = ["#3f90da", "#bd1f01", "#ffa90e", "#832db6", "#92dadd", "#e76300", "#b9ac70", "#717581", "#a96b59", "#94a4a2"];
const PAPER_ORDER = ["EW", "SR", "EA", "RRAB", "EB", "ROT", "RRC", "HADS", "M", "DSCT"];
const UNKNOWN = "#a7adb5";
// Cividis (Nuñez et al. 2018, arXiv:1712.01662) at eleven places.
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#f0dc47", "#fee838"].map(rgb);

function cividis(t) {
  const at = Math.max(0, Math.min(1, t)) * (CIVIDIS.length - 1), k = Math.min(CIVIDIS.length - 2, Math.floor(at)), f = at - k;
  return CIVIDIS[k].map((v, c) => Math.round(v + (CIVIDIS[k + 1][c] - v) * f));
}

function format(n) { return n.toLocaleString("en"); }

// Place of each class in the palette: the paper's order for its classes, then the others.
function ranks(classes) {
  const order = [...PAPER_ORDER.filter((c) => classes.includes(c)), ...classes.filter((c) => !PAPER_ORDER.includes(c))];
  return classes.map((c) => order.indexOf(c));
}
