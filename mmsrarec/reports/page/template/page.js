// What the page can do beyond being read: theme, finding people, sorting tables, opening everything for print.
"use strict";
(() => {
  const root = document.documentElement;
  const remembered = (value) => {
    try {
      if (value !== undefined) localStorage.setItem("mmsrarec-theme", value);
      return localStorage.getItem("mmsrarec-theme");
    } catch {
      return null; // a page from a file may have no memory
    }
  };

  const theme = document.getElementById("theme");
  const themes = ["auto", "light", "dark"];
  const wear = (name) => {
    root.dataset.theme = name;
    theme.querySelector("span").textContent = name;
  };
  wear(themes.includes(remembered()) ? remembered() : "auto");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(root.dataset.theme) + 1) % themes.length];
    wear(next);
    remembered(next);
  });

  const people = [...document.querySelectorAll("details.person")];
  const find = document.getElementById("find");
  if (find) {
    find.closest(".controls").hidden = false;
    const texts = people.map((person) => person.textContent.toLowerCase());
    const search = () => {
      const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      people.forEach((person, place) => {
        const matches = words.every((word) => texts[place].includes(word));
        person.hidden = !matches;
        count += matches;
      });
      document.getElementById("found").textContent = words.length ? `${count} of ${people.length}` : "";
      document.getElementById("nobody").hidden = count > 0;
    };
    find.addEventListener("input", search);
    const openAll = (open) => people.forEach((person) => { person.open = open; });
    document.getElementById("open").addEventListener("click", () => openAll(true));
    document.getElementById("close").addEventListener("click", () => openAll(false));
  }

  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.querySelector(".unseen")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down < 0 ? "descending" : "ascending");
        const body = table.tBodies[0];
        const order = (one, other) => {
          const [left, right] = [value(one, column), value(other, column)];
          return down * (typeof left === "number" ? left - right : left.localeCompare(right));
        };
        body.append(...[...body.rows].sort(order));
      });
    });
  }

  const shut = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      shut.push(details);
    }
  });
  addEventListener("afterprint", () => shut.splice(0).forEach((details) => { details.open = false; }));
})();
