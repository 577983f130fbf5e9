// Small comforts; every page works without. No page content is ever made into code.
"use strict";

// Filter as you type: asks for the same page and puts its results in the place of the old ones.
for (const form of document.querySelectorAll("form[data-filter]")) {
  let timer, asking;
  const apply = async () => {
    const address = new URL(form.action);
    address.search = new URLSearchParams(new FormData(form)).toString();
    asking?.abort();
    asking = new AbortController();
    try {
      const answer = await fetch(address, { signal: asking.signal, credentials: "same-origin" });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("results");
      if (fresh) {
        document.getElementById("results").replaceWith(fresh);
        history.replaceState(null, "", address);
      }
    } catch (error) {
      if (error.name !== "AbortError") form.submit();
    }
  };
  form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(apply, 250); });
}

// Ask before what cannot be taken back.
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});

for (const button of document.querySelectorAll("[data-print]")) button.addEventListener("click", () => window.print());

// A link into a closed list opens it.
const open = () => {
  const at = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  const list = at && at.querySelector("details");
  if (list) list.open = true;
};
addEventListener("hashchange", open);
open();

// The overview's numbers, once a minute while somebody looks and types nothing.
if (document.querySelector("[data-live]")) {
  setInterval(async () => {
    if (document.hidden || document.activeElement?.matches("input, button, a")) return;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-live]");
      if (fresh) document.querySelector("[data-live]").replaceWith(fresh);
    } catch { /* the next minute comes */ }
  }, 60000);
}
