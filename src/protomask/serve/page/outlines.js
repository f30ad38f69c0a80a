/** Outlines of masks along the edges of pixels. */

/**
 * Closed rings around a mask, its inside on the right: clockwise around parts, counter-clockwise around holes. Pixels
 * that touch only by a corner are apart.
 * @param {ArrayLike<number>} runs see rle.js
 * @param {number} height of the image
 * @returns {number[][]} x and y in turns, corners only, the first not repeated
 */
export function ringsOf(runs, height) {
  const edges = edgesOf(columnsOf(runs, height), height + 1);
  const rings = [];
  for (const [start, ways] of edges) {
    while (ways.length > 0) rings.push(...follow(edges, start, height + 1));
  }
  return rings;
}

/** [first column, runs of rows in each column from there on]. */
function columnsOf(runs, height) {
  const first = runs.length ? Math.floor(runs[0] / height) : 0;
  const columns = [];
  for (let index = 0; index < runs.length; index += 2) {
    let [start, end] = [runs[index], runs[index + 1]];
    while (start < end) {
      const column = Math.floor(start / height);
      const stop = Math.min(end, (column + 1) * height);
      while (columns.length <= column - first) columns.push([]);
      columns[column - first].push(start - column * height, stop - column * height);
      start = stop;
    }
  }
  return [first, columns];
}

/** Edges by where they begin; points are numbers x * stride + y. */
function edgesOf([first, columns], stride) {
  const edges = new Map();
  const add = (start, end) => {
    const ways = edges.get(start);
    if (ways) ways.push(end);
    else edges.set(start, [end]);
  };
  let before = [];
  [...columns, []].forEach((column, index) => {
    const x = (first + index) * stride;
    for (let place = 0; place < column.length; place += 2) {
      add(x + column[place], x + stride + column[place]); // above, to the right
      add(x + stride + column[place + 1], x + column[place + 1]); // below, to the left
    }
    for (const [top, bottom, isLeft] of changes(before, column)) {
      if (isLeft) add(x + bottom, x + top); // up
      else add(x + top, x + bottom); // down
    }
    before = column;
  });
  return edges;
}

/** Where two neighbouring columns differ: [top, bottom, whether the mask is in the right one]. */
function changes(left, right) {
  const found = [];
  const turns = [...new Set([...left, ...right])].sort((one, other) => one - other);
  let [inLeft, inRight, l, r] = [false, false, 0, 0];
  turns.forEach((turn, index) => {
    if (left[l] === turn) [inLeft, l] = [!inLeft, l + 1];
    if (right[r] === turn) [inRight, r] = [!inRight, r + 1];
    if (inLeft !== inRight) found.push([turn, turns[index + 1], inRight]);
  });
  return found;
}

/** Take the edges of the rings through a point; a ring that touches itself becomes two. */
function follow(edges, start, stride) {
  const rings = [];
  const path = [start];
  const places = new Map([[start, 0]]);
  let came = null;
  while (path.length > 0) {
    const point = path[path.length - 1];
    const ways = edges.get(point);
    const choice = ways.length > 1 && came !== null ? Math.max(0, rightmost(ways, point, came, stride)) : 0;
    const [way] = ways.splice(choice, 1);
    came = directionOf(point, way, stride);
    if (places.has(way)) {
      const ring = path.splice(places.get(way));
      for (const one of ring) places.delete(one);
      rings.push(cornersOf(ring, stride));
      if (path.length === 0) break;
    }
    places.set(way, path.length);
    path.push(way);
  }
  return rings;
}

/** 1 down, -1 up, 2 right, -2 left. */
function directionOf(start, end, stride) {
  return Math.sign(end - start) * ((end - start) % stride === 0 ? 2 : 1);
}

/** Points of a ring without those on straight lines, as x and y in turns. */
function cornersOf(ring, stride) {
  const corners = [];
  let came = directionOf(ring[ring.length - 1], ring[0], stride);
  ring.forEach((point, index) => {
    const way = directionOf(point, ring[(index + 1) % ring.length], stride);
    if (way !== came) corners.push(Math.floor(point / stride), point % stride);
    came = way;
  });
  return corners;
}

/** Of two ways the one to the right: it stays with the pixel that the ring is around. */
function rightmost(ways, point, came, stride) {
  const right = { 2: 1, 1: -2, [-2]: -1, [-1]: 2 }[came];
  return ways.findIndex((way) => directionOf(point, way, stride) === right);
}

/**
 * Parts of a mask: each is [exterior, hole, ...].
 * @param {number[][]} rings of `ringsOf`
 */
export function partsOf(rings) {
  const parts = [];
  const holes = [];
  for (const ring of rings) {
    if (signedArea(ring) > 0) parts.push([ring]);
    else holes.push(ring);
  }
  for (const hole of holes) {
    // The centre of the pixel of the hole at its topmost left corner lies in the hole and in whatever is around it.
    const [x, y] = innerPoint(hole);
    const around = parts.filter(([exterior]) => isInside(exterior, x, y));
    around.sort((one, other) => signedArea(one[0]) - signedArea(other[0]));
    around[0]?.push(hole);
  }
  return parts;
}

function signedArea(ring) {
  let twice = 0;
  for (let index = 0; index < ring.length; index += 2) {
    const next = (index + 2) % ring.length;
    twice += ring[index] * ring[next + 1] - ring[next] * ring[index + 1];
  }
  return twice / 2;
}

function innerPoint(ring) {
  let best = 0;
  for (let index = 2; index < ring.length; index += 2) {
    if (ring[index + 1] < ring[best + 1] || (ring[index + 1] === ring[best + 1] && ring[index] < ring[best])) best = index;
  }
  return [ring[best] + 0.5, ring[best + 1] + 0.5];
}

function isInside(ring, x, y) {
  let inside = false;
  for (let index = 0, last = ring.length - 2; index < ring.length; last = index, index += 2) {
    const [x1, y1, x2, y2] = [ring[last], ring[last + 1], ring[index], ring[index + 1]];
    if (y1 > y !== y2 > y && x < x1 + ((y - y1) / (y2 - y1)) * (x2 - x1)) inside = !inside;
  }
  return inside;
}
