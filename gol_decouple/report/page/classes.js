// Every class: drawn from the data beside it, some at a time.

const AT_ONCE = 100;
const MOST_EXTREMES = 8;
const EMPTY = "–";

const shownValue = (value) => (value === null ? EMPTY : value.toFixed(1));
const shownChange = (value) => (value === null ? EMPTY : (value < 0 ? "" : "+") + value.toFixed(1));
const direction = (value) => (value > 0 ? "up" : value < 0 ? "down" : "");

for (const block of all(".drill")) {
  const data = JSON.parse(document.getElementById(block.dataset.source).textContent);
  const at = (selector) => block.querySelector(selector);
  const [chosen, group, search] = [at("select.method"), at("select.group"), at("input.search")];
  const [headings, body, more, counted] = [at(".live thead tr"), at(".live tbody"), at(".more"), at(".counted")];
  const lowered = data.names.map((name) => name.toLowerCase());
  let most = AT_ONCE;
  let rows = [];
  let order = null;

  chosen.append(...data.methods.map((method, place) => new Option(method.name, place, place === data.shown, place === data.shown)));
  group.append(new Option("all", ""), ...data.groups.map((name, place) => new Option(name, place)));

  const columns = [
    { name: "class", of: (row) => row.name },
    { name: block.dataset.counted, isNumber: true, of: (row) => row.count, show: (value) => value.toLocaleString("en") },
    { name: "group", of: (row) => row.group },
    { name: "", isNumber: true, isChange: true, of: (row) => row.before, show: shownValue },
    { name: "", isNumber: true, of: (row) => row.after, show: shownValue },
    { name: "change", isNumber: true, isChange: true, of: (row) => row.change, show: shownChange },
  ];
  const method = () => data.methods[chosen.value];
  const hasBaseline = () => method().baseline !== null;

  const collect = () => {
    const before = hasBaseline() ? data.methods[method().baseline].values : null;
    const { values: after, changes } = method();
    rows = data.names.map((name, place) => {
      const one = before ? before[place] : null;
      const two = after[place];
      return { place, name, count: data.counts[place], group: data.groups[data.group[place]], before: one, after: two, change: changes[place] };
    });
  };
  const visible = () => {
    const text = search.value.trim().toLowerCase();
    const found = rows.filter((row) => (group.value === "" || data.group[row.place] === Number(group.value)) && lowered[row.place].includes(text));
    if (order) {
      const { of, isNumber } = order.column;
      const keys = new Map(found.map((row) => [row, isNumber ? of(row) : of(row).toLowerCase()]));
      found.sort((one, two) => compare(keys.get(one), keys.get(two), order.sign));
    }
    return found;
  };
  const shownColumns = () => columns.filter((column) => hasBaseline() || !column.isChange);
  const draw = () => {
    const found = visible();
    const parts = shownColumns();
    body.replaceChildren(...found.slice(0, most).map((row) => {
      const line = make("tr");
      parts.forEach((column, place) => {
        const value = column.of(row);
        const cell = place
          ? make("td", column.show ? column.show(value) : value, column.isNumber ? "number" : "")
          : make("th");
        if (!place) { cell.scope = "row"; cell.append(make("span", value, "label")); }
        if (column.name === "change" && direction(value)) cell.classList.add(direction(value));
        line.append(cell);
      });
      return line;
    }));
    const left = Math.max(0, found.length - most);
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(left, AT_ONCE)} more`;
    counted.textContent = `${Math.min(most, found.length).toLocaleString("en")} of ${found.length.toLocaleString("en")} classes shown`;
  };
  const head = () => {
    columns[3].name = hasBaseline() ? data.methods[method().baseline].name : "";
    columns[4].name = method().name;
    headings.replaceChildren(...shownColumns().map((column) => {
      const heading = make("th", column.name, column.isNumber ? "number" : "");
      heading.scope = "col";
      sortButton(heading, (sign) => { order = { column, sign }; most = AT_ONCE; draw(); });
      if (order && order.column === column) {
        heading.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
        heading.querySelector(".arrow").textContent = order.sign > 0 ? "↑" : "↓";
      }
      return heading;
    }));
  };
  const extremes = () => {
    const least = (of, keep) => rows.filter((row) => of(row) !== null && keep(of(row)))
      .sort((one, two) => of(one) - of(two)).slice(0, MOST_EXTREMES);
    const lists = hasBaseline() ? [
      ["Most gained", least((row) => (row.change === null ? null : -row.change), (value) => value < 0), true],
      ["Most lost", least((row) => row.change, (value) => value < 0), true],
    ] : [];
    lists.push(["Lowest", least((row) => row.after, () => true), false]);
    at(".extremes").replaceChildren(...lists.map(([heading, found, isChange]) => {
      const box = make("div", "", "extreme");
      const list = make("ol");
      list.append(...found.map((row) => {
        const line = make("li");
        const value = isChange ? shownChange(row.change) : shownValue(row.after);
        const name = make("span", row.name, "name");
        name.title = row.name;
        line.append(name, " ", make("span", row.count.toLocaleString("en"), "quiet"), " ",
          make("span", value, `value ${isChange ? direction(row.change) : ""}`));
        return line;
      }), ...(found.length ? [] : [make("li", "none", "none")]));
      box.append(make("h4", heading), list);
      return box;
    }));
  };
  const change = () => {
    collect();
    at(".shown").textContent = method().name;
    at(".over").hidden = !hasBaseline();
    at(".baseline").textContent = hasBaseline() ? data.methods[method().baseline].name : "";
    head();
    extremes();
    draw();
  };
  chosen.addEventListener("change", change);
  for (const field of [group, search]) field.addEventListener("input", () => { most = AT_ONCE; draw(); });
  more.addEventListener("click", () => {
    const next = body.rows.length;
    most += AT_ONCE;
    draw();
    const first = body.rows[next];
    if (first) { first.cells[0].tabIndex = -1; first.cells[0].focus({ preventScroll: true }); }
  });
  change();
  at("details.static").remove();
}
