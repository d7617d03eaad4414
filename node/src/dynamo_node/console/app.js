// The console: which page, who is asked, the token.
import { Level, Patterns, document_of, html, render, state_of, token, useEffect, usePoll, useState } from "./parts.js";
import { RingPage } from "./ring.js";
import { KeyPage } from "./key.js";
import { FlowPage } from "./flow.js";
import { PlanPage } from "./plan.js";
import { StalenessPage } from "./staleness.js";
import { WhatIfPage } from "./whatif.js";

const PAGES = {
  ring: ["Ring", RingPage], key: ["Key", KeyPage], flow: ["Flow", FlowPage],
  staleness: ["Staleness", StalenessPage], whatif: ["What if", WhatIfPage], plan: ["Plan", PlanPage],
};
const here = () => {
  const [, page, word] = /^#\/(\w*)\/?(.*)$/.exec(location.hash) || [];
  try {
    return { page: page in PAGES ? page : "ring", word: decodeURIComponent(word || "") };
  } catch {
    return { page: "ring", word: "" };
  }
};

/** Answers to requests with a token that does not do: not known, no right, too many wrong ones. */
const LOCKED = [401, 403, 429];
/** The what-if page has the name of a story where other pages have a key. */
const subject = (page) => (page === "whatif" ? "story" : "key");

function Token({ onToken, said }) {
  const [word, setWord] = useState("");
  return html`<form class="token" onSubmit=${(e) => (e.preventDefault(), token.set(word.trim()), onToken())}>
    <h1>Token</h1><p>This ring asks who you are. <code>dynamoctl token</code> prints the token of an administrator; a ring with
      rights wants a token of its file, with the right <code>admin</code>. The token stays in this tab.</p>
    <p role="alert">${said && html`<${Level} level="bad">${said}<//>`}</p>
    <label>Token <input type="password" autocomplete="off" value=${word} onInput=${(e) => setWord(e.target.value)} /></label>
    <button type="submit">Open</button></form>`;
}

function Health({ cluster }) {
  const states = cluster.members.map((m) => state_of(m).level);
  const down = states.filter((s) => s === "bad").length, busy = states.filter((s) => s === "busy").length;
  return down ? html`<${Level} level="bad">${down} of ${states.length} down<//>`
    : busy ? html`<${Level} level="busy">${busy} of ${states.length} busy<//>`
    : html`<${Level} level="good">all ${states.length} up<//>`;
}

function App() {
  const [place, setPlace] = useState(here());
  const [words, setWords] = useState({ key: "", story: "", [subject(here().page)]: here().word });
  const word = words[subject(place.page)];
  const keep = (page, next) => setWords((before) => ({ ...before, [subject(page)]: next }));
  useEffect(() => {
    const changed = () => (setPlace(here()), here().word && keep(here().page, here().word));
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const setWord = (next) => {
    keep(place.page, next);
    history.replaceState(null, "", `#/${place.page}/${encodeURIComponent(next)}`);
  };
  const [life, setLife] = useState(0);
  const [ring, setRing] = useState(null);
  const poll = usePoll(() => document_of("/v1/cluster"), life, 1500);
  const cluster = poll.found;
  const digest = cluster?.ring.digest;
  useEffect(() => {
    if (digest) document_of("/v1/ring").then(setRing, () => {});
  }, [digest]);
  useEffect(() => { document.title = `${PAGES[place.page][0]} · dynamo-ring`; }, [place.page]);
  const go = (page) => `#/${page}${words[subject(page)] ? "/" + encodeURIComponent(words[subject(page)]) : ""}`;
  const [, Page] = PAGES[place.page];
  const locked = LOCKED.includes(poll.error?.status);
  return html`<${Patterns} />
    <header class="top"><a class="brand" href="#/ring"><img src="/console/icon.svg" alt="" width="26" height="26" /> dynamo-ring</a>
      <nav aria-label="Pages">${Object.entries(PAGES).map(([name, [title]]) =>
        html`<a href=${go(name)} aria-current=${name === place.page ? "page" : undefined}>${title}</a>`)}</nav>
      <span class="health" role="status">${cluster && html`<${Health} cluster=${cluster} /> <small>through ${cluster.asked}</small>`}</span></header>
    <main>${poll.error && !locked && html`<p class="banner"><${Level} level="bad">${poll.error.message}; what is shown may be old<//></p>`}
      ${locked ? html`<${Token} onToken=${() => setLife(life + 1)} said=${token.get() && poll.error.message} />`
        : cluster && ring ? html`<${Page} cluster=${cluster} ring=${ring} word=${word} setWord=${setWord} />`
        : html`<p class="empty">Asking the ring…</p>`}</main>`;
}

render(html`<${App} />`, document.getElementById("app"));
