"use strict";
(() => {
  const AT_ONCE = 100;
  const MOST_EXTREMES = 8;
  const EMPTY = "–";
  const NUMBER = /^[+-]?\d[\d,]*(\.\d+)?/;

  const all = (selector, from = document) => Array.from(from.querySelectorAll(selector));
  const make = (name, text = "", className = "") => {
    const element = document.createElement(name);
    if (text !== "") element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const say = (text) => {
    const live = document.getElementById("live");
    live.textContent = "";
    setTimeout(() => { live.textContent = text; }, 50);
  };

  // Colours

  const root = document.documentElement;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const theme = document.getElementById("theme");
  const nameTheme = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("gol-decouple-theme", root.dataset.theme); } catch (error) { /* not remembered */ }
    nameTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
  nameTheme();

  // Copying: where a page from a file has no clipboard, by a selected text field.

  const copyBySelection = (text) => {
    const field = make("textarea");
    field.value = text;
    field.setAttribute("readonly", "");
    field.style.position = "fixed";
    field.style.opacity = "0";
    document.body.append(field);
    field.select();
    let done = false;
    try { done = document.execCommand("copy"); } catch (error) { done = false; }
    field.remove();
    return done;
  };
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch (error) {
      return copyBySelection(text);
    }
  };
  for (const button of all("button[data-copy]")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const done = await copy(document.getElementById(button.dataset.copy).textContent);
      button.focus();
      button.textContent = done ? "Copied" : "Not copied";
      say(done ? `Copied: ${button.dataset.what}` : "The browser did not allow copying; the text stands below the table");
      setTimeout(() => { button.textContent = label; }, 2000);
    });
  }

  for (const button of all("button[data-download]")) {
    button.addEventListener("click", () => {
      const picture = button.closest("figure").querySelector("svg").cloneNode(true);
      picture.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      const text = new XMLSerializer().serializeToString(picture).replaceAll("currentColor", "#000000");
      const link = make("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
      link.download = button.dataset.download;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  }

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

  // Classes

  const rounded = (value) => Math.round(value * 10) / 10;
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
      const after = method().values;
      rows = data.names.map((name, place) => {
        const one = before ? before[place] : null;
        const two = after[place];
        const change = one === null || two === null ? null : rounded(two - one) + 0;
        return { place, name, count: data.counts[place], group: data.groups[data.group[place]], before: one, after: two, change };
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

  // A link to what lies in a closed part opens it.

  const open = () => {
    const target = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
