// Updates a show on air: its newest seconds come as events.
import { ask } from "./frame.js";

const byId = (id) => document.getElementById(id);

export function listen(app) {
  const { meta, numbers, timeline, id } = app;
  const source = new EventSource(`/data/live/${encodeURIComponent(meta.channel)}`);
  let looked = 0;
  source.addEventListener("message", async (event) => {
    const update = JSON.parse(event.data);
    if (update.broadcast !== id) return;
    if (update.until) {
      const followed = timeline.to >= meta.until - 1000;
      const span = timeline.to - timeline.from;
      const whole = span >= (meta.until - meta.begin) * 0.95;
      meta.until = Math.max(meta.until, update.until);
      numbers.until = update.until;
      numbers.append(update.seconds);
      if (followed) timeline.view(whole ? meta.begin : meta.until - span, meta.until);
      byId("behind").textContent = update.lag_ms === null ? "" : `${((Date.now() - update.until) / 1000).toFixed(0)} s behind`;
      if (Date.now() - looked > 10000) {
        looked = Date.now();
        const again = await ask(`/data/show/${id}`);
        Object.assign(meta, { media: again.media, parts: again.parts, gaps: again.gaps, kept: again.kept, failed: again.failed, until: Math.max(meta.until, again.until) });
        app.side.setTracks(await ask(`/data/show/${id}/tracks`));
        numbers.forget(update.until - 120000);
        timeline.refresh();
      }
    }
    if (update.status !== "live") {
      source.close();
      meta.onAir = false;
      byId("on-air").hidden = byId("to-live").hidden = true;
      app.player.live = false;
    }
  });
}
