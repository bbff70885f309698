"use strict";
// Each image: a range input above two versions moves the divider; two lists choose the versions.
for (const figure of document.querySelectorAll(".compare")) {
  const range = figure.querySelector("input");
  const stage = figure.querySelector(".stage");
  const lists = figure.querySelectorAll("select");
  const images = [...stage.querySelectorAll("img")];

  const divide = () => {
    stage.style.setProperty("--at", range.value + "%");
    range.setAttribute("aria-valuetext", `${lists[0].value} on ${range.value} percent, ${lists[1].value} on the rest`);
  };
  const choose = () => {
    for (const image of images) {
      const left = image.dataset.version === lists[0].value;
      const right = image.dataset.version === lists[1].value;
      image.hidden = !left && !right;
      image.classList.toggle("left", left && !right);
    }
    divide();
  };
  range.addEventListener("input", divide);
  for (const list of lists) list.addEventListener("change", choose);
  choose();
}
