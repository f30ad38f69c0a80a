/** A canvas that shows an image of any size: zoom, move, point. */

const MOST = 40; // pixels of the screen for one of the image
const STEP = 1.25;

export class Viewer {
  /**
   * @param {HTMLElement} frame takes the keyboard; has the canvas in it
   * @param {HTMLCanvasElement} canvas
   * @param {(context: CanvasRenderingContext2D, place: object) => void} draw
   * @param {(x: number, y: number, kind: "move" | "leave" | "click", event: PointerEvent) => void} onPoint in pixels of
   *   the image
   */
  constructor(frame, canvas, draw, onPoint) {
    this.frame = frame;
    this.canvas = canvas;
    this.draw = draw;
    this.onPoint = onPoint;
    this.size = [1, 1];
    this.fitted = true;
    this.place = { scale: 1, x: 0, y: 0, ratio: 1 };
    this.pointers = new Map();
    this.moved = 0;
    new ResizeObserver(() => this.resize()).observe(frame);
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.release(event));
    canvas.addEventListener("pointerleave", (event) => this.point("leave", event));
    canvas.addEventListener("dblclick", () => this.fit());
    frame.addEventListener("keydown", (event) => this.key(event));
  }

  /** Another image of (width, height); the view is kept where its size is the same. */
  show(width, height) {
    const isSame = this.size[0] === width && this.size[1] === height;
    this.size = [width, height];
    if (isSame) this.redraw();
    else this.fit();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { width, height } = this.frame.getBoundingClientRect();
    const before = this.place.ratio;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
    this.place = { ...this.place, ratio };
    if (this.fitted || before !== ratio) this.fit();
    else this.change(this.place);
  }

  /** The whole image. */
  fit() {
    const [width, height] = this.size;
    const scale = Math.min(this.canvas.width / width, this.canvas.height / height, 8 * this.place.ratio);
    this.fitted = true;
    this.place = {
      ...this.place, scale, x: (this.canvas.width - width * scale) / 2, y: (this.canvas.height - height * scale) / 2,
    };
    this.redraw();
  }

  /** A part of the image in the middle. */
  showBox([x1, y1, x2, y2]) {
    const room = Math.min(this.canvas.width / Math.max(1, x2 - x1), this.canvas.height / Math.max(1, y2 - y1)) * 0.6;
    const scale = Math.min(Math.max(room, this.least()), MOST * this.place.ratio);
    this.change({
      scale,
      x: this.canvas.width / 2 - ((x1 + x2) / 2) * scale,
      y: this.canvas.height / 2 - ((y1 + y2) / 2) * scale,
    });
  }

  least() {
    return Math.min(this.canvas.width / this.size[0], this.canvas.height / this.size[1], this.place.ratio);
  }

  /** Zoom about a point of the canvas, its middle by default. */
  zoom(factor, x = this.canvas.width / 2, y = this.canvas.height / 2) {
    const scale = Math.min(Math.max(this.place.scale * factor, this.least()), MOST * this.place.ratio);
    const change = scale / this.place.scale;
    this.change({ scale, x: x - (x - this.place.x) * change, y: y - (y - this.place.y) * change });
  }

  change(place) {
    this.fitted = false;
    const next = { ...this.place, ...place };
    // Some of the image stays in sight; what is smaller than the canvas stays in its middle.
    for (const [axis, side] of [["x", this.canvas.width], ["y", this.canvas.height]]) {
      const long = this.size[axis === "x" ? 0 : 1] * next.scale;
      if (long <= side) next[axis] = (side - long) / 2;
      else next[axis] = Math.min(0, Math.max(side - long, next[axis]));
    }
    this.place = next;
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      const context = this.canvas.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      this.draw(context, this.place);
    });
  }

  where(event) {
    const around = this.canvas.getBoundingClientRect();
    return [(event.clientX - around.left) * this.place.ratio, (event.clientY - around.top) * this.place.ratio];
  }

  point(kind, event) {
    const [x, y] = this.where(event);
    this.onPoint((x - this.place.x) / this.place.scale, (y - this.place.y) / this.place.scale, kind, event);
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    this.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0018)), ...this.where(event));
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.where(event));
    this.moved = this.pointers.size > 1 ? Infinity : 0;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.point("move", event);
      return;
    }
    const now = this.where(event);
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this.pointers.set(event.pointerId, now);
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    this.moved += Math.hypot(dx, dy);
    if (this.moved < 4 * this.place.ratio) return;
    if (others.length === 0) {
      this.change({ x: this.place.x + dx, y: this.place.y + dy });
    } else {
      const [other] = others;
      const spread = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]);
      this.zoom(spread(now) / Math.max(1, spread(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      this.change({ x: this.place.x + dx / 2, y: this.place.y + dy / 2 });
    }
  }

  release(event) {
    const was = this.pointers.delete(event.pointerId);
    if (was && event.type === "pointerup" && this.moved < 4 * this.place.ratio) this.point("click", event);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const reach = 60 * this.place.ratio;
    const moves = { ArrowLeft: [reach, 0], ArrowRight: [-reach, 0], ArrowUp: [0, reach], ArrowDown: [0, -reach] };
    if (event.key === "+" || event.key === "=") this.zoom(STEP);
    else if (event.key === "-") this.zoom(1 / STEP);
    else if (event.key === "0") this.fit();
    else if (moves[event.key]) this.change({ x: this.place.x + moves[event.key][0], y: this.place.y + moves[event.key][1] });
    else return;
    event.preventDefault();
  }
}
