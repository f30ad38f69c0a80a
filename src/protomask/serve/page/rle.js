/**
 * COCO run-length codes. Runs are [start, end, start, end, ...] of a mask: positions column * height + row, ends
 * excluded, ascending.
 */

/**
 * Runs of a code.
 * @param {{size: [number, number], counts: string | number[]}} code
 * @returns {Float64Array}
 */
export function runsOf({ size: [height, width], counts }) {
  const lengths = typeof counts === "string" ? lengthsOf(counts) : counts;
  const runs = new Float64Array(lengths.length & ~1);
  let place = 0;
  let kept = 0;
  lengths.forEach((length, index) => {
    if (length < 0) throw new Error("a mask has a run of negative length");
    if (index % 2 === 1 && length > 0) {
      if (kept > 0 && runs[kept - 1] === place) {
        runs[kept - 1] = place + length;
      } else {
        runs[kept++] = place;
        runs[kept++] = place + length;
      }
    }
    place += length;
  });
  if (place !== height * width) throw new Error(`a mask has ${place} pixels in an image of ${width}x${height}`);
  return runs.slice(0, kept);
}

/** Lengths of runs, background first, of a compressed code. */
function lengthsOf(text) {
  const lengths = [];
  let place = 0;
  while (place < text.length) {
    let value = 0;
    let shift = 1;
    let digit;
    do {
      digit = text.charCodeAt(place++) - 48;
      if (!(digit >= 0 && digit < 64)) throw new Error("a mask has a code with a wrong character");
      value += (digit & 31) * shift;
      shift *= 32;
    } while (digit & 32);
    if (digit & 16) value -= shift;
    // From the fourth on, numbers are differences to the run two before.
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
  }
  return lengths;
}

/**
 * The compressed code of runs.
 * @param {ArrayLike<number>} runs
 * @param {[number, number]} size height and width of the image
 */
export function codeOf(runs, [height, width]) {
  const lengths = [];
  let place = 0;
  for (const turn of runs) {
    lengths.push(turn - place);
    place = turn;
  }
  if (place < height * width || lengths.length === 0) lengths.push(height * width - place);
  let text = "";
  lengths.forEach((length, index) => {
    let value = index > 2 ? length - lengths[index - 2] : length;
    for (let more = true; more; ) {
      const digit = value & 31;
      value >>= 5;
      more = digit & 16 ? value !== -1 : value !== 0;
      text += String.fromCharCode(48 + digit + (more ? 32 : 0));
    }
  });
  return { size: [height, width], counts: text };
}

/** Number of pixels of a mask. */
export function areaOf(runs) {
  let area = 0;
  for (let index = 0; index < runs.length; index += 2) area += runs[index + 1] - runs[index];
  return area;
}

/** Whether the pixel at a position (column * height + row) belongs to a mask. */
export function contains(runs, position) {
  let low = 0;
  let high = runs.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (runs[2 * middle + 1] <= position) low = middle + 1;
    else high = middle;
  }
  return 2 * low < runs.length && runs[2 * low] <= position;
}
