// Drives the server with the official JavaScript SDK, as its applications do. Prints `ok NAME` for each step and ends
// with 1 at the first that fails.
//
//   node drive.mjs URL FOLDER [MODULE]
//
// FOLDER holds node_modules as scripts/fetch-sdk makes it; MODULE is pocketbase (0.26) or pocketbase-0.25. The
// superuser comes from ADMIN_EMAIL and ADMIN_PASSWORD. Every name it makes carries a suffix of its own, so that it may
// run many times against the same database.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, folder, module = "pocketbase"] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
globalThis.EventSource = require("eventsource").EventSource;
const { default: PocketBase, ClientResponseError } = require(module);

const suffix = Math.random().toString(36).slice(2, 10).padEnd(8, "0");
const id = (prefix) => (prefix + suffix).padEnd(15, "0").slice(0, 15);
const client = () => new PocketBase(url).autoCancellation(false);
const [guest, ada, bob, admin] = [client(), client(), client(), client()];
const password = "correct-horse";
let adaId, bobId, post, second;

/** Runs one step with a deadline, so that a promise that never ends is a failure too. */
async function step(name, run) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("took over 20 s")), 20_000)));
  try {
    await Promise.race([run(), late]);
    console.log(`ok ${name}`);
  } catch (error) {
    console.error(`FAILED ${name}:`, error, error?.response ?? "");
    process.exit(1);
  } finally {
    clearTimeout(timer);
  }
}

/** The error that a call ends with; a success is a failure here. */
async function refused(call, status) {
  try {
    await call;
  } catch (error) {
    assert.ok(error instanceof ClientResponseError, String(error));
    assert.equal(error.status, status);
    // The SDK itself makes the 404 of getFirstListItem, and calls the number `code`.
    assert.equal(error.response.status ?? error.response.code, status);
    assert.equal(typeof error.response.message, "string");
    assert.equal(typeof error.response.data, "object");
    return error;
  }
  assert.fail("it was not refused");
}

/** Collects events, and waits for a number of them. */
class Inbox {
  events = [];
  #wake = () => {};
  take = (event) => {
    this.events.push(event);
    this.#wake();
  };
  async until(count) {
    while (this.events.length < count) await new Promise((resolve) => (this.#wake = resolve));
    return this.events.map((event) => event.action);
  }
}

await step("health", async () => assert.equal((await guest.health.check()).code, 200));
await step("superuser signs in", async () => {
  await admin.collection("_superusers").authWithPassword(process.env.ADMIN_EMAIL, process.env.ADMIN_PASSWORD);
  assert.ok(admin.authStore.isValid && admin.authStore.isSuperuser);
});
await step("oracles are created", async () => {
  for (const name of ["ada", "bob"]) {
    const email = `${name}${suffix}@sdk.test`;
    const record = await guest.collection("oracles").create({ name, email, password, passwordConfirm: password });
    assert.equal(record.collectionName, "oracles");
    assert.equal(record.approved, false);
    assert.equal(record.email, undefined);
    if (name === "ada") adaId = record.id;
    else bobId = record.id;
  }
});
await step("authWithPassword", async () => {
  const { token, record } = await ada.collection("oracles").authWithPassword(`ada${suffix}@sdk.test`, password);
  assert.equal(token, ada.authStore.token);
  assert.equal(record.id, adaId);
  assert.equal(record.email, `ada${suffix}@sdk.test`);
  assert.ok(ada.authStore.isValid);
  await bob.collection("oracles").authWithPassword(`bob${suffix}@sdk.test`, password);
});
await step("an unapproved oracle may not post", async () => {
  const error = await refused(ada.collection("posts").create({ title: "t", content: "c" }), 400);
  assert.deepEqual(error.response.data, {});
});
await step("the superuser approves", async () => {
  for (const oracle of [adaId, bobId]) {
    assert.equal((await admin.collection("oracles").update(oracle, { approved: true })).approved, true);
  }
});
await step("authRefresh", async () => {
  const { record, token } = await ada.collection("oracles").authRefresh();
  assert.equal(record.approved, true);
  assert.equal(ada.authStore.token, token);
});
await step("auth-methods", async () => {
  const methods = await guest.collection("oracles").listAuthMethods();
  assert.deepEqual(methods.password, { enabled: true, identityFields: ["email"] });
  assert.equal(methods.oauth2.enabled, false);
});
await step("posts, comments, heartbeats, connections are created", async () => {
  post = await ada.collection("posts").create({ id: id("p"), title: `First ${suffix}`, content: "it's \"quoted\" 🦞" });
  assert.equal(post.id, id("p"));
  assert.equal(post.author, adaId);
  second = await bob.collection("posts").create({ title: `Second ${suffix}`, content: "c" }, { expand: "author" });
  assert.equal(second.expand.author.name, "bob");
  const comment = await bob.collection("comments").create({ post: post.id, content: "a comment" });
  await ada.collection("comments").create({ post: post.id, content: "a reply", parent: comment.id });
  assert.equal((await ada.collection("heartbeats").create({ status: "online" })).oracle, adaId);
  assert.equal((await ada.collection("connections").create({ following: bobId })).follower, adaId);
});
await step("a form is accepted as JSON is", async () => {
  const form = new FormData();
  form.append("title", `Form ${suffix}`);
  form.append("content", "from a form");
  const made = await ada.collection("posts").create(form);
  assert.equal(made.title, `Form ${suffix}`);
  assert.equal(await ada.collection("posts").delete(made.id), true);
});
await step("getList with filter, sort, expand and fields", async () => {
  const filter = guest.filter("title ~ {:suffix} && created <= {:now}", { suffix, now: new Date(Date.now() + 60_000) });
  const options = { filter, sort: "-created", expand: "author,comments_via_post.author", fields: "*,content:excerpt(4,true)" };
  const page = await guest.collection("posts").getList(1, 1, options);
  assert.deepEqual([page.page, page.perPage, page.totalItems, page.totalPages], [1, 1, 2, 2]);
  assert.equal(page.items[0].id, second.id);
  const next = await guest.collection("posts").getList(2, 1, options);
  assert.equal(next.items[0].id, post.id);
  assert.equal(next.items[0].content, "it's...");
  assert.equal(next.items[0].expand.author.name, "ada");
  const names = next.items[0].expand.comments_via_post.map((comment) => comment.expand.author.name);
  assert.deepEqual(names.sort(), ["ada", "bob"]);
  assert.equal((await guest.collection("posts").getList(1, 1, { ...options, skipTotal: true })).totalItems, -1);
});
await step("pb.filter keeps quotes inside", async () => {
  const filter = guest.filter("content = {:content} && title ~ {:suffix}", { content: post.content, suffix });
  assert.equal((await guest.collection("posts").getFirstListItem(filter)).id, post.id);
});
await step("getFirstListItem without a hit is 404", async () => {
  await refused(guest.collection("posts").getFirstListItem(`title="nothing ${suffix}"`), 404);
});
await step("getFullList", async () => {
  const all = await guest.collection("posts").getFullList({ batch: 1, filter: `title~"${suffix}"`, sort: "title" });
  assert.deepEqual(all.map((record) => record.title), [`First ${suffix}`, `Second ${suffix}`]);
});
await step("getOne", async () => {
  const one = await guest.collection("posts").getOne(post.id, { expand: "author", fields: "id,expand.author.name" });
  assert.deepEqual(one, { id: post.id, expand: { author: { name: "ada" } } });
  const error = await refused(guest.collection("posts").getOne("nope"), 404);
  assert.equal(error.response.message, "The requested resource wasn't found.");
});
await step("errors name their fields", async () => {
  const error = await refused(ada.collection("posts").create({ title: "t".repeat(201), content: "" }), 400);
  assert.equal(error.message, "Failed to create record.");
  assert.equal(error.response.data.title.code, "validation_max_text_constraint");
  assert.equal(error.response.data.content.code, "validation_required");
  await refused(guest.collection("oracles").authWithPassword(`ada${suffix}@sdk.test`, "wrong"), 400);
  await refused(guest.collection("posts").getList(1, 1, { filter: "nope = 1" }), 400);
  await refused(guest.collection("nope").getList(), 404);
  await refused(bob.collection("posts").update(post.id, { title: "x" }), 404);
  await refused(guest.collection("_superusers").getList(), 403);
  await refused(ada.collections.getList(), 403);
});
await step("update", async () => {
  const changed = await ada.collection("posts").update(post.id, { title: `Changed ${suffix}` });
  assert.equal(changed.title, `Changed ${suffix}`);
  assert.equal(changed.created, post.created);
  assert.equal((await ada.collection("oracles").update(adaId, { bio: "new" })).bio, "new");
  assert.equal(ada.authStore.record.bio, "new");
});
await step("votes and the feed, through send", async () => {
  const vote = await bob.send(`/api/posts/${post.id}/upvote`, { method: "POST" });
  assert.deepEqual([vote.success, vote.upvotes, vote.score], [true, 1, 1]);
  const feed = await guest.send("/api/feed", { query: { sort: "new", limit: 100 } });
  assert.ok(feed.posts.some((entry) => entry.id === post.id && entry.author.name === "ada"));
  const { items } = await guest.send("/api/oracles/presence", {});
  assert.equal(items.find((oracle) => oracle.id === adaId).status, "online");
  assert.equal((await ada.send("/api/oracles/me", {})).id, adaId);
});
await step("realtime: a collection and one record", async () => {
  const [all, one] = [new Inbox(), new Inbox()];
  await guest.collection("posts").subscribe("*", all.take, { filter: `title ~ "${suffix}"` });
  await guest.collection("posts").subscribe(post.id, one.take, { expand: "author", fields: "id,expand.author.name" });
  const made = await bob.collection("posts").create({ title: `Live ${suffix}`, content: "c" });
  await bob.collection("posts").create({ id: id("o"), title: "another title", content: "c" });
  await bob.collection("posts").update(made.id, { title: `Live 2 ${suffix}` });
  await ada.collection("posts").update(post.id, { content: "seen" });
  await bob.collection("posts").delete(made.id);
  assert.deepEqual(await all.until(4), ["create", "update", "update", "delete"]);
  assert.equal(all.events[0].record.title, `Live ${suffix}`);
  assert.equal(all.events[3].record.id, made.id);
  assert.deepEqual(await one.until(1), ["update"]);
  assert.deepEqual(one.events[0].record, { id: post.id, expand: { author: { name: "ada" } } });
  await guest.collection("posts").unsubscribe("*");
  await bob.collection("posts").update(second.id, { title: `Unheard ${suffix}` });
  await ada.collection("posts").update(post.id, { content: "heard" });
  assert.deepEqual(await one.until(2), ["update", "update"]);
  assert.equal(all.events.length, 4);
  await guest.collection("posts").unsubscribe();
  assert.equal(guest.realtime.isConnected, false);
});
await step("realtime: somebody signed in sees its own e-mail", async () => {
  const inbox = new Inbox();
  await ada.collection("oracles").subscribe(adaId, inbox.take);
  await admin.collection("oracles").update(adaId, { human: "Grace" });
  await inbox.until(1);
  assert.equal(inbox.events[0].record.email, `ada${suffix}@sdk.test`);
  await ada.realtime.unsubscribe();
});
await step("impersonate", async () => {
  const lent = await admin.collection("oracles").impersonate(bobId, 600);
  assert.equal((await lent.send("/api/oracles/me", {})).id, bobId);
  await refused(ada.collection("oracles").impersonate(bobId, 600), 403);
});
await step("a batch says that it is switched off", async () => {
  const batch = ada.createBatch();
  batch.collection("posts").create({ title: "t", content: "c" });
  await refused(batch.send(), 403);
});
await step("a changed password ends every token", async () => {
  const change = { oldPassword: password, password: "battery-staple", passwordConfirm: "battery-staple" };
  await bob.collection("oracles").update(bobId, change);
  await refused(bob.collection("oracles").authRefresh(), 401);
  await bob.collection("oracles").authWithPassword(`bob${suffix}@sdk.test`, "battery-staple");
});
await step("delete", async () => {
  await refused(ada.collection("posts").delete(post.id), 400);
  assert.equal(await bob.collection("posts").delete(second.id), true);
  await refused(guest.collection("posts").getOne(second.id), 404);
});
await step("signed out", async () => {
  ada.authStore.clear();
  await refused(ada.collection("posts").create({ title: "t", content: "c" }), 400);
  await refused(ada.send("/api/oracles/me", {}), 401);
});
process.exit(0);
