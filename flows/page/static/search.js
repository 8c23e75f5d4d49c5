// Sends the user's time zone; a missing still leaves a hatched place.
const zone = document.querySelector('[name="zone"]');
if (zone && !zone.value) zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
for (const image of document.querySelectorAll(".found img")) {
  const gone = () => image.remove();
  if (image.complete && !image.naturalWidth && image.src && image.loading !== "lazy") gone();
  image.addEventListener("error", gone);
}
