/** An image and what was found in it, ready to be drawn and asked. */
import { areaOf, contains, runsOf } from "./rle.js";
import { partsOf, ringsOf } from "./outlines.js";

/** Colours told apart by colour-blind eyes too, those of the package's overlays. */
const PALETTE = [
  "0 114 178", "230 159 0", "0 158 115", "204 121 167", "213 94 0", "86 180 233",
  "240 228 66", "136 34 85", "68 170 153", "153 153 51", "204 102 119", "51 34 136",
];
const DARK = new Set([0, 7, 11]); // these carry white letters

/** One instance. */
export class Found {
  /** @param {object} row of an answer @param {[number, number]} size height and width of the image */
  constructor(row, size) {
    this.row = row;
    this.number = row.number;
    this.name = row.class_name;
    this.score = row.score;
    this.maskScore = row.mask_score ?? null;
    this.trackId = row.track_id ?? null;
    this.box = row.box;
    this.height = size[0];
    this.runs = row.segmentation ? runsOf(row.segmentation) : new Float64Array(0);
    this.area = areaOf(this.runs);
    const color = (Math.max(0, this.trackId ?? this.number) + PALETTE.length - 1) % PALETTE.length;
    this.color = PALETTE[color];
    this.ink = DARK.has(color) ? "#fff" : "#000";
  }

  /** Closed rings in pixels of the image; made when first asked for. */
  get rings() {
    this.madeRings ??= ringsOf(this.runs, this.height);
    return this.madeRings;
  }

  /** The mask as a path in pixels of the image. */
  get path() {
    if (!this.madePath) {
      this.madePath = new Path2D();
      for (const ring of this.rings) {
        this.madePath.moveTo(ring[0], ring[1]);
        for (let index = 2; index < ring.length; index += 2) this.madePath.lineTo(ring[index], ring[index + 1]);
        this.madePath.closePath();
      }
    }
    return this.madePath;
  }

  /** What stands on its label. */
  get caption() {
    const track = this.trackId === null ? "" : `#${this.trackId} `;
    return `${track}${this.name} ${this.score.toFixed(2)}`;
  }

  /** GeoJSON of its mask. */
  get geometry() {
    const closed = (ring) => {
      const points = [];
      for (let index = 0; index < ring.length; index += 2) points.push([ring[index], ring[index + 1]]);
      return [...points, points[0]];
    };
    const polygons = partsOf(this.rings).map((part) => part.map(closed));
    if (polygons.length === 0) return null;
    if (polygons.length === 1) return { type: "Polygon", coordinates: polygons[0] };
    return { type: "MultiPolygon", coordinates: polygons };
  }
}

/** An image with its instances. */
export class Scene {
  /**
   * @param {string} name of the image
   * @param {CanvasImageSource | null} picture null where the browser cannot show it
   * @param {object} answer one image of an answer: size and instances
   */
  constructor(name, picture, answer) {
    this.name = name;
    this.picture = picture;
    [this.height, this.width] = answer.size;
    this.found = answer.instances.map((row) => new Found(row, answer.size));
  }

  /** The topmost of some instances at a point of the image: the smallest, else the one whose box is around it. */
  at(shown, x, y) {
    if (x < 0 || y < 0 || x >= this.width || y >= this.height) return null;
    const position = Math.floor(x) * this.height + Math.floor(y);
    const hit = shown.filter((one) => contains(one.runs, position)).sort((one, other) => one.area - other.area);
    return hit[0] ?? null;
  }
}
