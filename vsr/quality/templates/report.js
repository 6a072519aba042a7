"use strict";
for (const box of document.querySelectorAll(".compare")) {
  const after = box.querySelectorAll("img")[1];
  const range = box.querySelector("input");
  const show = () => { after.style.clipPath = `inset(0 0 0 ${range.value}%)`; };
  range.addEventListener("input", show);
  show();
}
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const said = plot.querySelector("output");
  const line = plot.querySelector(".cursor");
  const points = plot.dataset.values.split(" ").map((text) => text.split(","));
  const [left, width] = [Number(plot.dataset.left), Number(plot.dataset.width)];
  let at = 0;
  const show = (index) => {
    at = Math.max(0, Math.min(points.length - 1, index));
    const [frame, seconds, value] = points[at];
    const x = left + (points.length > 1 ? (width * at) / (points.length - 1) : 0);
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.style.visibility = "visible";
    said.textContent = `frame ${frame}, ${seconds} s: ${value || "unknown"} ${plot.dataset.unit}`;
  };
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const x = ((event.clientX - area.left) / area.width) * svg.viewBox.baseVal.width;
    show(Math.round(((x - left) / width) * (points.length - 1)));
  });
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); show(at + step); }
  });
}
