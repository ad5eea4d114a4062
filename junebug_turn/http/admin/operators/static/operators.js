"use strict";

// The overview, fetched again every five seconds; without this script the page is as it was loaded.
(() => {
  const live = document.getElementById("live");
  if (live === null) {
    return;
  }
  const SECONDS = 5;

  async function refresh() {
    // A button that has the focus, or is about to be pressed, stays where it is.
    if (!document.hidden && !live.contains(document.activeElement) && !live.matches(":active")) {
      try {
        // Whole: a relative URL takes the login that was typed into the address bar, which fetch() refuses.
        const answer = await fetch(location.href, { cache: "no-store" });
        if (!answer.ok) {
          throw new Error(answer.statusText);
        }
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        live.replaceChildren(...page.getElementById("live").childNodes);
        live.dataset.refreshed = String(Number(live.dataset.refreshed || 0) + 1);
        document.body.classList.remove("stale");
      } catch {
        document.body.classList.add("stale");
      }
    }
    setTimeout(refresh, SECONDS * 1000);
  }

  setTimeout(refresh, SECONDS * 1000);
})();
