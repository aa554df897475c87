// Everything works without this: it only saves reloading. Where a page says what tells of changes, its live parts are
// taken anew from the page itself, as the server made it.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  if (!main) return;
  let busy = false;
  let stale = false;
  const focused = (part) => part.contains(document.activeElement) && document.activeElement.getAttribute("href");
  const renew = (fresh) => {
    for (const part of document.querySelectorAll(".live")) {
      const other = fresh.getElementById(part.id);
      if (!other || other.innerHTML === part.innerHTML) continue;
      const place = focused(part);
      part.replaceWith(document.adoptNode(other));
      const link = place && [...other.querySelectorAll("a")].find((each) => each.getAttribute("href") === place);
      if (link) link.focus({preventScroll: true});
    }
  };
  const look = async () => {
    stale = true;
    if (busy || document.hidden) return;
    busy = true;
    try {
      while (stale) {
        stale = false;
        const answer = await fetch(location.href);
        if (!answer.ok || answer.redirected) return changes.close();
        renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
    } finally {
      busy = false;
    }
  };
  const changes = new EventSource(main.dataset.live);
  changes.addEventListener("message", look);
  changes.addEventListener("full", () => changes.close());
  document.addEventListener("visibilitychange", () => { if (stale) look(); });
})();
