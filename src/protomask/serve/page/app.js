/** The page: images in, what was found in them out. */
import { Camera } from "./camera.js";
import { asGeoJson, asJson, asPng, save } from "./download.js";
import { drawScene } from "./draw.js";
import { Panel } from "./panel.js";
import { Scene } from "./scene.js";
import { Viewer } from "./viewer.js";

const byId = (id) => document.getElementById(id);
const site = await (await fetch("page/site.json")).json();
const backend = await openBackend();
const items = [];
const decoded = new Map(); // images by their items, the last shown last
const MOST_DECODED = 4;
let current = null; // the item in sight
let scene = null;
let pointed = null; // an instance under the pointer
let pinned = null; // an instance that was clicked
let announcing = 0;
let announced = "";
let begin;
const begun = new Promise((resolve) => (begin = resolve)); // the models are known

const panel = new Panel(refresh, focusOn);
const viewer = new Viewer(byId("frame"), byId("canvas"), draw, pointAt);
const camera = new Camera(showFrame);

async function openBackend() {
  if (site.backend === "server") return new (await import("./server.js")).ServerBackend();
  return new (await import("./local.js")).LocalBackend(site);
}

// Drawing

function draw(context, place) {
  if (scene) drawScene(context, scene, panel.shown, panel.style, place, pointed ?? pinned);
}

function show(next) {
  const isOther = next?.picture !== scene?.picture;
  scene = next;
  pointed = null;
  if (isOther) pinned = null;
  byId("tip").hidden = true;
  byId("empty").hidden = scene !== null;
  panel.show(scene);
  if (scene) viewer.show(scene.width, scene.height);
}

function refresh() {
  viewer.redraw();
  if (!scene) {
    byId("canvas").setAttribute("aria-label", "No image");
    announce("");
    return;
  }
  byId("canvas").setAttribute("aria-label", describe(panel.shown));
  // Screen readers say it when it has come to rest.
  if (camera.isOn && announcing) return;
  clearTimeout(announcing);
  announcing = setTimeout(() => announce(scene ? describe(panel.shown) : ""), camera.isOn ? 3000 : 300);
}

function announce(text) {
  announcing = 0;
  if (text === announced) return;
  announced = text;
  byId("status").textContent = text;
}

function describe(shown) {
  if (scene.isPreview) return `${scene.name} is being looked at.`;
  const counts = new Map();
  for (const { name } of shown) counts.set(name, (counts.get(name) ?? 0) + 1);
  const parts = [...counts].sort((one, other) => other[1] - one[1]).map(([name, count]) => `${count} ${name}`);
  const many = `${shown.length} ${shown.length === 1 ? "instance" : "instances"}`;
  const kinds = parts.length ? `: ${parts.slice(0, 12).join(", ")}${parts.length > 12 ? ", ..." : ""}` : "";
  return `${scene.name}: ${many} with a score of at least ${panel.threshold.toFixed(2)}${kinds}.`;
}

// Pointing at instances

function focusOn(one, isClick) {
  pointed = isClick ? null : one;
  if (isClick) {
    pinned = pinned === one ? null : one;
    if (pinned && !viewer.fitted) viewer.showBox(pinned.box);
  }
  panel.mark(pointed ?? pinned, pinned !== null);
  viewer.redraw();
}

function pointAt(x, y, kind, event) {
  const one = scene && kind !== "leave" ? scene.at(panel.shown, x, y) : null;
  byId("canvas").classList.toggle("pointing", one !== null);
  if (kind === "click") {
    focusOn(one ?? pinned, true);
    if (pinned) panel.reveal(pinned);
    if (event.pointerType === "mouse") return;
  } else if (one !== pointed) {
    focusOn(one, false);
  }
  showTip(one, event);
}

function showTip(one, event) {
  const tip = byId("tip");
  tip.hidden = one === null;
  if (!one) return;
  const lines = [one.trackId === null ? `${one.name} (${one.number})` : `${one.name} #${one.trackId}`];
  lines.push(`score ${one.score.toFixed(3)}`);
  if (one.maskScore !== null) lines.push(`mask score ${one.maskScore.toFixed(3)}`);
  lines.push(`${one.area.toLocaleString("en")} pixels`);
  tip.textContent = lines.join("\n");
  const around = byId("frame").getBoundingClientRect();
  const [x, y] = [event.clientX - around.left, event.clientY - around.top];
  tip.style.left = `${Math.max(4, Math.min(x + 14, around.width - tip.offsetWidth - 4))}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 14, around.height - tip.offsetHeight - 4))}px`;
}

// Images

class Item {
  constructor(name, source) {
    this.name = name;
    this.source = source; // a Blob, or the address of a sample
    this.scenes = new Map(); // by model
    this.times = new Map();
    this.button = document.createElement("button");
    this.button.type = "button";
    const image = new Image();
    image.alt = "";
    image.src = source instanceof Blob ? URL.createObjectURL(source) : source;
    image.addEventListener("error", () => image.remove());
    this.count = Object.assign(document.createElement("span"), { className: "count", hidden: true });
    this.button.append(image, this.count);
    this.button.classList.toggle("sample", !(source instanceof Blob));
    this.button.title = name;
    this.button.addEventListener("click", () => open(this));
    this.label();
  }

  label() {
    const known = this.scenes.get(byId("model").value);
    this.count.hidden = !known;
    const count = known ? known.found.filter((one) => one.score >= panel.threshold).length : 0;
    this.count.textContent = String(count);
    const said = known ? `, ${count} instances` : "";
    this.button.setAttribute("aria-label", `${this.source instanceof Blob ? "" : "Sample "}${this.name}${said}`);
  }

  /** The decoded image, null where the browser cannot; of all images only the last ones stay in memory. */
  async decode() {
    if (!decoded.has(this)) decoded.set(this, await createImageBitmap(await this.file()).catch(() => null));
    const picture = decoded.get(this);
    decoded.delete(this);
    decoded.set(this, picture);
    for (const item of [...decoded.keys()].slice(0, -MOST_DECODED)) {
      for (const known of item.scenes.values()) known.picture = null;
      decoded.get(item)?.close();
      decoded.delete(item);
    }
    return picture;
  }

  async file() {
    if (this.source instanceof Blob) return this.source;
    const answer = await fetch(this.source);
    if (!answer.ok) throw new Error(`The sample ${this.name} cannot be loaded (status ${answer.status}).`);
    return answer.blob();
  }
}

function addItems(files) {
  const added = [...files].map((file, index) => new Item(file.name || `pasted ${items.length + index + 1}.png`, file));
  if (added.length === 0) return;
  items.unshift(...added);
  byId("items").prepend(
    ...added.map((item) => {
      const entry = document.createElement("li");
      entry.append(item.button);
      return entry;
    }),
  );
  open(added[0]);
  predictAll(added.slice(1));
}

async function predictAll(waiting) {
  for (const item of waiting) {
    try {
      await predict(item);
    } catch {
      // It is said when the image is opened.
    }
  }
}

async function open(item) {
  stopCamera();
  for (const one of items) one.button.setAttribute("aria-current", String(one === item));
  current = item;
  complain("");
  const model = byId("model").value;
  if (!item.scenes.has(model)) byId("busy").hidden = false;
  try {
    const found = await predict(item);
    found.picture = await item.decode();
    if (current !== item || byId("model").value !== model) return;
    show(found);
    const note = found.picture ? "" : "; this browser cannot show the image itself";
    byId("timing").textContent = `${found.width} x ${found.height} pixels, ${item.times.get(model).toFixed(0)} ms${note}`;
  } catch (error) {
    if (current !== item) return;
    show(null);
    fail(error);
  } finally {
    if (current === item) byId("busy").hidden = true;
  }
}

/** The scene of an item; one request for each image and model, however many ask. */
function predict(item) {
  const model = byId("model").value;
  if (item.scenes.has(model)) return Promise.resolve(item.scenes.get(model));
  item.pending ??= new Map();
  if (!item.pending.has(model)) {
    item.pending.set(model, ask(item, model).finally(() => item.pending.delete(model)));
  }
  return item.pending.get(model);
}

async function ask(item, model) {
  if (!model) throw new Error("There is no model yet.");
  const file = await item.file();
  if (current === item && !scene && (await item.decode())) preview(item);
  const began = performance.now();
  const answer = await backend.predict(file, item.name, model);
  item.times.set(model, answer.ms ?? performance.now() - began);
  const found = new Scene(item.name, null, answer);
  item.scenes.set(model, found);
  item.label();
  return found;
}

/** The image while its instances are awaited. */
function preview(item) {
  const picture = decoded.get(item);
  const answer = { size: [picture.height, picture.width], instances: [] };
  show(Object.assign(new Scene(item.name, picture, answer), { isPreview: true }));
}

// Webcam

async function startCamera() {
  complain("");
  camera.isOn = true;
  byId("camera").setAttribute("aria-pressed", "true");
  announce("The webcam is on.");
  current = null;
  for (const one of items) one.button.setAttribute("aria-current", "false");
  try {
    await camera.start(backend, byId("model").value);
  } catch (error) {
    fail(error);
  } finally {
    stopCamera();
  }
}

function stopCamera() {
  camera.stop();
  camera.isOn = false;
  byId("camera").setAttribute("aria-pressed", "false");
}

let lastTable = 0;
function showFrame(canvas, answer, ms) {
  const next = new Scene("webcam", canvas, answer);
  const track = pinned?.trackId;
  byId("timing").textContent = `${next.width} x ${next.height} pixels, ${ms.toFixed(0)} ms, ${(1000 / ms).toFixed(1)} frames per second`;
  // A table that changes with every frame can be neither read nor clicked.
  const isRead = byId("rows").contains(document.activeElement);
  if ((performance.now() - lastTable > 700 && !isRead) || scene?.name !== "webcam") {
    lastTable = performance.now();
    show(next);
  } else {
    scene = next;
    panel.scene = next;
    viewer.show(next.width, next.height);
  }
  if (track !== undefined && track !== null) pinned = next.found.find((one) => one.trackId === track) ?? null;
}

// What goes wrong

function fail(error) {
  if (error.status === 401) {
    byId("key-details").open = true;
    byId("key").focus();
  }
  complain(error.message);
}

function complain(text) {
  byId("problem").textContent = text;
}

// Controls

async function take(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/") || /\.(jpe?g|png|tiff?|webp|bmp|jp2)$/i.test(file.name));
  await begun;
  if (images.length === 0) complain("Expected image files.");
  else addItems(images);
}

function takeChosen() {
  take(byId("files").files);
  byId("files").value = "";
}

byId("files").addEventListener("change", takeChosen);
if (byId("files").files.length) takeChosen(); // by somebody who was faster than this script
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) take(event.clipboardData.files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  byId("frame").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) byId("frame").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("frame").classList.remove("over");
  take(event.dataTransfer.files);
});
byId("camera").addEventListener("click", () => (camera.isOn ? stopCamera() : startCamera()));
byId("zoom-in").addEventListener("click", () => viewer.zoom(1.5));
byId("zoom-out").addEventListener("click", () => viewer.zoom(1 / 1.5));
byId("zoom-fit").addEventListener("click", () => viewer.fit());
byId("score").addEventListener("change", () => items.forEach((item) => item.label()));
byId("model").addEventListener("change", () => {
  for (const item of items) item.label();
  if (camera.isOn) {
    stopCamera();
    startCamera();
  } else if (current) open(current);
});

const stem = () => scene.name.replace(/\.[^.]*$/, "");
byId("json").addEventListener("click", () => save(asJson(scene, panel.shown), "application/json", `${stem()}.json`));
byId("geojson").addEventListener("click", () =>
  save(asGeoJson(scene, panel.shown), "application/geo+json", `${stem()}.geojson`),
);
byId("png").addEventListener("click", async () => {
  try {
    save(await asPng(scene, panel.shown, panel.style), "image/png", `${stem()}-masks.png`);
  } catch (error) {
    fail(error);
  }
});

byId("theme").value = localStorage.getItem("theme") ?? "auto";
const setTheme = () => {
  document.documentElement.dataset.theme = byId("theme").value;
  localStorage.setItem("theme", byId("theme").value);
};
byId("theme").addEventListener("change", setTheme);
setTheme();

// Begin

async function readModels() {
  const models = await backend.models();
  const chosen = byId("model").value;
  byId("model").replaceChildren(...models.map(({ name }) => new Option(name, name, false, name === chosen)));
  byId("model").disabled = models.length === 0;
  complain("");
}

if (backend.hasKey) {
  byId("key-details").hidden = false;
  byId("key").value = backend.key;
  byId("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    backend.setKey(byId("key").value.trim());
    try {
      await readModels();
      byId("key-details").open = false;
      if (current) open(current);
    } catch (error) {
      fail(error);
    }
  });
}
if (backend.devices) {
  const devices = await backend.devices();
  byId("device-choice").hidden = devices.length < 2;
  byId("device").addEventListener("change", () => {
    backend.setDevice(byId("device").value);
    for (const item of items) item.scenes.clear();
    if (current) open(current);
  });
}
byId("where").textContent = backend.where ?? "";
try {
  await readModels();
} catch (error) {
  fail(error);
}
for (const address of site.samples) {
  const item = new Item(address.replace(/^.*\//, ""), address);
  items.push(item);
  const entry = document.createElement("li");
  entry.append(item.button);
  byId("items").append(entry);
}
document.documentElement.dataset.ready = "true";
begin();
