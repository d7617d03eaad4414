// What if: faults on the processes of `dynamoctl local up`, and stories that play them.
import {
  Level, Mark, Refused, ask, document_of, html, marks_of, short, state_of, text_of, usePoll, useRef, useState,
} from "./parts.js";
import { Picture } from "./ring.js";
import { STORIES } from "./stories.js";

const HOUR_S = 3600;
const WAIT_MS = 45_000;
const STEP_MS = 250;
const pause = (ms) => new Promise((go) => setTimeout(go, ms));

/** What a story has in its hands: faults, requests through a chosen node, and waiting. */
class Lab {
  constructor(token, names, say) {
    Object.assign(this, { token, names, say, key: "", owners: [] });
  }

  async fault(wanted, words) {
    if (words) this.say(words);
    await document_of("/what-if", {
      method: "POST", body: JSON.stringify(wanted),
      headers: { "Content-Type": "application/json", "Dynamo-What-If": this.token },
    });
  }

  async begin(id) {
    await this.heal();
    this.key = `story:${id}:${Math.random().toString(36).slice(2, 7)}`;
    this.owners = (await document_of("/v1/preference-list/" + encodeURIComponent(this.key))).owners;
    this.say(`the key ${this.key} belongs to ${this.owners.join(", ")}`);
  }

  async heal() {
    await this.fault({ fault: "heal" });
    await this.ready();
  }

  /** Every node runs and every node takes every other one for up. */
  ready() {
    return this.until(async () => (await document_of("/v1/cluster")).members.filter((m) => m.state !== "LEFT")
      .every((m) => m.answered && m.status.partitions.complete === m.status.partitions.owned && Object.values(m.seen_by).every((word) => word === "up")));
  }

  async until(check, wait_ms = WAIT_MS) {
    for (const end = performance.now() + wait_ms; performance.now() < end; await pause(STEP_MS)) {
      try {
        const found = await check();
        if (found) return found;
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
      }
    }
    return null;
  }

  async send(node, method, query, options = {}) {
    const words = Object.entries(query).filter(([, value]) => value !== undefined).map((pair) => pair.join("=")).join("&");
    return ask(`/node/${node}/v1/kv/${encodeURIComponent(this.key)}${words ? "?" + words : ""}`, { method, ...options });
  }

  async put(node, value, { w, context, timeout_ms } = {}) {
    const headers = { "Content-Type": "text/plain; charset=utf-8", ...(context ? { "Dynamo-Context": context } : {}) };
    return this.done(await this.send(node, "PUT", { w, timeout_ms }, { body: value, headers }));
  }

  async remove(node, { w, context }) {
    return this.done(await this.send(node, "DELETE", { w }, { headers: { "Dynamo-Context": context } }));
  }

  done(answer) {
    return { status: answer.status, acks: answer.headers.get("dynamo-acks"), applied: answer.headers.get("dynamo-applied") };
  }

  async get(node, { r } = {}) {
    const answer = await this.send(node, "GET", { r }, { headers: { Accept: "application/json" } });
    const body = await answer.json();
    return { status: answer.status, values: (body.values || []).map((v) => text_of(v.data)), context: answer.headers.get("dynamo-context") || body.context };
  }

  /** Reads with R=3 until it is so; the last read if it never is. */
  async reads(check, node = this.owners[0]) {
    let last = { values: [] };
    await this.until(async () => check((last = await this.get(node, { r: 3 }))));
    return last;
  }

  records() {
    return document_of("/v1/records/" + encodeURIComponent(this.key));
  }

  sees(check, wait_ms) {
    return this.until(async () => check(await this.records()), wait_ms);
  }

  status(node) {
    return document_of(`/node/${node}/v1/status`);
  }
}

function NodeCard({ name, state, marks, cannot, busy, onFault }) {
  const act = (fault, words, off, more = {}) =>
    html`<button disabled=${busy || off} onClick=${() => onFault({ fault, node: name, ...more })}>${words}</button>`;
  const signs = [
    !state.running && "dead", state.frozen && "frozen", state.full && "disk full",
    state.ahead_s && `clock ${state.ahead_s > 0 ? "+" : ""}${Math.round(state.ahead_s / 60)} min`, state.copied && "copy kept",
  ].filter(Boolean);
  return html`<article class="trouble" data-node=${name}><header><${Mark} mark=${marks[name]} /> <b>${name}</b>
      <${Level} level=${!state.running || state.frozen ? "bad" : state.full || state.ahead_s ? "busy" : "good"}>${signs.join(", ") || "runs"}<//></header>
    <div class="acts" role="group" aria-label=${"Faults of " + name}>${state.running ? act("kill", "Kill") : act("start", "Start")}
      ${state.frozen ? act("thaw", "Thaw", !state.running) : act("freeze", "Freeze", !state.running)}
      ${state.full ? act("empty", "Free disk") : act("fill", "Fill disk", !state.running || cannot.fill)}
      ${act("wipe", "Wipe disk")} ${act("copy", "Copy disk")} ${act("rollback", "Roll disk back", !state.copied)}
      ${state.ahead_s ? act("skew", "Right clock", false, { ahead_s: 0 }) : act("skew", "Clock +1 h", false, { ahead_s: HOUR_S })}</div></article>`;
}

/** A row speaks, a column hears. */
function Links({ names, cuts, marks, cannot, busy, onFault }) {
  if (cannot) return html`<p class="note">Links cannot be cut here: ${cannot}.</p>`;
  const cut = new Set(cuts.map((pair) => pair.join(" ")));
  return html`<div class="wide" tabindex="0" role="region" aria-label="Links"><table class="links"><caption>Links: do bytes of a row reach a column? Press one to cut it, again to mend it.</caption>
    <thead><tr><td></td>${names.map((n) => html`<th scope="col"><${Mark} mark=${marks[n]} /> ${short(n, 6)}</th>`)}</tr></thead>
    <tbody>${names.map((from) => html`<tr><th scope="row"><${Mark} mark=${marks[from]} /> ${short(from, 6)}</th>${names.map((to) =>
      from === to ? html`<td></td>` : html`<td><button class=${cut.has(`${from} ${to}`) ? "cut" : "whole"} disabled=${busy}
        aria-label=${`${cut.has(`${from} ${to}`) ? "Mend" : "Cut"} ${from} to ${to}`}
        onClick=${() => onFault({ fault: cut.has(`${from} ${to}`) ? "mend" : "cut", source: from, target: to })}>${cut.has(`${from} ${to}`) ? "✕" : "→"}</button></td>`)}</tr>`)}</tbody></table></div>`;
}

function Story({ story, open, run, busy, why_not, onOpen, onPlay }) {
  const [guess, setGuess] = useState(null);
  const mine = run && run.id === story.id ? run : null;
  const truth = mine && mine.truth;
  return html`<article class=${"story" + (open ? " open" : "")} id=${"story-" + story.id}>
    <h3><button class="link" aria-expanded=${open} onClick=${onOpen}>${story.title}</button></h3>
    ${open && html`<p class="question">${story.question}</p>
      <fieldset disabled=${busy}><legend>What do you think?</legend>${story.choices.map((words, i) => html`<label class=${truth != null && truth === i ? "true" : ""}>
        <input type="radio" name=${story.id} checked=${guess === i} onChange=${() => setGuess(i)} /> ${words}</label>`)}</fieldset>
      <p><button class="approve" disabled=${busy || guess === null || why_not} onClick=${() => onPlay(story)}>${mine && mine.ended ? "Play it again" : "Play it"}</button>
        ${why_not && html` <span class="note">${why_not}</span>`}</p>
      ${mine && html`<ol class="steps" aria-live="polite" aria-label="What happens">${mine.steps.map((step) => html`<li><time>${(step.ms / 1000).toFixed(1)} s</time> ${step.words}</li>`)}
        ${!mine.ended && html`<li class="now">…</li>`}</ol>`}
      ${truth != null && html`<div class="truth" role="status" data-truth=${truth}><p><${Level} level=${guess === truth ? "good" : "busy"}>${guess === truth ? "As you said" : "Not as you said"}<//>
        ${" "}<b>${story.choices[truth]}.</b></p><p>${story.why} <small>Paper, section ${story.paper}; docs/${story.see}.md</small></p></div>`}
      ${mine && mine.error && html`<p><${Level} level="bad">${mine.error}<//></p>`}`}</article>`;
}

export function WhatIfPage({ cluster, ring, word, setWord }) {
  const poll = usePoll(() => document_of("/what-if"), "what-if", 1000);
  const [run, setRun] = useState(null);
  const [acting, setActing] = useState(false);
  const [said, setSaid] = useState("");
  const held = useRef(null);
  const marks = marks_of(cluster.members);
  const levels = Object.fromEntries(cluster.members.map((m) => [m.name, state_of(m).level]));
  const found = poll.found;
  if (!found)
    return html`<section class="page"><div class="lead"><h1>What if</h1><p>Faults are made on the processes of <code>dynamoctl local up</code> alone. While it
      runs it prints the address of a console that can make them; <code>make up</code> is the shortest way.</p></div>
      ${poll.error && html`<p class="empty">This console cannot make faults: ${poll.error.message}.</p>`}</section>`;
  const names = Object.keys(found.nodes);
  const busy = acting || (run && !run.ended);
  const place = held.current;

  async function fault(wanted) {
    setActing(true);
    setSaid("");
    try {
      await new Lab(found.token, names, () => {}).fault(wanted);
    } catch (error) {
      setSaid(error.message);
    }
    setActing(false);
    poll.again();
  }

  async function play(story) {
    const began = performance.now();
    let now = { id: story.id, steps: [], ended: false, truth: null, error: "" };
    const show = (more) => setRun((now = { ...now, ...more }));
    const lab = new Lab(found.token, names, (words) => show({ steps: [...now.steps, { words, ms: performance.now() - began }] }));
    show({});
    try {
      await lab.begin(story.id);
      held.current = { ...(await document_of("/v1/preference-list/" + encodeURIComponent(lab.key))), key: lab.key };
      const truth = await story.play(lab);
      show({ truth });
      await lab.heal();
      lab.say("everything is healed");
    } catch (error) {
      show({ error: error.message });
    }
    show({ ended: true });
    poll.again();
  }

  const why_not = (story) => (names.length < story.needs ? `needs ${story.needs} nodes: dynamoctl local up --nodes ${story.needs} --dir .local${story.needs}`
    : story.cannot && found.cannot[story.cannot]) || "";
  const opened = (STORIES.find((s) => s.id === word) || STORIES.find((s) => !why_not(s)) || STORIES[0]).id;
  return html`<section class="page whatif"><div class="lead"><h1>What if</h1><p>Real processes, real faults. Say what you think will happen, play it, and see
      the truth; or make faults yourself and watch the <a href="#/ring">ring</a>, a <a href=${"#/key/" + encodeURIComponent(place?.key || "cart:42")}>key</a> and the <a href="#/flow">flow</a> react.</p></div>
    <div class="split"><div><h2>Eleven stories</h2>${STORIES.map((story) => html`<${Story} key=${story.id} ...${{ story, run, busy }} open=${opened === story.id}
      why_not=${why_not(story)} onOpen=${() => setWord(story.id)} onPlay=${play} />`)}</div>
    <div><${Picture} ring=${ring} marks=${marks} levels=${levels} chosen=${place ? Math.min(place.partition, ring.entries.length - 1) : 0} place=${place} word=${place?.key || ""} lit="" onChoose=${() => {}} />
      <h2>Nodes <button disabled=${busy} onClick=${() => fault({ fault: "heal" })}>Heal everything</button></h2>
      <p class="said" role="status">${said ? html`<${Level} level="bad">${said}<//>` : acting ? "…" : ""}</p>
      ${names.map((name) => html`<${NodeCard} key=${name} ...${{ name, marks, busy }} state=${found.nodes[name]} cannot=${found.cannot} onFault=${fault} />`)}
      <${Links} ...${{ names, marks, busy }} cuts=${found.cuts} cannot=${found.cannot.cut} onFault=${fault} /></div></div></section>`;
}
