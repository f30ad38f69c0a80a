/** Drawing of a scene on a canvas. */

/**
 * Draw an image and some of its instances.
 * @param {CanvasRenderingContext2D} context
 * @param {import("./scene.js").Scene} scene
 * @param {import("./scene.js").Found[]} shown best first
 * @param {{masks: boolean, boxes: boolean, labels: boolean, opacity: number}} style
 * @param {{scale: number, x: number, y: number, ratio?: number}} place scale of the image and where its corner is, in
 *   pixels of the canvas; ratio: pixels of the canvas for one of the style sheet
 * @param {import("./scene.js").Found | null} focus what to set off
 */
export function drawScene(context, scene, shown, style, place, focus = null) {
  const { scale, x, y, ratio = 1 } = place;
  context.setTransform(scale, 0, 0, scale, x, y);
  context.imageSmoothingEnabled = scale < 4 * ratio;
  if (scene.picture) {
    context.drawImage(scene.picture, 0, 0, scene.width, scene.height);
  } else {
    context.fillStyle = "#777";
    context.fillRect(0, 0, scene.width, scene.height);
  }
  const line = (2 * ratio) / scale;
  // Worst first, so that the best is on top; what is set off comes last.
  const order = [...shown].reverse().filter((one) => one !== focus);
  if (focus && shown.includes(focus)) order.push(focus);
  for (const one of order) {
    const isFocus = one === focus;
    if (style.masks) {
      const faded = focus && !isFocus ? 0.35 : 1;
      context.fillStyle = `rgb(${one.color} / ${isFocus ? Math.min(1, style.opacity + 0.2) : style.opacity * faded})`;
      context.fill(one.path, "evenodd");
      context.lineJoin = "round";
      context.lineWidth = isFocus ? line * 1.6 : line;
      context.strokeStyle = `rgb(${one.color} / ${faded})`;
      context.stroke(one.path);
    }
    if (style.boxes || (isFocus && !style.masks)) {
      const [x1, y1, x2, y2] = one.box;
      context.lineWidth = isFocus ? line * 1.6 : line;
      context.strokeStyle = `rgb(${one.color})`;
      context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    }
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  if (style.labels) drawLabels(context, [...order].reverse(), place, focus);
  else if (focus && shown.includes(focus)) drawLabels(context, [focus], place, focus);
}

const MANY = 12;

/**
 * Labels, best first: one that would cover another is left out. Where there are many, small instances get only their
 * score, and the smallest nothing, until they are zoomed to.
 */
function drawLabels(context, order, { scale, x, y, ratio = 1 }, focus) {
  const size = 13 * ratio;
  const height = size + 6 * ratio;
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const taken = [];
  const { width: canvasWidth, height: canvasHeight } = context.canvas;
  for (const one of order) {
    const [x1, y1, x2, y2] = one.box.map((side, index) => side * scale + (index % 2 ? y : x));
    if (x2 < 0 || y2 < 0 || x1 > canvasWidth || y1 > canvasHeight) continue;
    const room = order.length > MANY && one !== focus ? 1.6 * (x2 - x1) : Infinity;
    const widthOf = (text) => context.measureText(text).width + 8 * ratio;
    const caption = [one.caption, one.score.toFixed(2)].find((text) => widthOf(text) <= room);
    if (caption === undefined) continue;
    const width = widthOf(caption);
    const left = Math.max(0, Math.min(x1, canvasWidth - width));
    const tops = [y1 - height, y1, y2, y2 - height].filter((top) => top >= 0 && top + height <= canvasHeight);
    if (tops.length === 0) tops.push(Math.max(0, Math.min(y1, canvasHeight - height)));
    const free = tops.find((top) => !taken.some((other) => overlaps(other, [left, top, left + width, top + height])));
    const top = free ?? (one === focus ? tops[0] : undefined);
    if (top === undefined) continue;
    taken.push([left, top, left + width, top + height]);
    context.fillStyle = `rgb(${one.color})`;
    context.beginPath();
    context.roundRect(left, top, width, height, 3 * ratio);
    context.fill();
    context.fillStyle = one.ink;
    context.fillText(caption, left + 4 * ratio, top + height / 2 + ratio / 2);
  }
}

function overlaps([x1, y1, x2, y2], [u1, v1, u2, v2]) {
  return x1 < u2 && u1 < x2 && y1 < v2 && v1 < y2;
}
