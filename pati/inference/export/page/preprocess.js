// From a photo to the pixels that the network receives: the arithmetic of `Preprocess` in Python, that is of Pillow's
// bilinear resampling. https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Resample.c

const BITS = 22; // of the fixed-point weights

// The weights of the `count` samples that replace those from `from` to `to` of a line of `length` samples.
function weightsOf(length, from, to, count) {
  const scale = (to - from) / count;
  const support = Math.max(scale, 1); // grows with the reduction, so that all source pixels are averaged
  return Array.from({ length: count }, (_, index) => {
    const center = from + (index + 0.5) * scale;
    const start = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(length, Math.trunc(center + support + 0.5));
    const parts = [];
    for (let at = start; at < end; at++) parts.push(Math.max(0, 1 - Math.abs((at - center + 0.5) * (1 / support))));
    const sum = parts.reduce((one, other) => one + other, 0);
    return { start, weights: Int32Array.from(parts, (part) => Math.trunc(0.5 + (part / sum) * 2 ** BITS)) };
  });
}

// RGB pixels `size` × `size` of a photo that is read in strips: `read(top, rows)` -> RGBA.
export function fitted(read, width, height, size, resize) {
  if (resize === "pad" && width !== height) return padded(read, width, height, size);
  let box = [0, 0, width, height];
  if (resize === "crop") {
    const side = Math.min(width, height);
    const [left, top] = [(width - side) / 2, (height - side) / 2];
    box = [left, top, left + side, top + side];
  }
  return resampled(read, width, height, size, size, box);
}

function padded(read, width, height, size) {
  const scale = size / Math.max(width, height);
  const [across, down] = [width, height].map((side) => Math.max(1, roundedToEven(side * scale)));
  const inner = resampled(read, width, height, across, down, [0, 0, width, height]);
  const [left, top] = [Math.floor((size - across) / 2), Math.floor((size - down) / 2)];
  const pixels = new Uint8Array(size * size * 3).fill(128);
  for (let row = 0; row < down; row++) {
    pixels.set(inner.subarray(row * across * 3, (row + 1) * across * 3), ((top + row) * size + left) * 3);
  }
  return pixels;
}

// As Python rounds.
function roundedToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

const STRIP = 2 ** 22; // pixels read at once: some browsers refuse larger canvases

function resampled(read, width, height, across, down, [left, top, right, bottom]) {
  const columns = weightsOf(width, left, right, across);
  const rows = weightsOf(height, top, bottom, down);
  const first = rows[0].start;
  const last = Math.max(...rows.map((row) => row.start + row.weights.length));
  const narrow = new Uint8Array((last - first) * across * 3);
  const strip = Math.max(1, Math.floor(STRIP / width));
  for (let at = first; at < last; at += strip) {
    const count = Math.min(strip, last - at);
    const pixels = read(at, count);
    let target = (at - first) * across * 3;
    for (let row = 0; row < count; row++) {
      for (const { start, weights } of columns) {
        let [red, green, blue] = [1 << (BITS - 1), 1 << (BITS - 1), 1 << (BITS - 1)];
        for (let step = 0, source = (row * width + start) * 4; step < weights.length; step++, source += 4) {
          red += pixels[source] * weights[step];
          green += pixels[source + 1] * weights[step];
          blue += pixels[source + 2] * weights[step];
        }
        narrow[target++] = red >> BITS;
        narrow[target++] = green >> BITS;
        narrow[target++] = blue >> BITS;
      }
    }
  }
  const result = new Uint8Array(across * down * 3);
  rows.forEach(({ start, weights }, row) => {
    for (let column = 0; column < across * 3; column++) {
      let sum = 1 << (BITS - 1);
      for (let step = 0, source = (start - first) * across * 3 + column; step < weights.length; step++) {
        sum += narrow[source + step * across * 3] * weights[step];
      }
      result[row * across * 3 + column] = sum >> BITS;
    }
  });
  return result;
}
