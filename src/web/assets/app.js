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

// On a narrow screen the page one is on is seen in the row of pages.
document.querySelector("nav [aria-current=page]")?.scrollIntoView({ block: "nearest", inline: "center" });

// A link into a closed list opens it.
const open = () => {
  const at = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  const list = at && at.querySelector("details");
  if (list) list.open = true;
};
addEventListener("hashchange", open);
open();

// The parts of a page that live: once a minute while somebody looks, and when somebody comes back. Only what changed is
// put in, part by part, and a part with the focus, an open list or a selection in it is left for the next time: nothing
// that is typed or read is lost, and the page does not move.
if (document.querySelector("main [data-live]")) {
  let asking = false;
  const busy = (part) => {
    const chosen = getSelection();
    return part.contains(document.activeElement)
      || (chosen && !chosen.isCollapsed && chosen.containsNode(part, true));
  };
  const look = async () => {
    if (document.hidden || asking) return;
    asking = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = new Map([...page.querySelectorAll("[data-live]")].map((part) => [part.dataset.live, part]));
      for (const part of document.querySelectorAll("[data-live]")) {
        const now = fresh.get(part.dataset.live);
        if (!now || now.outerHTML === part.outerHTML || busy(part)) continue;
        const places = [...part.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
        part.replaceWith(now);
        now.querySelectorAll(".scroll").forEach((box, n) => { box.scrollLeft = places[n] ?? 0; });
      }
    } catch { /* the next minute comes */ } finally { asking = false; }
  };
  setInterval(look, 60000);
  document.addEventListener("visibilitychange", look);
}
