// Arrays of the page (packing.py): base64 -> zlib stream -> named typed arrays.

const TYPES = { uint8: Uint8Array, int8: Int8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array,
  int32: Int32Array, float32: Float32Array, float64: Float64Array };

// The text of a block that stands in the page.
function element(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no block ${id}: the file is damaged`);
  return found.textContent;
}

async function unpack(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const size = new DataView(buffer).getUint32(0, true), start = 4 + size, arrays = {};
  for (const about of JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)))) {
    const type = TYPES[about.type], width = type.BYTES_PER_ELEMENT, at = start + about.offset;
    const integers = width > 1 && !about.type.startsWith("float");
    arrays[about.name] = integers
      ? new type(fromPlanes(new Uint8Array(buffer, at, about.length * width), width).buffer)
      : new type(buffer, at, about.length);
  }
  return arrays;
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// All first bytes, then all second bytes, ... -> whole numbers.
function fromPlanes(planes, width) {
  const n = planes.length / width, bytes = new Uint8Array(planes.length);
  for (let k = 0; k < width; k++) for (let i = 0, j = k * n; i < n; i++) bytes[i * width + k] = planes[j + i];
  return bytes;
}

// Light curves, images and spectra, decoded a block at a time; the last few blocks are kept.
class Observations {
  // textOf: name of a block -> its text.
  constructor(size, textOf = element, kept = 24) { this.size = size; this.textOf = textOf; this.kept = kept; this.blocks = new Map(); }

  block(kind, number) {
    const id = `${kind}-${number}`;
    const found = this.blocks.get(id) ?? unpack(this.textOf(id));
    this.blocks.delete(id);
    this.blocks.set(id, found);
    if (this.blocks.size > this.kept) this.blocks.delete(this.blocks.keys().next().value);
    return found;
  }

  async at(kind, i) {
    const block = await this.block(kind, Math.floor(i / this.size)), k = i % this.size;
    block.ends ??= block.count.reduce((ends, n) => (ends.push((ends.at(-1) ?? 0) + n), ends), []);
    return [block, k, block.ends[k] - block.count[k], block.count[k]];
  }

  // {time [day], flux, error: Float64Array, full, dropped}, or null where the object has no light curve.
  async lightCurve(i) {
    const [b, k, first, n] = await this.at("curves", i);
    if (!n) return null;
    const time = new Float64Array(n), flux = new Float64Array(n), error = new Float64Array(n);
    for (let j = 0, ticks = 0; j < n; j++) {
      ticks += b.time[first + j];
      time[j] = b.t0[k] + ticks * b.t_step[k];
      flux[j] = b.flux_low[k] + b.flux_step[k] * b.flux[first + j];
      error[j] = b.error_low[k] + b.error_step[k] * b.error[first + j];
    }
    return { time, flux, error, full: b.full[k], dropped: b.dropped[k] };
  }

  // The image of a galaxy, decoded, or null where the object has none.
  async image(i) {
    const [b, , first, n] = await this.at("images", i);
    if (!n) return null;
    return createImageBitmap(new Blob([b.jpeg.slice(first, first + n)], { type: "image/jpeg" }));
  }

  // {wavelength [Angstrom], flux: Float64Array, dropped}, or null.
  async spectrum(i) {
    const [b, k, first, n] = await this.at("spectra", i);
    if (!n) return null;
    const wavelength = new Float64Array(n), flux = new Float64Array(n), grid = b.grid[k];
    let given = 0;
    if (grid === 3) for (let m = 0; m < k; m++) if (b.grid[m] === 3) given += b.count[m];
    for (let j = 0, ticks = 0; j < n; j++) {
      const rule = b.first[k] + b.step[k] * j;
      wavelength[j] = grid === 1 ? 10 ** rule : grid === 2 ? rule : (ticks += b.wavelength[given + j]) * 0.01;
      flux[j] = b.centre[k] + b.scale[k] * Math.sinh(b.low[k] + b.code_step[k] * b.flux[first + j]);
    }
    return { wavelength, flux, dropped: b.dropped[k] };
  }
}
