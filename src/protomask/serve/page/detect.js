/** From the outputs of an exported file to an answer like the server's. */
import { average, votes } from "./averaging.js";
import { calibrated, rawThreshold } from "./calibration.js";
import {
  assemble, assembleLogits, cropPixels, cut, fineRuns, interpolateRuns, PASTE_THRESHOLDS, REACH, regionLine, resizedLine,
} from "./masks.js";
import { suppress } from "./nms.js";
import { codeOf } from "./rle.js";

const { fround } = Math;

/**
 * What was found in one image.
 * @param {Record<string, {dims: readonly number[], data: ArrayLike<number>}>} outputs of the file
 * @param {object} info metadata of the file
 * @param {[number, number]} size height and width of the image
 * @param {[number, number]} given height and width of what the file got
 * @param {number} scoreThreshold
 */
export function readAnswer(outputs, info, size, given, scoreThreshold) {
  const { class_scores: ofClass, mask_scores: ofMask } = info.calibration ?? {};
  const least = rawThreshold(ofClass, scoreThreshold);
  const rows = info.form === "candidates" ? ofCandidates(outputs, info, size, least) : ofDetections(outputs, info, size, given);
  for (const row of rows) [row.score, row.maskScore] = [calibrated(ofClass, row.score), calibrated(ofMask, row.maskScore)];
  const [height, width] = size;
  const clip = (side, limit) => Math.min(Math.max(side, 0), limit);
  const kept = rows.filter((row) => scoreOf(row) > fround(scoreThreshold));
  kept.sort((one, other) => scoreOf(other) - scoreOf(one));
  const instances = kept.map((row, index) => ({
    number: index + 1,
    label: row.label,
    class_name: info.class_names[row.label],
    score: scoreOf(row),
    class_score: row.score,
    mask_score: row.maskScore,
    box: Array.from(row.box, (side, place) => clip(side, place % 2 ? height : width)),
    segmentation: codeOf(row.runs(), size),
  }));
  return { size, instances };
}

function scoreOf({ score, maskScore }) {
  return maskScore === null ? score : fround(score * maskScore);
}

// Candidates: the file ends before NMS.

function ofCandidates(outputs, { rule, class_names: names }, [height, width], scoreThreshold) {
  const { class_logits: logits, boxes, mask_coefficients: coefficients, prototypes } = outputs;
  const averages = rule.duplicates === "average";
  const least = averages ? rule.candidate_threshold : Math.max(rule.candidate_threshold, scoreThreshold);
  const found = candidates(logits.data, boxes.data, names.length, rule, least);
  const grid = prototypes.dims.slice(1);
  const [rows, columns] = [resizedLine(grid[0], height), resizedLine(grid[1], width)];
  const count = grid[2];
  const coarse = (weights, box) => interpolateRuns(assemble(prototypes.data, grid, weights, box), rows, columns, height);
  const fine = (weights, box) => {
    const [left, right] = cropPixels(box[0], box[2], grid[1], width);
    const [top, bottom] = cropPixels(box[1], box[3], grid[0], height);
    const window = assembleLogits(prototypes.data, grid, weights, box, 1 + REACH);
    return fineRuns(window, rows, columns, [left, top, right, bottom], height);
  };
  const kept = suppress(found.boxes, found.scores, names.length, rule, scoreThreshold);
  const voters = averages ? votes(found.boxes, found.scores, names.length, kept) : kept.map(({ box }) => [{ box, weight: 1 }]);
  return kept.map(({ label, score }, place) => {
    const relative = average(voters[place], 4, (box) => found.boxes.subarray(4 * box, 4 * box + 4));
    const weights = average(voters[place], count, (box) =>
      coefficients.data.subarray(found.anchors[box] * count, (found.anchors[box] + 1) * count),
    );
    return {
      label,
      score,
      maskScore: null,
      box: relative.map((side, place) => side * (place % 2 ? height : width)),
      runs: () => (rule.edges === "pixels" ? fine : coarse)(weights, relative),
    };
  });
}

/** Anchors whose best class scores above the threshold. */
function candidates(logits, boxes, classes, rule, threshold) {
  const anchors = [];
  const scores = [];
  const best = [];
  const lead = threshold > 1e-4 ? Math.log((threshold - 1e-4) / (1 - threshold + 1e-4)) : -Infinity;
  for (let anchor = 0; anchor * (classes + 1) < logits.length; anchor += 1) {
    const row = logits.subarray(anchor * (classes + 1), (anchor + 1) * (classes + 1));
    let top = row[1];
    for (let index = 2; index <= classes; index += 1) top = Math.max(top, row[index]);
    // A score is at most what it would be of this class and the background alone.
    if (!(top - row[0] > lead)) continue;
    const shares = softmax(row);
    const highest = Math.max(...shares.subarray(1));
    if (!(highest > fround(threshold))) continue;
    anchors.push(anchor);
    scores.push(shares.subarray(1));
    best.push(highest);
  }
  const kept = bestOfLevels(anchors, best, rule).filter((index) => {
    const box = boxes.subarray(4 * anchors[index], 4 * anchors[index] + 4);
    return box.every(Number.isFinite);
  });
  const chosen = { anchors: kept.map((index) => anchors[index]), boxes: new Float32Array(4 * kept.length) };
  chosen.scores = new Float32Array(kept.length * classes);
  kept.forEach((index, place) => {
    const box = boxes.subarray(4 * anchors[index], 4 * anchors[index] + 4);
    chosen.boxes.set(rule.clip_boxes ? box.map((side) => Math.min(Math.max(side, 0), 1)) : box, 4 * place);
    chosen.scores.set(scores[index], place * classes);
  });
  return chosen;
}

function softmax(row) {
  const top = Math.max(...row);
  const powers = row.map((value) => Math.exp(fround(value - top)));
  let sum = 0;
  for (const power of powers) sum = fround(sum + power);
  return powers.map((power) => power / sum);
}

/** Indices of the anchors that are looked at on each pyramid level. */
function bestOfLevels(anchors, best, { candidates_per_level: limit, anchors_per_level: levels }) {
  const all = anchors.map((_, index) => index);
  if (limit === null) return all;
  const kept = [];
  let begin = 0;
  for (const count of levels) {
    const own = all.filter((index) => anchors[index] >= begin && anchors[index] < begin + count);
    kept.push(...own.sort((one, other) => best[other] - best[one]).slice(0, limit));
    begin += count;
  }
  return kept.sort((one, other) => one - other);
}

// Detections: everything is in the file.

function ofDetections(outputs, info, [height, width], [givenHeight, givenWidth]) {
  const { boxes, labels, class_scores: scores, mask_scores: maskScores, masks } = outputs;
  const [count, gridHeight, gridWidth] = masks.dims;
  const [down, across] = [height / givenHeight, width / givenWidth];
  const [rows, columns] = [resizedLine(gridHeight, height), resizedLine(gridWidth, width)];
  const found = [];
  for (let index = 0; index < count; index += 1) {
    if (!(scores.data[index] > 0)) continue; // padding
    const box = Float32Array.from(boxes.data.subarray(4 * index, 4 * index + 4), (side, place) => side * (place % 2 ? down : across));
    const grid = masks.data.subarray(index * gridHeight * gridWidth, (index + 1) * gridHeight * gridWidth);
    found.push({
      label: Number(labels.data[index]),
      score: scores.data[index],
      maskScore: maskScores ? Math.min(Math.max(maskScores.data[index] || 0, 0), 1) : null,
      box,
      runs: () =>
        info.mask_frame === "region"
          ? regionRuns(grid, gridHeight, gridWidth, box, height, width, info.mask_paste)
          : interpolateRuns(cut(grid, gridHeight, gridWidth), rows, columns, height),
    });
  }
  return found;
}

function regionRuns(grid, gridHeight, gridWidth, [x1, y1, x2, y2], height, width, paste) {
  const window = { top: 0, left: 0, height: gridHeight, width: gridWidth, probs: grid };
  const rows = regionLine(y1, y2, gridHeight, height, paste);
  const columns = regionLine(x1, x2, gridWidth, width, paste);
  return interpolateRuns(window, rows, columns, height, PASTE_THRESHOLDS[paste]);
}
