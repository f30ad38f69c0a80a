/** Detections as means of themselves and of what NMS suppresses for them, as the package's Python makes them. */
import { overlap } from "./nms.js";

const LEAST_IOU = 0.7;
const TINY = 2 ** -126;

/**
 * The candidates that make each detection.
 * @param {Float32Array} boxes (candidates, 4)
 * @param {Float32Array} scores (candidates, classes)
 * @param {{label: number, box: number}[]} kept what NMS kept
 * @returns {{box: number, weight: number}[][]} weights add up to 1 for each detection
 */
export function votes(boxes, scores, classes, kept) {
  const voters = kept.map(({ label, box }) => [{ box, weight: scores[box * classes + label] }]);
  for (const label of new Set(kept.map((one) => one.label))) {
    const own = kept.map((one, place) => place).filter((place) => kept[place].label === label);
    const taken = new Set(own.map((place) => kept[place].box));
    for (let box = 0; box < boxes.length / 4; box += 1) {
      const weight = scores[box * classes + label];
      if (taken.has(box) || !(weight > 0)) continue;
      let owner = -1;
      let most = LEAST_IOU;
      for (const place of own) {
        const common = overlap(boxes, kept[place].box, box);
        if (common > most) [owner, most] = [place, common];
      }
      if (owner >= 0) voters[owner].push({ box, weight });
    }
  }
  return voters.map((those) => {
    const total = those.reduce((sum, { weight }) => sum + Math.max(weight, TINY), 0);
    return those.map(({ box, weight }) => ({ box, weight: Math.max(weight, TINY) / total }));
  });
}

/** Float32Array: the mean of rows of `width` numbers, one for each voter. */
export function average(voters, width, rowOf) {
  const mean = new Float64Array(width);
  for (const { box, weight } of voters) rowOf(box).forEach((value, place) => (mean[place] += weight * value));
  return Float32Array.from(mean);
}
