// Times of day as the browser's clock has them; the server writes UTC.

export function localTime(moment) {
  return moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

for (const element of document.querySelectorAll("time[datetime]")) {
  element.title = element.textContent;
  element.textContent = localTime(new Date(element.dateTime));
}
