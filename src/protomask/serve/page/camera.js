/** Frames of a webcam, one after another. */

export class Camera {
  /** @param {(canvas: HTMLCanvasElement, answer: object, ms: number) => void} onFrame */
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.running = 0;
  }

  /**
   * Predict frames until `stop`.
   * @param {{openLive: (model: string) => Promise<object>}} backend
   * @param {string} model
   */
  async start(backend, model) {
    const run = ++this.running;
    if (!navigator.mediaDevices?.getUserMedia) throw new Error("A webcam needs https, or this page on localhost.");
    let stream;
    try {
      const video = { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: "environment" };
      stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      const reasons = {
        NotAllowedError: "This page may not use the webcam; allow it in the browser.",
        NotFoundError: "No webcam was found.",
        NotReadableError: "Another program uses the webcam.",
      };
      throw new Error(reasons[error.name] ?? error.message);
    }
    const video = document.createElement("video");
    Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
    let live = null;
    try {
      await video.play();
      live = await backend.openLive(model);
      // What is shown must not be drawn over, so two take turns.
      const canvases = [document.createElement("canvas"), document.createElement("canvas")];
      for (let count = 0; run === this.running; count += 1) {
        if (stream.getVideoTracks()[0].readyState === "ended") throw new Error("The webcam was disconnected.");
        const canvas = canvases[count % 2];
        [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
        canvas.getContext("2d").drawImage(video, 0, 0);
        const began = performance.now();
        const answer = await live.send(canvas);
        if (run === this.running) this.onFrame(canvas, answer, performance.now() - began);
        await new Promise((resolve) => setTimeout(resolve));
      }
    } finally {
      live?.close();
      for (const track of stream.getTracks()) track.stop();
      video.srcObject = null;
    }
  }

  stop() {
    this.running += 1;
  }
}
