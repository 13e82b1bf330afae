// The filter's times in the browser's zone; without this script they are in UTC, as the server takes them.

const form = document.querySelector("form.filters");
const times = [...form.querySelectorAll('input[type="datetime-local"]')];

function inZone(utc) {
  const moment = new Date(`${utc}Z`);
  return new Date(moment - moment.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

// What the server wrote, and not what a browser may have put back: that is in its zone already.
for (const field of times) {
  field.value = field.defaultValue;
  if (field.value) field.value = inZone(field.value);
}
for (const zone of form.querySelectorAll("[data-zone]")) zone.remove();

form.addEventListener("formdata", ({ formData }) => {
  for (const field of times) if (field.value) formData.set(field.name, new Date(field.value).toISOString());
  for (const [name, value] of [...formData]) if (!value) formData.delete(name);
});
