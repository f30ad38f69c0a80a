/** Masks as runs of pixels, from probabilities on grids. */

const { fround } = Math;

/** Where the pixels of an axis lie on a grid that covers it: {first, positions}. */
export function resizedLine(cells, pixels) {
  const scale = fround(cells / Math.max(pixels, 1));
  const positions = new Float32Array(pixels);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    positions[pixel] = Math.min(Math.max(fround(fround(fround(pixel + 0.5) * scale) - 0.5), 0), Math.max(cells - 1, 0));
  }
  return { first: 0, positions };
}

/** The pixels that the mask of a region can reach on one axis; low and high: sides of its box. */
export function regionLine(low, high, cells, pixels, paste) {
  return { integer: integerLine, continuous: continuousLine, pixels: pixelsLine }[paste](low, high, cells, pixels);
}

/** A pixel belongs to the mask of a region when its probability is above. */
export const PASTE_THRESHOLDS = { integer: 0.5, continuous: 0.5 - 2 ** -25, pixels: fround(0.4) - 2 ** -25 };

function integerLine(low, high, cells, pixels) {
  const centre = fround(fround(high + low) * 0.5);
  const reach = fround(fround(fround(high - low) * 0.5) * fround((cells + 2) / cells));
  const [first, last] = [Math.trunc(fround(centre - reach)), Math.trunc(fround(centre + reach))];
  const begin = Math.min(Math.max(first, 0), pixels);
  const end = Math.max(Math.min(last + 1, pixels), 0);
  const scale = fround((cells + 2) / Math.max(last - first + 1, 1));
  const positions = new Float32Array(Math.max(0, end - begin));
  positions.forEach((_, index) => {
    const place = fround(fround(fround(begin - first + index + 0.5) * scale) - 0.5);
    positions[index] = Math.min(Math.max(place, 0), cells + 1) - 1;
  });
  return { first: begin, positions };
}

function pixelsLine(low, high, cells, pixels) {
  const [first, last] = [Math.round(low) || 0, Math.round(high) || 0];
  const begin = Math.min(Math.max(first, 0), pixels);
  const end = Math.max(Math.min(last, pixels), 0);
  const scale = fround(cells / Math.max(last - first, 1));
  const positions = new Float32Array(Math.max(0, end - begin));
  positions.forEach((_, index) => {
    const place = fround(fround(fround(begin - first + index + 0.5) * scale) - 0.5);
    positions[index] = Math.min(Math.max(place, 0), cells - 1);
  });
  return { first: begin, positions };
}

function continuousLine(low, high, cells, pixels) {
  const begin = Math.min(Math.max(Math.floor(low) - 1, 0), pixels);
  const end = Math.max(Math.min(Math.ceil(high) + 1, pixels), 0);
  const positions = new Float32Array(Math.max(0, end - begin));
  positions.forEach((_, index) => {
    let relative = fround(fround(fround(fround(begin + index + 0.5 - low) / fround(high - low)) * 2) - 1);
    if (!Number.isFinite(relative)) relative = 0;
    positions[index] = Math.min(Math.max(fround(fround(fround(relative + 1) * cells) - 1) / 2, -1), cells);
  });
  return { first: begin, positions };
}

/**
 * The cells of a prototype grid around a box, as probabilities.
 * @param {Float32Array} grid (height, width, count)
 * @param {ArrayLike<number>} weights (count,)
 * @param {ArrayLike<number>} box relative to the image
 */
export function assemble(grid, shape, weights, box) {
  const window = assembleLogits(grid, shape, weights, box, 1);
  window.probs = window.probs.map((logit) => 1 / (1 + Math.exp(-logit)));
  return window;
}

/** The same before the sigmoid, with so many cells beyond the box. */
export function assembleLogits(grid, [height, width, count], weights, box, padding) {
  const edge = (value, limit) => (Number.isNaN(value) ? 0 : Math.min(Math.max(Math.ceil(value), 0), limit));
  const [x1, y1, x2, y2] = [fround(box[0] * width), fround(box[1] * height), fround(box[2] * width), fround(box[3] * height)];
  const [left, top] = [edge(fround(Math.min(x1, x2) - padding), width), edge(fround(Math.min(y1, y2) - padding), height)];
  const right = Math.max(left, edge(fround(Math.max(x1, x2) + padding), width));
  const bottom = Math.max(top, edge(fround(Math.max(y1, y2) + padding), height));
  const probs = new Float32Array((bottom - top) * (right - left));
  let cell = 0;
  for (let row = top; row < bottom; row += 1) {
    for (let column = left; column < right; column += 1) {
      let sum = 0;
      const place = (row * width + column) * count;
      for (let index = 0; index < count; index += 1) sum += grid[place + index] * weights[index];
      probs[cell++] = sum;
    }
  }
  return { top, left, height: bottom - top, width: right - left, probs };
}

/** The part of a whole grid that decides what its mask is. */
export function cut(grid, height, width, threshold = 0.5) {
  let [top, left, bottom, right] = [height, width, 0, 0];
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      if (grid[row * width + column] > threshold) {
        [top, bottom] = [Math.min(top, row), Math.max(bottom, row + 1)];
        [left, right] = [Math.min(left, column), Math.max(right, column + 1)];
      }
    }
  }
  if (bottom === 0) return { top: 0, left: 0, height: 0, width: 0, probs: new Float32Array(0) };
  [top, left, bottom, right] = [Math.max(0, top - 1), Math.max(0, left - 1), Math.min(height, bottom + 1), Math.min(width, right + 1)];
  const probs = new Float32Array((bottom - top) * (right - left));
  for (let row = top; row < bottom; row += 1) {
    probs.set(grid.subarray(row * width + left, row * width + right), (row - top) * (right - left));
  }
  return { top, left, height: bottom - top, width: right - left, probs };
}

/**
 * Pixels above a threshold after bilinear interpolation. Down a column of pixels the probability is a straight line
 * from one grid row to the next, so only where it crosses the threshold is computed.
 * @param {{top: number, left: number, height: number, width: number, probs: Float32Array}} window zero around it
 * @param {{first: number, positions: Float32Array}} rows
 * @param {{first: number, positions: Float32Array}} columns
 * @param {number} frameHeight of the image, pixels
 * @returns {number[]} runs, see rle.js
 */
export function interpolateRuns(window, rows, columns, frameHeight, threshold = 0.5) {
  const { top, left, height, width, probs } = window;
  const runs = [];
  const line = new Float32Array(height + 2); // the window and a zero at each end
  const begin = firstWhere(columns.positions, (position) => position > left - 1);
  const end = firstWhere(columns.positions, (position) => position >= left + width);
  for (let index = begin; index < end; index += 1) {
    const position = columns.positions[index];
    const cell = Math.floor(position);
    const share = fround(position - cell);
    const at = (row, column) => (column < left || column >= left + width ? 0 : probs[row * width + column - left]);
    for (let row = 0; row < height; row += 1) {
      line[row + 1] = fround(fround(at(row, cell) * fround(1 - share)) + fround(at(row, cell + 1) * share));
    }
    const column = (columns.first + index) * frameHeight + rows.first;
    let start = 0;
    for (let knot = 0; knot <= height; knot += 1) {
      const [low, high] = [line[knot], line[knot + 1]];
      if (low > threshold === high > threshold) continue;
      const crossing = knot + top - 1 + Math.min(Math.max((threshold - low) / fround(high - low), 0), 1);
      if (high > threshold) {
        start = firstWhere(rows.positions, (place) => place > crossing);
      } else {
        const stop = firstWhere(rows.positions, (place) => place >= crossing);
        addRun(runs, column + start, column + stop);
      }
    }
  }
  return runs;
}

/** Cells beyond a pixel, on each side, that decide about it in `fineRuns`. */
export const REACH = 2;

/**
 * Pixels whose logit, interpolated bicubically (Keys 1981, a = -0.5), is above zero.
 * @param {object} window logits of `assembleLogits`; beyond it they are those of its edge
 * @param {{first: number, positions: Float32Array}} rows
 * @param {{first: number, positions: Float32Array}} columns
 * @param {number[]} crop left, top, right and bottom of the pixels that may belong to the mask
 * @param {number} frameHeight of the image, pixels
 * @returns {number[]} runs, see rle.js
 */
export function fineRuns({ top, left, height, width, probs }, rows, columns, [first, from, last, to], frameHeight) {
  const runs = [];
  if (height === 0 || width === 0 || to <= from) return runs;
  const down = taps(rows.positions.subarray(from, to), top, height);
  const across = taps(columns.positions.subarray(first, last), left, width);
  const line = new Float64Array(height);
  for (let column = 0; column < last - first; column += 1) {
    for (let row = 0; row < height; row += 1) line[row] = sumOf(across, column, probs, row * width);
    const start = (first + column) * frameHeight + from;
    for (let row = 0; row < to - from; row += 1) {
      if (sumOf(down, row, line, 0) > 0) addRun(runs, start + row, start + row + 1);
    }
  }
  return runs;
}

function sumOf({ cells, shares }, place, values, offset) {
  let sum = 0;
  for (let tap = 4 * place; tap < 4 * place + 4; tap += 1) sum += shares[tap] * values[offset + cells[tap]];
  return sum;
}

/** The four cells that decide about each position, with their shares; beyond the edge, its cell is repeated. */
function taps(positions, first, count) {
  const cells = new Int32Array(4 * positions.length);
  const shares = new Float64Array(4 * positions.length);
  positions.forEach((position, index) => {
    const inside = Math.min(Math.max(position - first, -1), count);
    const before = Math.floor(inside);
    const t = inside - before;
    shares.set(
      [
        -0.5 * t + t ** 2 - 0.5 * t ** 3,
        1 - 2.5 * t ** 2 + 1.5 * t ** 3,
        0.5 * t + 2 * t ** 2 - 1.5 * t ** 3,
        -0.5 * t ** 2 + 0.5 * t ** 3,
      ],
      4 * index,
    );
    for (let tap = 0; tap < 4; tap += 1) cells[4 * index + tap] = Math.min(Math.max(before + tap - 1, 0), count - 1);
  });
  return { cells, shares };
}

/** Pixels on one axis between two sides of a box, relative to the image, and half a cell beyond. */
export function cropPixels(low, high, cells, pixels) {
  const [near, far] = [Math.min(low, high) || 0, Math.max(low, high) || 0];
  const limit = (value) => Math.min(Math.max(value, 0), pixels);
  return [limit(Math.floor((near - 0.5 / cells) * pixels)), limit(Math.ceil((far + 0.5 / cells) * pixels))];
}

function addRun(runs, start, stop) {
  if (stop <= start) return;
  if (runs.length > 0 && runs[runs.length - 1] >= start) runs[runs.length - 1] = Math.max(stop, runs[runs.length - 1]);
  else runs.push(start, stop);
}

/** The first place of a rising array that a condition holds for. */
function firstWhere(positions, holds) {
  let [low, high] = [0, positions.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(positions[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}
