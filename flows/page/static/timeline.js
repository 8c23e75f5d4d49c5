// The curves: shares of emotions over time. Wheel, pinch and buttons zoom, a drag marks, a click plays.
import { DASHES, EMOTIONS, colours, hatch, token } from "./palette.js";
import { Numbers } from "./data.js";

const SHORTEST_MS = 4000;

export class Timeline {
  constructor({ plot, meta, numbers, lanes, onPick, onMark, onHover, onView }) {
    Object.assign(this, { plot, meta, numbers, lanes, onPick, onMark, onHover, onView });
    Object.assign(this, { from: meta.begin, to: meta.until, off: new Set(), raw: false, usual: null, showUsual: false, override: null, waiting: 0 });
    this.#make();
    new ResizeObserver(() => this.#resize()).observe(plot);
    document.addEventListener("theme", () => { this.#make(); this.refresh(); });
  }

  #make() {
    this.u?.destroy();
    const palette = colours();
    const axis = { stroke: token("quiet"), grid: { stroke: token("line"), width: 1 }, ticks: { stroke: token("line"), width: 1, size: 5 }, font: "12px system-ui, sans-serif" };
    const line = (name, usual) => ({
      label: name, stroke: palette[name], width: usual ? 1 : 1.8, dash: DASHES[name], alpha: usual ? 0.45 : 1, points: { show: false },
      show: usual ? this.showUsual && !this.off.has(name) : !this.off.has(name), spanGaps: false,
    });
    this.u = new window.uPlot({
      width: Math.max(200, this.plot.clientWidth), height: this.#height(), legend: { show: false }, padding: [8, 10, 0, 0],
      scales: { x: { time: true, range: () => [this.from / 1000, this.to / 1000] }, y: { range: [0, 1] } },
      axes: [{ ...axis, space: 90, size: 32, values: [[86400, "{DD}.{MM}.", null, null, null, null, null, null, 1], [3600, "{HH}:{mm}", null, null, null, null, null, null, 1], [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1], [0.001, "{mm}:{ss}.{fff}", null, null, null, null, null, null, 1]] },
        { ...axis, size: 46, values: (_, ticks) => ticks.map((value) => `${Math.round(value * 100)} %`), splits: () => [0, 0.25, 0.5, 0.75, 1] }],
      series: [{}, ...EMOTIONS.map((name) => line(name, false)), ...EMOTIONS.map((name) => line(name, true))],
      cursor: { y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: false, dist: 6 } },
      hooks: {
        drawClear: [(u) => this.#drawHoles(u)],
        draw: [() => this.#drawLanes()],
        setSelect: [(u) => { if (u.select.width > 4) this.onMark(this.#at(u.select.left), this.#at(u.select.left + u.select.width)); }],
        setCursor: [(u) => this.onHover(u.cursor.idx === null || u.cursor.left < 0 ? null : u.cursor.idx)],
        ready: [(u) => { u.ctx.canvas.setAttribute("aria-hidden", "true"); this.#listen(u); }],
      },
    }, [[], ...EMOTIONS.map(() => []), ...EMOTIONS.map(() => [])], this.plot);
  }

  #height() { return window.innerWidth < 640 ? 190 : 240; }

  #at(left) { return this.u.posToVal(left, "x") * 1000; }

  #listen(u) {
    let pressed = null;
    u.over.addEventListener("pointerdown", (event) => { pressed = [event.clientX, event.clientY]; });
    u.over.addEventListener("click", (event) => {
      if (pressed && Math.abs(event.clientX - pressed[0]) < 6) this.onPick(this.#at(event.offsetX));
    });
    u.over.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan((event.deltaX / u.over.clientWidth) * (this.to - this.from));
      else this.zoom(Math.exp(event.deltaY * 0.0016), this.#at(event.offsetX));
    }, { passive: false });
    const touches = new Map();
    let spread = 0;
    const far = () => { const [a, b] = [...touches.values()]; return Math.abs(a - b); };
    u.over.addEventListener("touchstart", (event) => { for (const each of event.touches) touches.set(each.identifier, each.clientX); if (touches.size === 2) spread = far(); }, { passive: true });
    u.over.addEventListener("touchmove", (event) => {
      if (event.touches.length !== 2) return;
      event.preventDefault();
      for (const each of event.touches) touches.set(each.identifier, each.clientX);
      const now = far();
      const middle = [...touches.values()].reduce((a, b) => a + b, 0) / 2 - u.over.getBoundingClientRect().left;
      if (spread > 8 && now > 8) this.zoom(spread / now, this.#at(middle));
      spread = now;
    }, { passive: false });
    for (const end of ["touchend", "touchcancel"]) u.over.addEventListener(end, () => touches.clear());
  }

  #drawHoles(u) {
    const pen = u.ctx;
    const { left, top, width, height } = u.bbox;
    pen.save();
    pen.beginPath();
    pen.rect(left, top, width, height);
    pen.clip();
    const x = (at) => u.valToPos(at / 1000, "x", true);
    const pattern = hatch(pen, token("hatch"));
    for (const [begin, end] of this.meta.gaps) {
      if (end < this.from || begin > this.to) continue;
      pen.fillStyle = pattern;
      pen.fillRect(x(begin), top, Math.max(2, x(end) - x(begin)), height);
    }
    for (const [begin, end] of this.meta.ads) {
      pen.fillStyle = token("warn");
      pen.globalAlpha = 0.14;
      pen.fillRect(x(begin), top, Math.max(1, x(end) - x(begin)), height);
      pen.globalAlpha = 1;
    }
    for (const [begin, long] of this.meta.failed) {
      pen.fillStyle = token("hatch");
      pen.fillRect(x(begin), top, Math.max(1, x(begin + long) - x(begin)), height);
    }
    if (this.mark) {
      pen.fillStyle = token("mark");
      pen.fillRect(x(this.mark[0]), top, Math.max(2, x(this.mark[1]) - x(this.mark[0])), height);
    }
    pen.restore();
  }

  #drawLanes() {
    if (!this.u) return;
    this.lanes.draw(this.from, this.to, this.left, this.width);
    this.onView(this.from, this.to);
  }

  get left() { return this.u.bbox.left / devicePixelRatio; }

  get width() { return this.u.bbox.width / devicePixelRatio; }

  position(at) { return at === null || at < this.from || at > this.to ? null : this.left + ((at - this.from) / (this.to - this.from)) * this.width; }

  #resize() {
    if (!this.u || !this.plot.clientWidth) return;
    this.u.setSize({ width: this.plot.clientWidth, height: this.#height() });
  }

  view(from, to) {
    const room = Math.max(SHORTEST_MS, this.meta.until - this.meta.begin);
    const span = Math.min(Math.max(SHORTEST_MS, to - from), room * 1.02);
    const middle = (from + to) / 2;
    const begin = Math.min(Math.max(middle - span / 2, this.meta.begin - span * 0.02), Math.max(this.meta.begin, this.meta.until - span * 0.98));
    [this.from, this.to] = [begin, begin + span];
    this.refresh();
  }

  zoom(factor, around = (this.from + this.to) / 2) {
    this.view(around - (around - this.from) * factor, around + (this.to - around) * factor);
  }

  pan(by) { this.view(this.from + by, this.to + by); }

  all() { this.view(this.meta.begin, this.meta.until); }

  async refresh() {
    const step = Numbers.step(this.to - this.from);
    const request = ++this.waiting;
    this.#show();
    try {
      if (!this.numbers.has(step, this.from, this.to) && step < 60 && !this.numbers.has(60, this.from, this.to)) {
        await this.numbers.load(60, this.from, this.to);
        if (request === this.waiting) this.#show();
      }
      await this.numbers.load(step, this.from, this.to);
    } catch (error) {
      this.onProblem?.(error.message);
    }
    if (request === this.waiting) this.#show();
  }

  #show() {
    const step = Numbers.step(this.to - this.from);
    const best = this.numbers.has(step, this.from, this.to) ? step : [1, 10, 60].find((each) => this.numbers.has(each, this.from, this.to)) ?? step;
    const columns = this.override ?? this.numbers.columns(best, this.from, this.to, this.raw ? "raw" : "share");
    this.columns = columns;
    const usual = EMOTIONS.map((name) => columns.at.map((at) => this.#usual(name, at)));
    this.u.setData([columns.at.map((at) => at / 1000), ...columns.share, ...usual], false);
    this.u.setScale("x", { min: this.from / 1000, max: this.to / 1000 });
    this.plot.dataset.step = String(best);
  }

  #usual(name, at) {
    if (!this.usual || !this.showUsual) return null;
    const place = this.usual.minute.indexOf(Math.floor((at - this.meta.begin) / 60000));
    const value = place < 0 ? null : this.usual.share[name][place];
    return value === null || value === undefined ? null : value / 1000;
  }

  toggle(name) {
    if (this.off.has(name)) this.off.delete(name);
    else this.off.add(name);
    this.applyShown();
  }

  applyShown() {
    EMOTIONS.forEach((name, place) => {
      this.u.setSeries(place + 1, { show: !this.off.has(name) });
      this.u.setSeries(place + 1 + EMOTIONS.length, { show: this.showUsual && !this.off.has(name) });
    });
  }

  setMark(mark) {
    this.mark = mark;
    this.u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.u.redraw(false);
  }

  // Shares at a moment, of the nearest bucket that is shown.
  near(at) {
    const { columns } = this;
    if (!columns?.at.length) return null;
    let best = 0;
    for (let place = 1; place < columns.at.length; place += 1) if (Math.abs(columns.at[place] - at) < Math.abs(columns.at[best] - at)) best = place;
    return Math.abs(columns.at[best] - at) > 90000 ? null : best;
  }
}
