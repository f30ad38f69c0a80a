/** The controls beside the image: what is shown, and the table of it. */

const byId = (id) => document.getElementById(id);

export class Panel {
  /**
   * @param {() => void} onChange another choice of what is shown
   * @param {(one: import("./scene.js").Found | null, isClick: boolean) => void} onFocus a row is pointed at
   */
  constructor(onChange, onFocus) {
    this.onChange = onChange;
    this.onFocus = onFocus;
    this.scene = null;
    this.hidden = new Set(); // names of classes, kept from image to image
    this.rows = new Map();
    for (const id of ["masks", "boxes", "labels"]) byId(id).addEventListener("change", () => this.changed());
    for (const id of ["score", "mask-score", "opacity"]) byId(id).addEventListener("input", () => this.changed());
    byId("rows").addEventListener("pointerleave", () => this.onFocus(null, false));
  }

  /** How to draw. */
  get style() {
    return {
      masks: byId("masks").checked,
      boxes: byId("boxes").checked,
      labels: byId("labels").checked,
      opacity: Number(byId("opacity").value),
    };
  }

  get threshold() {
    return Number(byId("score").value);
  }

  /** The instances of the scene that pass, best first. */
  get shown() {
    const least = Number(byId("mask-score").value);
    return (this.scene?.found ?? []).filter(
      (one) => one.score >= this.threshold && (one.maskScore ?? 1) >= least && !this.hidden.has(one.name),
    );
  }

  /** Show the instances of another image. */
  show(scene) {
    this.scene = scene;
    const hasMaskScores = Boolean(scene?.found.some((one) => one.maskScore !== null));
    this.hasMaskScores = hasMaskScores;
    if (!hasMaskScores) byId("mask-score").value = 0;
    this.fillRows();
    this.fillClasses();
    for (const one of document.querySelectorAll(".of-mask-score")) one.hidden = !hasMaskScores;
    this.changed();
  }

  changed() {
    for (const id of ["score", "mask-score", "opacity"]) {
      byId(`${id}-value`).textContent = Number(byId(id).value).toFixed(2);
    }
    const shown = new Set(this.shown);
    for (const [one, row] of this.rows) row.hidden = !shown.has(one);
    const all = this.scene?.found.length ?? 0;
    byId("caption").textContent = all ? `Instances: ${shown.size} of ${all}` : "Instances";
    for (const id of ["json", "geojson", "png"]) byId(id).disabled = !this.scene;
    this.countClasses();
    this.onChange();
  }

  /** Mark the row of an instance. */
  mark(one, isPinned) {
    for (const [other, row] of this.rows) {
      row.classList.toggle("focus", other === one);
      row.querySelector("button").setAttribute("aria-pressed", String(other === one && isPinned));
    }
  }

  /** Bring the row of an instance into sight. */
  reveal(one) {
    const row = this.rows.get(one);
    const around = row?.closest(".rows");
    if (!row || around.scrollHeight <= around.clientHeight) return;
    around.scrollTop = row.offsetTop - around.clientHeight / 2;
  }

  fillRows() {
    this.rows.clear();
    const body = byId("rows");
    body.textContent = "";
    for (const one of this.scene?.found ?? []) {
      const row = body.insertRow();
      const number = row.insertCell();
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = `rgb(${one.color})`;
      number.append(swatch, one.trackId === null ? String(one.number) : `#${one.trackId}`);
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = one.name;
      button.setAttribute("aria-label", `${one.name}, number ${one.number}`);
      row.insertCell().append(button);
      this.addNumber(row, one.score.toFixed(3));
      this.addNumber(row, one.maskScore?.toFixed(3) ?? "", "of-mask-score").hidden = !this.hasMaskScores;
      this.addNumber(row, one.area.toLocaleString("en"));
      row.addEventListener("pointerenter", () => this.onFocus(one, false));
      row.addEventListener("click", () => this.onFocus(one, true));
      button.addEventListener("focus", () => button.matches(":focus-visible") && this.onFocus(one, false));
      button.addEventListener("blur", () => this.onFocus(null, false));
      this.rows.set(one, row);
    }
  }

  addNumber(row, text, kind = "") {
    const cell = row.insertCell();
    cell.className = `number ${kind}`.trim();
    cell.textContent = text;
    return cell;
  }

  fillClasses() {
    const around = byId("classes");
    const names = [...new Set((this.scene?.found ?? []).map((one) => one.name))].sort();
    const had = [...around.querySelectorAll("input")].map((input) => input.name);
    around.hidden = names.length < 2;
    if (String(names) === String(had)) return;
    for (const label of around.querySelectorAll("label")) label.remove();
    for (const name of names) {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "checkbox", name });
      input.checked = !this.hidden.has(name);
      input.addEventListener("change", () => {
        if (input.checked) this.hidden.delete(name);
        else this.hidden.add(name);
        this.changed();
      });
      label.append(input, document.createElement("span"));
      around.append(label);
    }
  }

  countClasses() {
    const counts = new Map();
    for (const one of this.scene?.found ?? []) {
      if (one.score >= this.threshold) counts.set(one.name, (counts.get(one.name) ?? 0) + 1);
    }
    for (const input of byId("classes").querySelectorAll("input")) {
      input.nextElementSibling.textContent = `${input.name} (${counts.get(input.name) ?? 0})`;
      input.parentElement.hidden = !counts.has(input.name);
    }
  }
}
