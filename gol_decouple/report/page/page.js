// What all of the page has: colours, copying, links. One function with the files after it (see write.py).

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
    for (const part of [picture, ...picture.querySelectorAll("*")]) {
      for (const name of ["style", "fill", "stroke"]) {
        const value = part.getAttribute(name);
        if (value && value.includes("currentColor")) part.setAttribute(name, value.replaceAll("currentColor", "#000000"));
      }
    }
    const text = new XMLSerializer().serializeToString(picture);
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "image/svg+xml" }));
    link.download = button.dataset.download;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// A link to what lies in a closed part opens it.

const open = () => {
  const target = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  if (target && target.tagName === "DETAILS") target.open = true;
};
addEventListener("hashchange", open);
open();
