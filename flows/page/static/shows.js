// Shows on air: the newest emotion and a small curve, updated by events.
import { EMOTIONS, token } from "./palette.js";

for (const card of document.querySelectorAll("[data-live]")) {
  const seconds = new Map();
  const source = new EventSource(`/data/live/${encodeURIComponent(card.dataset.live)}`);
  let until = 0;
  const behind = () => { if (until) card.querySelector("[data-behind]").textContent = `${Math.max(0, (Date.now() - until) / 1000).toFixed(0)} s behind the air`; };
  setInterval(behind, 1000);
  source.addEventListener("message", (event) => {
    const update = JSON.parse(event.data);
    if (String(update.broadcast) !== card.dataset.show || !update.until) return;
    until = update.until;
    behind();
    if (update.emotion) {
      const named = card.querySelector("[data-emotion]");
      named.className = `emotion big e-${update.emotion}`;
      named.lastElementChild.textContent = update.emotion;
      card.querySelector("[data-faces]").textContent = `${update.faces} face${update.faces === 1 ? "" : "s"}`;
    }
    update.seconds.at.forEach((at, place) => seconds.set(update.seconds.start + at, EMOTIONS.map((name) => update.seconds.share[name][place])));
    draw();
    if (update.status !== "live") location.reload();
  });

  function draw() {
    const canvas = card.querySelector("canvas");
    const ratio = devicePixelRatio;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    const pen = canvas.getContext("2d");
    const times = [...seconds.keys()].sort((a, b) => a - b).slice(-90);
    const wide = canvas.width / 90;
    times.forEach((at, place) => {
      let top = canvas.height;
      const shares = seconds.get(at);
      const sum = shares.reduce((a, b) => a + (b ?? 0), 0) || 1;
      EMOTIONS.forEach((name, index) => {
        const high = ((shares[index] ?? 0) / sum) * canvas.height;
        pen.fillStyle = token(name);
        pen.fillRect(canvas.width - (times.length - place) * wide, top - high, Math.ceil(wide), high);
        top -= high;
      });
    });
  }
}
