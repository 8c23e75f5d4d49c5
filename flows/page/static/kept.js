// Letting a kept stretch go.
import { ask, tell } from "./frame.js";

for (const button of document.querySelectorAll("[data-let-go]")) {
  button.addEventListener("click", async () => {
    try {
      await ask(`/kept/${button.dataset.letGo}`, { method: "DELETE" });
      button.closest("tr").remove();
      tell("Let go: it rolls away with the rest");
    } catch (error) {
      tell(error.message);
    }
  });
}
