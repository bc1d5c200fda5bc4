"use strict";
// Before anything is drawn: whether there are scripts, and which colours were chosen last time.
document.documentElement.classList.add("js");
try {
  const theme = localStorage.getItem("gol-decouple-theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch (error) { /* a page from a file may have no storage */ }
