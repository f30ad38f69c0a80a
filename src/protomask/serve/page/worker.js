/** Runs exported models in a thread of its own, so that the page stays quick. */
import { readAnswer } from "./detect.js";
import { prepare } from "./resize.js";

const RUNTIME = new URL("../runtime/", import.meta.url);
const SCORE_THRESHOLD = 0.05;
const runtimes = new Map();
const sessions = new Map();

function runtimeFor(device) {
  if (!runtimes.has(device)) {
    runtimes.set(device, import(new URL(device === "webgpu" ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs", RUNTIME)));
  }
  return runtimes.get(device);
}

async function sessionFor(model, device) {
  const key = `${device} ${model.file}`;
  if (!sessions.has(key)) {
    const made = (async () => {
      const runtime = await runtimeFor(device);
      runtime.env.wasm.wasmPaths = RUNTIME.href;
      // Threads need shared memory, which browsers give to isolated pages only.
      runtime.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
      const answer = await fetch(new URL(`../${model.file}`, import.meta.url));
      if (!answer.ok) throw new Error(`${model.file} cannot be loaded (status ${answer.status}).`);
      const content = new Uint8Array(await answer.arrayBuffer());
      return [runtime, await runtime.InferenceSession.create(content, { executionProviders: [device], logSeverityLevel: 3 })];
    })();
    sessions.set(key, made);
    made.catch(() => sessions.delete(key));
  }
  return sessions.get(key);
}

/** Pixels of an image file or a picture, on white. */
async function pixelsOf(source, name) {
  let picture = source;
  if (source instanceof Blob) {
    try {
      picture = await createImageBitmap(source, { colorSpaceConversion: "none" });
    } catch {
      throw new Error(`${name}: this browser cannot read the image.`);
    }
  }
  const { width, height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0);
  picture.close();
  return { width, height, data: context.getImageData(0, 0, width, height).data, step: 4 };
}

async function predict({ source, name, model, device }) {
  const [runtime, session] = await sessionFor(model, device);
  const began = performance.now();
  const image = await pixelsOf(source, name);
  const { width, height, data } = prepare(image, model.info.input);
  const outputs = await session.run({ image: new runtime.Tensor("uint8", data, [1, 3, height, width]) });
  const answer = readAnswer(outputs, model.info, [image.height, image.width], [height, width], SCORE_THRESHOLD);
  return { name, ...answer, ms: performance.now() - began };
}

let queue = Promise.resolve();
self.onmessage = ({ data: { id, ...task } }) => {
  // One after another: a session runs one image at a time.
  queue = queue.then(async () => {
    try {
      self.postMessage({ id, answer: await predict(task) });
    } catch (error) {
      self.postMessage({ id, error: error.message || String(error) });
    }
  });
};
