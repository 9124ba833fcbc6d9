"use strict";
// Comfort only: everything but the choice of one step among many is readable without it.
document.querySelectorAll("script.steps").forEach((source) => {
  const section = source.closest("section");
  const chooser = section.querySelector(".chooser");
  const [number, range] = chooser.querySelectorAll("input");
  const body = section.querySelector(".chosen");
  let all = null;
  const cell = (row, text, kind) => {
    const made = document.createElement(kind || "td");
    made.textContent = text;
    row.append(made);
    return made;
  };
  const show = (wanted) => {
    all = all || JSON.parse(source.textContent);
    const found = all.steps.find((step) => step[0] >= wanted) || all.steps[all.steps.length - 1];
    const [step, position, token, verdict, sides] = found;
    number.value = range.value = step;
    const rows = sides.map((side, place) => {
      const row = document.createElement("tr");
      if (place === 0) [step, position, token].forEach((text) => { cell(row, text).rowSpan = sides.length; });
      const [name, hash, gap, entropy, top] = side || [place, ...sides[0].slice(1)];
      [all.sides[name], hash].forEach((text) => cell(row, text));
      if (place === 0) {
        const made = cell(row, verdict);
        made.rowSpan = sides.length;
        made.className = "verdict " + verdict;
      }
      const few = typeof entropy === "number" ? entropy.toFixed(4) : entropy;
      [gap, few].forEach((text) => cell(row, text));
      for (let index = 0; index < 5; index += 1) {
        if (!top[index]) { cell(row, "–"); continue; }
        const [id, logit] = top[index];
        const made = cell(row, "");
        const text = document.createElement("b");
        text.textContent = all.texts[id] || "";
        const small = document.createElement("small");
        small.append(String(id), document.createElement("br"), String(logit));
        made.append(text, " ", small);
        const first = sides[0][4][index];
        if (!first || first[0] !== id) made.className = "other";
      }
      return row;
    });
    body.replaceChildren(...rows);
  };
  number.addEventListener("change", () => show(Number(number.value)));
  range.addEventListener("input", () => show(Number(range.value)));
  const button = chooser.querySelector("button");
  if (button) button.addEventListener("click", () => {
    all = all || JSON.parse(source.textContent);
    const here = Number(number.value);
    const bad = all.steps.filter((step) => step[3] !== "agrees");
    const next = bad.find((step) => step[0] > here) || bad[0];
    if (next) show(next[0]);
  });
  chooser.hidden = false;
});
// A link to a case opens it.
const open = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", open);
open();
