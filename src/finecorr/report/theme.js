"use strict";
(() => {
const themeButton = document.getElementById("theme");
const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const nameTheme = () => { themeButton.textContent = isDark() ? "Light" : "Dark"; themeButton.setAttribute("aria-label", `Show on a ${isDark() ? "light" : "dark"} background`); };
themeButton.onclick = () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); };
nameTheme();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);
})();
