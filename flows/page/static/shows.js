// What is on air: its newest emotion and a small curve, as they come.
import { EMOTIONS, token } from "./palette.js";

for (const card of document.querySelectorAll("[data-live]")) {
  const seconds = new Map();
  const source = new EventSource(`/data/live/${encodeURIComponent(card.dataset.live)}`);
  let until = 0;
  const behind = () => { if (until) card.querySelector("[data-behind]").textContent = `${Math.max(0, (Date.now() - until) / 1000).toFixed(0)} s behind the air`; };
  setInterval(behind, 1000);
  source.addEventListener("message", (event) => {
    const said = JSON.parse(event.data);
    if (String(said.broadcast) !== card.dataset.show || !said.until) return;
    until = said.until;
    behind();
    if (said.emotion) {
      const named = card.querySelector("[data-emotion]");
      named.className = `emotion big e-${said.emotion}`;
      named.lastElementChild.textContent = said.emotion;
      card.querySelector("[data-faces]").textContent = `${said.faces} face${said.faces === 1 ? "" : "s"}`;
    }
    said.seconds.at.forEach((at, place) => seconds.set(said.seconds.start + at, EMOTIONS.map((name) => said.seconds.share[name][place])));
    draw();
    if (said.status !== "live") location.reload();
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
