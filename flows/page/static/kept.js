// Releases a kept stretch.
import { ask, tell } from "./frame.js";

for (const button of document.querySelectorAll("[data-let-go]")) {
  button.addEventListener("click", async () => {
    try {
      await ask(`/kept/${button.dataset.letGo}`, { method: "DELETE" });
      button.closest("tr").remove();
      tell("Released: it is deleted when it is old enough");
    } catch (error) {
      tell(error.message);
    }
  });
}
