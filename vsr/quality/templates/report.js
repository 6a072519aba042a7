"use strict";
for (const box of document.querySelectorAll(".compare")) {
  const area = box.querySelector(".slider");
  const after = area.querySelectorAll("img")[1];
  const border = area.querySelector(".border");
  const range = box.querySelector("input");
  const show = () => {
    after.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    border.style.left = `${range.value}%`;
  };
  const follow = (event) => {
    const { left, width } = area.getBoundingClientRect();
    range.value = (100 * (event.clientX - left)) / width;
    show();
  };
  range.addEventListener("input", show);
  area.addEventListener("pointerdown", (event) => {
    area.setPointerCapture(event.pointerId);
    follow(event);
  });
  area.addEventListener("pointermove", (event) => { if (event.buttons) follow(event); });
  show();
}
for (const plot of document.querySelectorAll(".plot")) {
  const svg = plot.querySelector("svg");
  const said = plot.querySelector("output");
  const line = plot.querySelector(".cursor");
  const names = plot.dataset.names.split(",");
  const points = plot.dataset.values.split(" ").map((text) => text.split(","));
  const first = Number(points[0][0]);
  const span = Math.max(1, Number(svg.getAttribute("aria-valuemax")) - first);
  let at = 0;
  const show = (index) => {
    at = Math.max(0, Math.min(points.length - 1, index));
    const [frame, seconds, ...values] = points[at];
    const x = (svg.viewBox.baseVal.width * (frame - first)) / span;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    line.style.visibility = "visible";
    const words = values.map((value, k) => `${names[k]} ${value || "unknown"}`.trim()).join(", ");
    const text = `frame ${frame}, ${seconds} s: ${words} ${plot.dataset.unit}`.trim();
    said.textContent = text;
    svg.setAttribute("aria-valuenow", frame);
    svg.setAttribute("aria-valuetext", text);
  };
  svg.addEventListener("pointermove", (event) => {
    const { left, width } = svg.getBoundingClientRect();
    show(Math.round(((event.clientX - left) / width) * (points.length - 1)));
  });
  svg.addEventListener("keydown", (event) => {
    const places = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - 10, PageUp: at + 10, Home: 0, End: points.length - 1 };
    if (event.key in places) { event.preventDefault(); show(places[event.key]); }
  });
}
