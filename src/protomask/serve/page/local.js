/** Predictions in the browser itself; images go nowhere. */

export class LocalBackend {
  /** @param {{models: object[], webgpu: boolean}} site what this site has */
  constructor(site) {
    this.site = site;
    this.where = "runs in this browser; images stay on this device";
    this.device = "wasm";
    this.waiting = new Map();
    this.count = 0;
    this.worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data: { id, answer, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(answer);
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values()) reject(new Error(event.message || "The model cannot be run here."));
      this.waiting.clear();
    };
  }

  async models() {
    return this.site.models.map(({ name, info }) => ({ name, class_names: info.class_names }));
  }

  /** What models can run on here. */
  async devices() {
    const adapter = this.site.webgpu && (await navigator.gpu?.requestAdapter().catch(() => null));
    return adapter ? ["wasm", "webgpu"] : ["wasm"];
  }

  setDevice(device) {
    this.device = device;
  }

  /** What is in one image: a Blob, or an ImageBitmap that is given away. */
  predict(source, name, model) {
    const id = ++this.count;
    const known = this.site.models.find((one) => one.name === model);
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      const given = source instanceof Blob ? [] : [source];
      this.worker.postMessage({ id, source, name, model: known, device: this.device }, given);
    });
  }

  /** Predictions for frames of a camera. */
  async openLive(model) {
    return {
      send: async (canvas) => this.predict(await createImageBitmap(canvas), "webcam", model),
      close: () => {},
    };
  }
}
