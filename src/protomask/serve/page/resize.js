/**
 * Resizing as the package's Python does it. Images are {width, height, data}, data with `step` bytes per pixel of which
 * the first three are red, green and blue; results have three.
 */

/**
 * What a file takes: an image in the size of its rule, channels first.
 * @param {{width: number, height: number, data: ArrayLike<number>, step: number}} image
 * @param {object} rule `input` of the metadata of an exported file
 * @returns {{width: number, height: number, data: Uint8Array}} data is (3, height, width)
 */
export function prepare(image, rule) {
  const [height, width] = sizeFor(rule, image.height, image.width);
  const same = height === image.height && width === image.width;
  const resized = same ? image : { ...METHODS[rule.method](image, height, width), step: 3 };
  const data = new Uint8Array(3 * height * width);
  for (let pixel = 0; pixel < height * width; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      data[channel * height * width + pixel] = resized.data[pixel * resized.step + channel];
    }
  }
  return { width, height, data };
}

function sizeFor(rule, height, width) {
  if (rule.kind === "any") return [height, width];
  if (rule.kind === "fixed") return rule.size;
  const [short, long] = [Math.min(height, width), Math.max(height, width)];
  const { image_size: wanted, max_image_size: most } = rule;
  if (rule.rounding === "short_side") {
    let target = wanted;
    if ((long / short) * wanted > most) target = roundHalfEven((most * short) / long);
    return [height, width].map((side) => Math.max(1, side === short ? target : Math.floor((target * side) / short)));
  }
  const scale = Math.min(wanted / short, most / long);
  const rest = rule.rounding === "half_up" ? 0.5 : 0;
  return [height, width].map((side) => Math.max(1, Math.floor(side * scale + rest)));
}

function roundHalfEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

const METHODS = { pillow, opencv, bilinear };

/** Pillow's filter BILINEAR: whole numbers, rows first, each pass rounded. */
function pillow(image, newHeight, newWidth) {
  return resizeColumns(resizeRows(image, newWidth), newHeight);
}

/** Every row to another width. */
function resizeRows({ width, height, data, step }, newWidth) {
  const done = new Uint8Array(height * newWidth * 3);
  eachTap(width, newWidth, (target, first, weights) => {
    for (let row = 0; row < height; row += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = 1 << 21;
        let place = (row * width + first) * step + channel;
        for (let tap = 0; tap < weights.length; tap += 1, place += step) sum += data[place] * weights[tap];
        done[(row * newWidth + target) * 3 + channel] = sum >> 22;
      }
    }
  });
  return { width: newWidth, height, data: done, step: 3 };
}

/** Every column to another height. */
function resizeColumns({ width, height, data, step }, newHeight) {
  const done = new Uint8Array(newHeight * width * 3);
  eachTap(height, newHeight, (target, first, weights) => {
    for (let column = 0; column < width; column += 1) {
      for (let channel = 0; channel < 3; channel += 1) {
        let sum = 1 << 21;
        let place = (first * width + column) * step + channel;
        for (let tap = 0; tap < weights.length; tap += 1, place += width * step) sum += data[place] * weights[tap];
        done[(target * width + column) * 3 + channel] = sum >> 22;
      }
    }
  });
  return { width, height: newHeight, data: done, step: 3 };
}

/** For each target pixel the first source pixel and the weights from there on, in 2^-22. */
function eachTap(source, target, use) {
  const scale = source / target;
  const reach = Math.max(scale, 1);
  for (let place = 0; place < target; place += 1) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(source, Math.trunc(centre + reach + 0.5));
    const shares = [];
    for (let at = first; at < end; at += 1) shares.push(Math.max(0, 1 - Math.abs((at - centre + 0.5) / reach)));
    const sum = shares.reduce((one, other) => one + other, 0);
    use(place, first, Int32Array.from(shares, (share) => Math.trunc(0.5 + (share / sum) * (1 << 22))));
  }
}

/** PyTorch's interpolate without antialiasing, rounded to even. */
function bilinear({ width, height, data, step }, newHeight, newWidth) {
  const [left, right, across] = neighbours(width, newWidth);
  const [upper, lower, down] = neighbours(height, newHeight);
  const done = new Uint8Array(newHeight * newWidth * 3);
  const { fround } = Math;
  for (let row = 0; row < newHeight; row += 1) {
    for (let column = 0; column < newWidth; column += 1) {
      const [a, b] = [across[column], down[row]];
      for (let channel = 0; channel < 3; channel += 1) {
        const at = (y, x) => data[(y * width + x) * step + channel];
        const mix = (y) => fround(fround(at(y, left[column]) * fround(1 - a)) + fround(at(y, right[column]) * a));
        const value = fround(fround(mix(upper[row]) * fround(1 - b)) + fround(mix(lower[row]) * b));
        done[(row * newWidth + column) * 3 + channel] = roundHalfEven(value);
      }
    }
  }
  return { width: newWidth, height: newHeight, data: done };
}

function neighbours(source, target) {
  const { fround } = Math;
  const scale = fround(source / target);
  const [first, second, shares] = [new Int32Array(target), new Int32Array(target), new Float32Array(target)];
  for (let index = 0; index < target; index += 1) {
    const place = Math.max(0, fround(fround(fround(index + 0.5) * scale) - 0.5));
    first[index] = Math.min(Math.floor(place), source - 1);
    second[index] = Math.min(first[index] + 1, source - 1);
    shares[index] = place - first[index];
  }
  return [first, second, shares];
}

/** OpenCV's INTER_LINEAR: shares are whole 2048ths. */
function opencv({ width, height, data, step }, newHeight, newWidth) {
  const columns = opencvTaps(width, newWidth);
  const rows = opencvTaps(height, newHeight);
  columns.first.forEach((first, index) => {
    if (first < 0 || first >= width - 1) [columns.left[index], columns.right[index]] = [2048, 0];
  });
  const clip = (value, most) => Math.min(Math.max(value, 0), most - 1);
  const done = new Uint8Array(newHeight * newWidth * 3);
  for (let row = 0; row < newHeight; row += 1) {
    const lines = [clip(rows.first[row], height), clip(rows.first[row] + 1, height)];
    for (let column = 0; column < newWidth; column += 1) {
      const [x1, x2] = [clip(columns.first[column], width), clip(columns.first[column] + 1, width)];
      for (let channel = 0; channel < 3; channel += 1) {
        const [upper, lower] = lines.map((y) => {
          const from = (x) => data[(y * width + x) * step + channel];
          return (from(x1) * columns.left[column] + from(x2) * columns.right[column]) >> 4;
        });
        const sum = ((upper * rows.left[row]) >> 16) + ((lower * rows.right[row]) >> 16);
        done[(row * newWidth + column) * 3 + channel] = (sum + 2) >> 2;
      }
    }
  }
  return { width: newWidth, height: newHeight, data: done };
}

function opencvTaps(source, target) {
  const scale = 1 / (target / source);
  const [first, left, right] = [new Int32Array(target), new Int32Array(target), new Int32Array(target)];
  for (let index = 0; index < target; index += 1) {
    const place = Math.fround((index + 0.5) * scale - 0.5);
    first[index] = Math.floor(place);
    const share = Math.fround(place - first[index]);
    left[index] = roundHalfEven(Math.fround(Math.fround(1 - share) * 2048));
    right[index] = roundHalfEven(Math.fround(share * 2048));
  }
  return { first, left, right };
}
