// A picture with its heatmap and outlined regions, as the macro `picture` writes it.

const SVG = "http://www.w3.org/2000/svg";

function attach(figure) {
  const heat = figure.querySelector(".heat");
  const opacity = figure.querySelector("[data-opacity]");
  const outlines = figure.querySelector("[data-outlines]");
  figure.querySelector("[data-controls]").hidden = false;
  opacity.closest("label").hidden = !heat.hasAttribute("href");
  const update = () => {
    heat.setAttribute("opacity", opacity.value / 100);
    figure.querySelector(".outlines").setAttribute("visibility", outlines.checked ? "visible" : "hidden");
  };
  opacity.addEventListener("input", update);
  outlines.addEventListener("change", update);
  update();
  const photo = figure.querySelector(".photo");
  photo.addEventListener("error", () => setMissing(figure, true));
  photo.addEventListener("load", () => setMissing(figure, false));
  if (photo.getAttribute("src") && photo.complete && !photo.naturalWidth) setMissing(figure, true);
}

function setMissing(figure, missing) {
  figure.querySelector(".missing").hidden = !missing;
  figure.querySelector(".photo").hidden = missing;
  figure.querySelector(".marks").toggleAttribute("hidden", missing);
  figure.querySelector("[data-controls]").hidden = missing;
}

const rectangle = (name, { x, y, width, height }) => {
  const element = document.createElementNS(SVG, "rect");
  for (const [key, value] of Object.entries({ class: name, x, y, width, height })) element.setAttribute(key, value);
  return element;
};

// Shows another picture once it is there, all of it at once. Returns whether it could be shown.
export async function show(figure, { photo, heat, width, height, regions }, isCurrent = () => true) {
  const coming = new Image();
  coming.src = photo;
  let there = true;
  try {
    await coming.decode();
  } catch {
    there = false;
  }
  if (!isCurrent()) return there;
  const image = figure.querySelector(".photo");
  if (there) {
    image.width = width;
    image.height = height;
    image.src = photo;
    image.alt = `The inspected part, with ${regions.length} suspicious region${regions.length === 1 ? "" : "s"}`;
    const marks = figure.querySelector(".marks");
    marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const layer = figure.querySelector(".heat");
    layer.setAttribute("width", width);
    layer.setAttribute("height", height);
    if (heat) layer.setAttribute("href", heat);
    else layer.removeAttribute("href");
    figure.querySelector("[data-opacity]").closest("label").hidden = !heat;
    figure.querySelector(".outlines").replaceChildren(
      ...regions.flatMap((region) => [rectangle("under", region), rectangle("over", region)]));
  }
  setMissing(figure, !there);
  return there;
}

document.querySelectorAll("[data-picture]").forEach(attach);
