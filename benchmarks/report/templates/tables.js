// Tables sort by a click on a heading and long ones can be filtered; without this script they are whole and in order.
for (const table of document.querySelectorAll(".scroll > table")) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  if (rows.length < 3) continue;
  const text = (row, place) => row.cells[place]?.querySelector("b")?.textContent ?? row.cells[place]?.textContent ?? "";
  const value = (row, place) => {
    const found = text(row, place).replace("▼", "").trim(), number = Number.parseFloat(found.replace("−", "-"));
    return Number.isNaN(number) ? found : number;
  };
  // a name that stands once above the rows of its block goes into each of them when the order changes
  const filled = () => {
    let last = "";
    for (const row of rows) {
      const first = row.cells[0];
      if (first.textContent) last = first.textContent; else first.textContent = last;
      row.classList.remove("rule");
    }
  };
  heads.forEach((head, place) => {
    head.tabIndex = 0;
    head.setAttribute("role", "button");
    const sort = () => {
      if (heads[0].textContent === "level") filled();
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => {
        const [x, y] = [value(a, place), value(b, place)];
        if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
        const order = typeof x === "number" ? x - y : x.localeCompare(y);
        return down ? -order : order;
      };
      body.append(...[...rows].sort(compare));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
  if (rows.length < 12) continue;
  const filter = document.createElement("input");
  filter.type = "search";
  filter.className = "filter";
  filter.placeholder = "show rows with …";
  filter.setAttribute("aria-label", "Show the rows of this table that hold a word");
  filter.addEventListener("input", () => {
    filled();
    const words = filter.value.toLowerCase().split(" ").filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
  table.parentElement.before(filter);
}
