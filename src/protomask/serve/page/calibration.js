/** Calibrated scores, as `protomask.detection.calibration` has them. */

const LOGIT_LIMIT = 17;
const END_SLOPE = 0.01;
const SLACK = 1e-4;
const { fround } = Math;

/** A raw score as a calibrated one; a missing curve leaves it. */
export function calibrated(curve, score) {
  if (!curve || score === null) return score;
  return score > 0 ? fround(logistic(line(logit(score), curve.scores.map(logit), curve.values.map(logit), END_SLOPE))) : 0;
}

/** A raw score that none of a higher calibrated score than `value` is below. */
export function rawThreshold(curve, value) {
  if (!curve || value <= 0 || value >= 1) return value;
  const at = line(logit(value), curve.values.map(logit), curve.scores.map(logit), 1 / END_SLOPE) - SLACK;
  return at > -LOGIT_LIMIT ? logistic(at) : 0;
}

function logit(score) {
  return Math.min(Math.max(Math.log(score) - Math.log1p(-score), -LOGIT_LIMIT), LOGIT_LIMIT);
}

function logistic(value) {
  return 1 / (1 + Math.exp(-value));
}

/** Straight between the knots, and of a slope beyond the outer ones. */
function line(at, x, y, slope) {
  const last = x.length - 1;
  if (at <= x[0]) return y[0] + slope * (at - x[0]);
  if (at >= x[last]) return y[last] + slope * (at - x[last]);
  let place = 1;
  while (x[place] < at) place += 1;
  const share = (at - x[place - 1]) / (x[place] - x[place - 1]);
  return y[place - 1] + share * (y[place] - y[place - 1]);
}
