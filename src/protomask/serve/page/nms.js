/** Non-maximum suppression as the package's Python does it. Boxes are Float32Array, four numbers each. */

const { fround } = Math;
const SOFT_MIN_SCORE = 0.001;
const SOFT_SIGMA = 0.5;

/**
 * Pairs (class, box) by falling score; ties go to the lower class, then to the lower box.
 * @param {Float32Array} scores (boxes, classes)
 * @param {number} threshold pairs that do not score above it are left out
 */
function ranked(scores, classes, threshold) {
  const pairs = [];
  const boxes = scores.length / classes;
  for (let label = 0; label < classes; label += 1) {
    for (let box = 0; box < boxes; box += 1) {
      const score = scores[box * classes + label];
      if (score > threshold) pairs.push({ label, box, score });
    }
  }
  return pairs.sort(order);
}

/** Negative if a pair comes before another: by score, then the lower class, then the lower box. */
function order(one, other) {
  return other.score - one.score || one.label - other.label || one.box - other.box;
}

/** IoU of two boxes; NaN where both are empty. */
function iou(boxes, one, other, offset) {
  const [a, b] = [4 * one, 4 * other];
  const side = (low, high) => fround(fround(high + offset) - low);
  const width = Math.max(0, side(Math.max(boxes[a], boxes[b]), Math.min(boxes[a + 2], boxes[b + 2])));
  const height = Math.max(0, side(Math.max(boxes[a + 1], boxes[b + 1]), Math.min(boxes[a + 3], boxes[b + 3])));
  const area = (at) => fround(side(boxes[at], boxes[at + 2]) * side(boxes[at + 1], boxes[at + 3]));
  const common = fround(width * height);
  return fround(common / fround(fround(area(a) + area(b)) - common));
}

/**
 * What remains of the candidates, best first.
 * @param {Float32Array} boxes relative to the image
 * @param {Float32Array} scores (boxes, classes)
 * @param {object} rule `rule` of the metadata of an exported file
 * @param {number} scoreThreshold
 * @returns {{label: number, box: number, score: number}[]}
 */
export function suppress(boxes, scores, classes, rule, scoreThreshold) {
  if (rule.overlap !== "box_iou") throw new Error("This page cannot run NMS by masks.");
  if (rule.nms === "fast") return fast(boxes, scores, classes, rule, scoreThreshold);
  if (rule.nms === "cross_class_fast") return crossClassFast(boxes, scores, classes, rule);
  if (rule.nms === "batched") return greedy(boxes, scores, classes, rule, scoreThreshold);
  if (rule.nms === "soft_linear" || rule.nms === "soft_gaussian") return soft(boxes, scores, classes, rule, scoreThreshold);
  throw new Error(`This page cannot run NMS of the kind ${rule.nms}.`);
}

/** Each class by itself; whatever is better suppresses. */
function fast(boxes, scores, classes, rule, scoreThreshold) {
  const threshold = Math.max(rule.threshold_detections ? rule.candidate_threshold : 0, scoreThreshold);
  const limit = fround(rule.iou_threshold);
  const better = Array.from({ length: classes }, () => []);
  const kept = [];
  for (const pair of ranked(scores, classes, fround(threshold))) {
    const others = better[pair.label];
    if (others.length >= rule.max_candidates) continue;
    const isFree = others.every((other) => !exceeds(iou(boxes, other, pair.box, 0), limit, rule.empty_boxes_suppress));
    others.push(pair.box);
    if (isFree) kept.push(pair);
    if (kept.length >= rule.max_detections) break;
  }
  return kept;
}

function exceeds(overlap, limit, undefinedCounts) {
  return undefinedCounts ? !(overlap <= limit) : overlap > limit;
}

/** Every box has only its best class, and all suppress each other. */
function crossClassFast(boxes, scores, classes, rule) {
  const best = [];
  for (let box = 0; box < scores.length / classes; box += 1) {
    let label = 0;
    for (let other = 1; other < classes; other += 1) {
      if (scores[box * classes + other] > scores[box * classes + label]) label = other;
    }
    best.push({ label, box, score: scores[box * classes + label] });
  }
  best.sort((one, other) => other.score - one.score || one.box - other.box);
  const limit = fround(rule.iou_threshold);
  const candidates = best.slice(0, rule.max_candidates);
  return candidates
    .filter((pair, rank) =>
      candidates.slice(0, rank).every((other) => !exceeds(iou(boxes, other.box, pair.box, 0), limit, rule.empty_boxes_suppress)),
    )
    .slice(0, rule.max_detections);
}

/** Each class by itself; only what remains suppresses. In pixels of the network, with one pixel more on each side. */
function greedy(boxes, scores, classes, rule, scoreThreshold) {
  const pixels = boxes.map((side) => fround(side * rule.input_side));
  const threshold = Math.max(rule.candidate_threshold, scoreThreshold);
  const limit = fround(rule.iou_threshold);
  const remaining = Array.from({ length: classes }, () => []);
  const kept = [];
  for (const pair of ranked(scores, classes, fround(threshold))) {
    if (remaining[pair.label].some((other) => iou(pixels, other, pair.box, 1) >= limit)) continue;
    remaining[pair.label].push(pair.box);
    kept.push(pair);
    if (kept.length >= rule.max_detections) break;
  }
  return kept;
}

/** Each class by itself; what overlaps a better one loses score. In pixels of the network, and in double precision. */
function soft(boxes, scores, classes, rule, scoreThreshold) {
  const pixels = boxes.map((side) => fround(side * rule.input_side));
  const threshold = Math.max(rule.candidate_threshold, scoreThreshold);
  const remaining = Array.from({ length: classes }, () => []);
  for (const pair of ranked(scores, classes, fround(threshold))) remaining[pair.label].push(pair);
  const kept = [];
  while (kept.length < rule.max_detections) {
    let best = null;
    for (const pair of remaining.flat()) {
      if (best === null || order(pair, best) < 0) best = pair;
    }
    if (best === null || best.score < SOFT_MIN_SCORE) break;
    kept.push({ ...best, score: fround(best.score) });
    const others = remaining[best.label].filter((pair) => pair !== best);
    for (const pair of others) pair.score *= decay(overlap(pixels, best.box, pair.box), rule);
    remaining[best.label] = others;
  }
  return kept.filter((pair) => pair.score > fround(scoreThreshold));
}

function decay(common, rule) {
  if (rule.nms === "soft_gaussian") return Math.exp(-(common ** 2) / SOFT_SIGMA);
  return common > rule.iou_threshold ? 1 - common : 1;
}

/** IoU of two boxes in double precision; 0 where both are empty. */
export function overlap(boxes, one, other) {
  const [a, b] = [boxes.subarray(4 * one, 4 * one + 4), boxes.subarray(4 * other, 4 * other + 4)];
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  const union = area(a) + area(b) - width * height;
  return union > 0 ? (width * height) / union : 0;
}
