// What the pages do beyond HTML: the menu on a small screen, figures, the search. All of it local; pages read well without.
"use strict";

// --- the menu: open beside the text, folded above it ---
const narrow = matchMedia("(max-width: 64rem)");
const menu = document.getElementById("menu");
const fitMenu = () => { menu.open = !narrow.matches; };
fitMenu();
narrow.addEventListener("change", fitMenu);
const here = menu.querySelector("[aria-current]");
menu.parentElement.scrollTop = here.offsetTop - menu.parentElement.offsetTop - 60;  // in its own scroll, not the page's

document.addEventListener("DOMContentLoaded", () => {
  drawFigures();
  letScroll();
  addEventListener("resize", letScroll);
  document.querySelector("form[role=search]").hidden = false;
  startSearch();
});

// --- figures: one after the other, so that a page with twenty can be read at once ---
async function drawFigures() {
  for (const plot of document.querySelectorAll(".plot")) {
    const figure = plot.closest("figure");
    try {
      const drawing = JSON.parse(figure.querySelector("script").textContent);
      await Plotly.newPlot(plot, drawing.data, drawing.layout, drawing.config);
    } catch (error) {  // say it in words
      plot.style.height = "auto";
      plot.textContent = "This figure could not be drawn; its words are below.";
      figure.querySelector("details").open = true;
      console.error(error);
    }
    await new Promise((go) => setTimeout(go));
  }
  document.documentElement.dataset.drawn = "yes";
  letScroll();
}

// --- what is wider than the page can be scrolled by keyboard, too ---
function letScroll() {
  for (const box of document.querySelectorAll(".scroll, pre")) {
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", box.matches("pre") ? "Code or text, scrolls sideways" : "Wide content, scrolls sideways");
    } else if (box.tabIndex === 0) {
      for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
    }
  }
}

// --- the search: every word, anywhere in one section ---
function startSearch() {
  const root = document.documentElement.dataset.root;
  const field = document.getElementById("words");
  const found = document.getElementById("found");
  let loading = null;

  function load() {  // a script and not a fetch: that is allowed from the disk
    loading ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      Object.assign(script, {src: `${root}assets/index.js`, onload: done, onerror: failed});
      document.head.append(script);
    });
    return loading;
  }

  async function search() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    found.hidden = !words.length;
    if (found.hidden) return;
    await load();
    const hits = [];
    for (const [address, page, section, text] of window.courseIndex) {
      const title = (section || page).toLowerCase();
      const all = `${page} ${section} ${text}`.toLowerCase();
      if (!words.every((word) => all.includes(word))) continue;
      const rank = words.reduce((sum, word) => sum + (title === word ? 100 : title.includes(word) ? 10 : 0), 0)
        + Math.min(9, words.reduce((sum, word) => sum + all.split(word).length - 1, 0));
      hits.push({address, page, section, text, rank});
    }
    hits.sort((a, b) => b.rank - a.rank);  // stable: equal ones stay in reading order
    const shown = hits.slice(0, 30);
    const more = hits.length > shown.length ? `, the first ${shown.length} shown` : "";
    found.querySelector("[role=status]").textContent = hits.length
      ? `${hits.length} ${hits.length === 1 ? "section" : "sections"} found${more}.`
      : "Nothing found. Try fewer words, or a part of one.";
    found.querySelector("ol").replaceChildren(...shown.map((hit) => entry(hit, words)));
  }

  function entry(hit, words) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = root + hit.address;
    link.textContent = hit.section ? `${hit.section} (${hit.page})` : hit.page;
    const text = document.createElement("p");
    text.append(...marked(around(hit.text, words), words));
    item.append(link, text);
    return item;
  }

  function around(text, words) {
    const lower = text.toLowerCase();
    const places = words.map((word) => lower.indexOf(word)).filter((place) => place >= 0);
    const at = places.length ? Math.min(...places) : 0;
    const start = at < 60 ? 0 : text.indexOf(" ", at - 60) + 1;
    return (start ? "... " : "") + text.slice(start, start + 200) + (start + 200 < text.length ? " ..." : "");
  }

  function marked(text, words) {
    const any = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
    return text.split(any).map((piece, number) => {
      if (number % 2 === 0) return piece;
      const mark = document.createElement("mark");
      mark.textContent = piece;
      return mark;
    });
  }

  field.addEventListener("focus", load);
  field.addEventListener("input", search);
  field.form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await search();
    found.querySelector("a")?.focus();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || found.hidden) return;
    field.value = "";
    found.hidden = true;
    field.focus();
  });
  found.addEventListener("click", (event) => {  // a result on this page: show it
    if (event.target.closest("a")) found.hidden = true;
  });
}
