const NUMBER = /^[+-]?\d[\d,]*(\.\d+)?/;

// Sorting: numbers from the largest, texts from A; what is missing comes last.

const valueOf = (text, isNumber) => {
  if (!isNumber) return text.toLowerCase();
  const found = NUMBER.exec(text.trim());
  return found ? Number(found[0].replaceAll(",", "")) : null;
};
const compare = (one, two, sign) => {
  if (one === two) return 0;
  if (one === null) return 1;
  if (two === null) return -1;
  return sign * (typeof one === "string" ? one.localeCompare(two, undefined, { numeric: true }) : one - two);
};
const sortButton = (heading, sort) => {
  const button = make("button");
  button.type = "button";
  button.append(...heading.childNodes, make("span", "", "arrow"));
  button.lastChild.setAttribute("aria-hidden", "true");
  heading.replaceChildren(button);
  button.addEventListener("click", () => {
    const first = heading.classList.contains("number") ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const next = heading.getAttribute("aria-sort") === first ? second : first;
    for (const other of heading.parentNode.children) {
      other.removeAttribute("aria-sort");
      const arrow = other.querySelector(".arrow");
      if (arrow) arrow.textContent = "";
    }
    heading.setAttribute("aria-sort", next);
    button.lastChild.textContent = next === "ascending" ? "↑" : "↓";
    sort(next === "ascending" ? 1 : -1);
  });
};
for (const table of all("table.sortable")) {
  const body = table.tBodies[0];
  Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
    const isNumber = heading.classList.contains("number");
    sortButton(heading, (sign) => {
      const keyed = Array.from(body.rows, (row) => [valueOf(row.cells[column].textContent, isNumber), row]);
      keyed.sort((one, two) => compare(one[0], two[0], sign));
      body.append(...keyed.map((each) => each[1]));
    });
  });
}

// Filtering

const refilter = (table, announce = true) => {
  const text = table.filterText || "";
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const isWanted = !(table.unwanted && table.unwanted.has(row.dataset.method));
    row.hidden = !(isWanted && row.textContent.toLowerCase().includes(text));
    shown += row.hidden ? 0 : 1;
  }
  if (announce) say(`${shown} of ${table.tBodies[0].rows.length} rows`);
};
for (const field of all("input[data-filter]")) {
  const table = document.getElementById(field.dataset.filter);
  field.addEventListener("input", () => {
    table.filterText = field.value.trim().toLowerCase();
    refilter(table);
  });
}
for (const details of all("details[data-methods]")) {
  const table = document.getElementById(details.dataset.methods);
  const methods = Array.from(new Set(Array.from(table.tBodies[0].rows, (row) => row.dataset.method)));
  table.unwanted = new Set();
  const summary = details.querySelector("summary");
  const boxes = methods.map((method) => {
    const label = make("label");
    const box = make("input");
    box.type = "checkbox";
    box.checked = true;
    box.addEventListener("change", () => set([box], box.checked));
    label.append(box, method);
    box.method = method;
    return box;
  });
  const set = (some, isWanted) => {
    for (const box of some) {
      box.checked = isWanted;
      if (isWanted) table.unwanted.delete(box.method); else table.unwanted.add(box.method);
    }
    summary.textContent = `Methods (${methods.length - table.unwanted.size} of ${methods.length})`;
    refilter(table);
  };
  const everything = make("div", "", "all");
  for (const [name, isWanted] of [["All", true], ["None", false]]) {
    const button = make("button", name);
    button.type = "button";
    button.addEventListener("click", () => set(boxes, isWanted));
    everything.append(button);
  }
  details.querySelector(".choices").append(everything, ...boxes.map((box) => box.parentNode));
  details.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && details.open) { details.open = false; summary.focus(); }
  });
  document.addEventListener("click", (event) => { if (!details.contains(event.target)) details.open = false; });
  details.hidden = methods.length < 2;
}
