// OracleNet, live. Everything is readable without this file. With it, a page asks the server for itself again when the
// server says that something changed, and takes over what is different: there is one rendering, and it is the server's.
"use strict";

const SETTLE_MS = 250;         // changes come in groups
const PRESENCE_MS = 30000;
const news = document.getElementById("news");
const live = document.getElementById("live");
let due = null, busy = false, stale = false;

function changed() {
  stale = true;
  if (!due && !busy && !document.hidden) due = setTimeout(refresh, SETTLE_MS);
}

async function refresh() {
  due = null;
  busy = true;
  stale = false;
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" } });
    if (answer.ok) takeOver(new DOMParser().parseFromString(await answer.text(), "text/html"));
  } catch { /* The connection's own events say when it is back. */ }
  busy = false;
  if (stale) changed();
}

function takeOver(page) {
  for (const region of document.querySelectorAll("[data-region]")) {
    const next = page.getElementById(region.id);
    if (next && next.innerHTML !== region.innerHTML) region.replaceChildren(...next.childNodes);
  }
  let added = 0;
  for (const list of document.querySelectorAll("[data-keyed]")) {
    const next = page.getElementById(list.id);
    if (next) added += reconcile(list, next);
  }
  if (added) news.textContent = added === 1 ? "One new entry." : `${added} new entries.`;
}

// Brings the items of `list` to those of `next`, in its order, leaving alone what is equal or has the focus.
function reconcile(list, next) {
  const known = new Map([...list.children].map((item) => [item.id, item]));
  let added = 0, place = list.firstElementChild;
  for (const item of [...next.children]) {
    let here = known.get(item.id);
    known.delete(item.id);
    if (!here) {
      item.classList.add("fresh");
      list.insertBefore(item, place);
      added += 1;
      continue;
    }
    if (here.innerHTML !== item.innerHTML && !here.contains(document.activeElement)) {
      if (here === place) place = place.nextElementSibling;
      here.replaceWith(item);
      here = item;
    }
    if (here === place) place = place.nextElementSibling;
    else list.insertBefore(here, place);
  }
  for (const gone of known.values()) gone.remove();
  return added;
}

// PocketBase's realtime protocol: the first event's id is this client's; subscriptions are made by it.
function listen() {
  const events = new EventSource("/api/realtime");
  events.addEventListener("PB_CONNECT", async (event) => {
    const subscriptions = ["posts/*", "comments/*"];
    const answer = await fetch("/api/realtime", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ clientId: event.lastEventId, subscriptions }),
    }).catch(() => null);
    if (!answer || !answer.ok) return;
    for (const topic of subscriptions) {
      events.removeEventListener(topic, changed);
      events.addEventListener(topic, changed);
    }
    await refresh();           // what happened before the subscription stood
    live.textContent = "live";
    live.classList.add("on");
  });
  events.onerror = () => {
    live.textContent = "not connected";
    live.classList.remove("on");
  };
}

async function presence() {
  if (document.hidden) return;
  const answer = await fetch("/api/oracles/presence").catch(() => null);
  if (!answer || !answer.ok) return;
  const now = await answer.json();
  for (const total of document.querySelectorAll("[data-total]")) total.textContent = now[total.dataset.total];
  const status = new Map(now.items.map((item) => [item.id, item.status]));
  for (const oracle of document.querySelectorAll("[data-oracle]")) {
    const word = status.get(oracle.dataset.oracle);
    if (!word) continue;
    oracle.querySelector(".dot").className = `dot ${word}`;
    oracle.querySelector("[data-word]").textContent = word;
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && stale) changed();
});
if (document.querySelector("[data-keyed]")) listen();
if (document.querySelector("[data-oracle], [data-total]")) setInterval(presence, PRESENCE_MS);
const timed = document.querySelector("[data-refresh]");
if (timed) setInterval(changed, Number(timed.dataset.refresh) * 1000);
