/** Predictions of the server that this page came from. */

const PREDICT_THRESHOLD = 0.05;
/** So low that the page can move its threshold without asking again. */

/** What went wrong, in words for people. */
export class Problem extends Error {
  /** @param {string} message @param {number} status of HTTP @param {string} field of the request */
  constructor(message, status = 0, field = "") {
    super(message);
    this.status = status;
    this.field = field;
  }
}

export class ServerBackend {
  constructor() {
    this.hasKey = true;
    this.key = sessionStorage.getItem("key") ?? "";
  }

  /** Keep a key as long as this tab is open. */
  setKey(key) {
    this.key = key;
    sessionStorage.setItem("key", key);
  }

  /** @returns {Promise<{name: string, class_names: string[]}[]>} */
  async models() {
    const answer = await this.ask("v1/models");
    return (await answer.json()).models;
  }

  /**
   * What is in one image.
   * @param {Blob} image file
   * @param {string} name of the file
   * @param {string} model
   */
  async predict(image, name, model) {
    const query = new URLSearchParams({ model, score_threshold: PREDICT_THRESHOLD });
    const headers = { "Content-Type": image.type.startsWith("image/") ? image.type : "application/octet-stream" };
    try {
      const answer = await this.ask(`v1/predict?${query}`, { method: "POST", body: image, headers });
      return (await answer.json()).images[0];
    } catch (error) {
      if (error instanceof Problem) error.message = error.message.replaceAll("images[0]", name);
      throw error;
    }
  }

  async ask(path, request = {}, tries = 3) {
    const headers = { ...request.headers, Accept: "application/json" };
    if (this.key) headers["X-API-Key"] = this.key;
    let answer;
    try {
      answer = await fetch(path, { ...request, headers });
    } catch {
      throw new Problem("The server cannot be reached.");
    }
    if (answer.ok) return answer;
    if (answer.status === 429 && tries > 0) {
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, Math.min(seconds, 10) * 1000));
      return this.ask(path, request, tries - 1);
    }
    throw await problemOf(answer);
  }

  /**
   * Predictions for frames of a camera, with tracks.
   * @returns {Promise<{send: (canvas: HTMLCanvasElement) => Promise<object>, close: () => void}>}
   */
  async openLive(model) {
    const query = new URLSearchParams({ model, score_threshold: PREDICT_THRESHOLD });
    const address = new URL(`v1/live?${query}`, document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, this.key ? [`key.${this.key}`] : []);
    const waiting = [];
    let reason = null;
    const end = (message) => {
      reason ??= new Problem(message);
      for (const { reject } of waiting.splice(0)) reject(reason);
    };
    socket.onmessage = ({ data }) => {
      const answer = JSON.parse(data);
      if (answer.error) waiting.shift()?.reject(new Problem(answer.error));
      else waiting.shift()?.resolve(answer);
    };
    socket.onclose = ({ reason: said }) => end(said || "The connection to the server has ended.");
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      waiting.push({ resolve, reject });
    });
    waiting.length = 0;
    return {
      send: async (canvas) => {
        if (reason) throw reason;
        const frame = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
        const answer = new Promise((resolve, reject) => waiting.push({ resolve, reject }));
        socket.send(await frame.arrayBuffer());
        return answer;
      },
      close: () => socket.close(),
    };
  }
}

/** Of an answer with problem details (RFC 9457), or of a proxy with anything. */
async function problemOf(answer) {
  let said = {};
  try {
    said = await answer.json();
  } catch {
    said = {};
  }
  const detail = said.detail || said.title || answer.statusText || `status ${answer.status}`;
  if (answer.status === 401) return new Problem("This server asks for a key.", 401, "authorization");
  const field = said.field && !String(detail).startsWith(said.field) ? `${said.field}: ` : "";
  return new Problem(`${field}${detail}`, answer.status, said.field ?? "");
}
