/** Files to take away: what is shown, not what is hidden. */
import { drawScene } from "./draw.js";

/** The answer as JSON. */
export function asJson(scene, shown) {
  const instances = shown.map((one) => one.row);
  return JSON.stringify({ name: scene.name, size: [scene.height, scene.width], instances }, null, 1);
}

/** GeoJSON in pixels of the image, y downwards. */
export function asGeoJson(scene, shown) {
  const features = shown.map((one) => {
    const { segmentation, ...properties } = one.row;
    return { type: "Feature", geometry: one.geometry, properties };
  });
  return JSON.stringify({ type: "FeatureCollection", name: scene.name, size: [scene.height, scene.width], features });
}

/** The image with what is drawn on it, in its own size. */
export async function asPng(scene, shown, style) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [scene.width, scene.height];
  const ratio = Math.max(1, Math.max(scene.width, scene.height) / 900);
  drawScene(canvas.getContext("2d"), scene, shown, style, { scale: 1, x: 0, y: 0, ratio });
  const file = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  if (!file) throw new Error(`This browser cannot make an image of ${scene.width}x${scene.height} pixels.`);
  return file;
}

/** Hand a file to the user. */
export function save(content, type, name) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
