// A marked stretch: kept from deletion, or exported in one of several formats.
import { ask, clockOf, tell } from "./frame.js";

const FORMS = [["mp4", "MP4"], ["csv", "CSV"], ["parquet", "Parquet"], ["openface.csv", "OpenFace"], ["png", "PNG"], ["svg", "SVG"], ["vtt", "WebVTT"], ["ass", "ASS"]];
const byId = (id) => document.getElementById(id);

export class Marks {
  constructor(app) {
    Object.assign(this, { app, mark: null, from: null });
    byId("takes").replaceChildren("Export:", ...FORMS.map(([form, name]) => {
      const link = Object.assign(document.createElement("a"), { className: "button", textContent: name });
      link.dataset.form = form;
      if (form === "png") { link.href = "#"; link.addEventListener("click", (event) => { event.preventDefault(); this.png().catch((error) => tell(error.message)); }); }
      return link;
    }));
  }

  set(from, to) {
    const { meta, timeline } = this.app;
    this.mark = [Math.max(meta.begin, Math.round(from)), Math.min(meta.until, Math.round(to))];
    this.from = null;
    if (this.mark[1] - this.mark[0] < 100) return this.clear();
    timeline.setMark(this.mark);
    byId("marked").hidden = false;
    byId("marked-span").textContent = `${clockOf(this.mark[0])} – ${clockOf(this.mark[1])} (${((this.mark[1] - this.mark[0]) / 1000).toFixed(1)} s)`;
    for (const link of byId("takes").querySelectorAll("a")) if (link.dataset.form !== "png") link.href = this.#url(link.dataset.form);
    return this.app.writeSoon();
  }

  #url(form) { return `/take/${this.app.id}/stretch.${form}?from=${this.mark[0]}&to=${this.mark[1]}`; }

  here(at) {
    if (this.from === null) {
      this.from = at;
      tell(`Marked from ${clockOf(at)}: press Mark (m) again at the end`);
    } else this.set(Math.min(this.from, at), Math.max(this.from, at) + 1);
  }

  clear() {
    this.mark = null;
    this.app.timeline.setMark(null);
    byId("marked").hidden = true;
    this.app.writeSoon();
  }

  zoom() { if (this.mark) this.app.timeline.view(...this.mark); }

  async keep() {
    if (!this.mark) { tell("Mark a stretch first: drag over the timeline, or press m"); return; }
    const body = JSON.stringify({ show: this.app.id, begin: this.mark[0], end: this.mark[1], note: byId("note").value });
    const made = await ask("/kept", { method: "POST", body, headers: { "content-type": "application/json" } });
    this.app.meta.kept.push([made.id, ...this.mark, byId("note").value]);
    byId("note").value = "";
    this.app.timeline.u.redraw(false);
    tell("Kept: it stays on disk until it is released (Kept, above)");
  }

  async png() {
    const answer = await fetch(this.#url("svg"));
    if (!answer.ok) throw new Error("the curve could not be drawn");
    const image = new Image();
    image.src = URL.createObjectURL(await answer.blob());
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth * 2, height: image.naturalHeight * 2 });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => { canvas.toBlob(done, "image/png"); });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${this.app.meta.channel}.png` });
    link.click();
  }
}
