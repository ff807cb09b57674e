"use strict";

// A figure, enlarged; the dialog element itself closes on Escape and gives the focus back.
const large = document.getElementById("large");
const enlarged = large.querySelector("img");
for (const button of document.querySelectorAll(".zoom")) {
  button.addEventListener("click", () => {
    const image = button.querySelector("img");
    enlarged.src = image.src;
    enlarged.alt = image.alt;
    large.showModal();
  });
}
large.querySelector(".close").addEventListener("click", () => large.close());
large.addEventListener("click", (event) => {
  if (event.target === large) large.close();
});

// Tables: a click on a header sorts by its column, a second one the other way round.
const sortable = (cell) => (cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value));
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => {
    const header = button.closest("th");
    const column = [...header.parentNode.children].indexOf(header);
    const direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const body = header.closest("table").tBodies[0];
    const rows = [...body.rows].sort((first, second) => {
      const a = sortable(first.cells[column]);
      const b = sortable(second.cells[column]);
      if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
      return direction * (typeof a === "number" ? a - b : a.localeCompare(b));
    });
    body.append(...rows);
  });
}
