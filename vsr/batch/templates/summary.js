"use strict";
const body = document.querySelector("#clips tbody");
const heads = [...document.querySelectorAll("#clips thead th")];
const rows = [...body.rows];
const texts = rows.map((row) => row.textContent.toLowerCase());
const names = new Intl.Collator(undefined, { numeric: true });
const key = (row, column) => {
  const by = row.cells[column].dataset.by;
  return by === undefined ? row.cells[column].textContent : by === "" ? null : Number(by);
};
const compare = (a, b) => typeof a === "string" ? names.compare(a, b) : a - b;
heads.forEach((head, column) => {
  head.querySelector("button")?.addEventListener("click", () => {
    const back = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", back ? "descending" : "ascending");
    const keyed = rows.map((row) => [key(row, column), row]);
    // What has no figure comes last, whichever way.
    keyed.sort(([a], [b]) => (a === null || a === "") - (b === null || b === "")
      || (a === null || a === "" ? 0 : (back ? -1 : 1) * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  });
});
const wanted = document.querySelector("#wanted");
const shown = document.querySelector("#shown");
const choose = () => {
  const text = wanted.value.trim().toLowerCase();
  let count = 0;
  rows.forEach((row, index) => {
    row.hidden = !texts[index].includes(text);
    count += !row.hidden;
  });
  shown.textContent = text ? `${count} of ${rows.length}` : "";
};
wanted.addEventListener("input", choose);
