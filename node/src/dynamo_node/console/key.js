// A key: its causal history as Figure 3 of the paper draws it, its copies, puts from here.
import {
  Level, Mark, ask, document_of, html, marks_of, plural, short, size, text_of, time, usePoll,
  useState, value_of,
} from "./parts.js";

const COLUMN = 164, ROW = 78, LEFT = 96, TOP = 14, BOX_W = 126, BOX_H = 46;
const dot_parts = (dot) => dot.split(":");
const MOST = 40;

/** Rows are actors in the order of their first event; S and a letter, as the paper names them. */
function layout(history, live) {
  const events = history.events.slice(-MOST);
  const place = new Map(events.map((e) => [e.dot, 0]));
  // A column is behind those of all parents and of the same actor: two events of one column are
  // concurrent.
  const rows = [];
  const row_of = (e) => {
    const actor = dot_parts(e.dot)[0];
    let at = rows.findIndex((r) => r.actor === actor);
    if (at < 0) at = rows.push({ actor, node: e.coordinator, last: -1 }) - 1;
    return at;
  };
  const boxes = events.map((e) => {
    const after = Math.max(-1, ...e.parents.filter((p) => place.has(p)).map((p) => place.get(p)));
    const row = row_of(e);
    const column = Math.max(after, rows[row].last) + 1;
    rows[row].last = column;
    place.set(e.dot, column);
    return { ...e, column, row, live: live.has(e.dot) };
  });
  return { rows, boxes, columns: Math.max(0, ...boxes.map((b) => b.column + 1)), cut: history.events.length - events.length };
}

function Figure({ history, live, marks }) {
  const { rows, boxes, columns, cut } = layout(history, live);
  if (!boxes.length) return null;
  const width = LEFT + columns * COLUMN, height = TOP + rows.length * ROW + 12;
  const by = Object.fromEntries(boxes.map((b) => [b.dot, b]));
  const x = (b) => LEFT + b.column * COLUMN, y = (b) => TOP + b.row * ROW + 12;
  return html`<figure class="figure3"><div class="wide" tabindex="0" role="region" aria-label="History"><svg viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height} role="img"
      aria-label=${`${plural(boxes.length, "event")} by ${plural(rows.length, "actor")}; ${plural(live.size, "value")} now`}>
    <defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
      <path class="head" d="M0 0L8 4L0 8z" /></marker></defs>
    ${rows.map((r, i) => html`<g class="actor"><line x1=${LEFT - 8} x2=${width} y1=${TOP + i * ROW + 35} y2=${TOP + i * ROW + 35} />
      <text x="0" y=${TOP + i * ROW + 32}>${r.node ? `${marks[r.node]?.letter || "?"} · ${short(r.node, 9)}` : "not seen"}</text>
      <text class="small" x="0" y=${TOP + i * ROW + 48}>${r.actor.slice(0, 6)}…</text></g>`)}
    ${boxes.flatMap((b) => b.parents.filter((p) => by[p]).map((p) => {
      const from = by[p], x1 = x(from) + BOX_W, y1 = y(from) + BOX_H / 2, x2 = x(b) - 2, y2 = y(b) + BOX_H / 2;
      const far = b.column - from.column > 1 && from.row === b.row ? -BOX_H : 0;
      return html`<path class="cause" marker-end="url(#arrow)" d=${`M${x1} ${y1}C${x1 + 26} ${y1 + far} ${x2 - 26} ${y2 + far} ${x2} ${y2}`} />`;
    }))}
    ${boxes.map((b) => html`<g class=${`event ${b.live ? "live" : "past"} ${b.kind}`} data-dot=${b.dot}>
      <title>${`${b.dot}, ${b.coordinator || "coordinator not known"}${b.at_ms ? ", " + time(b.at_ms) : ""}` +
        b.came.map((c) => `\n${c.node}: ${c.way}${c.target ? " for " + c.target : ""}`).join("")}</title>
      <rect x=${x(b)} y=${y(b)} width=${BOX_W} height=${BOX_H} rx="8" />
      <text x=${x(b) + BOX_W / 2} y=${y(b) + 20} text-anchor="middle">${value_of(b, 13)}</text>
      <text class="small" x=${x(b) + BOX_W / 2} y=${y(b) + 37} text-anchor="middle">[S${(marks[b.coordinator]?.letter || "?").toLowerCase()}, ${dot_parts(b.dot)[1]}]${b.target ? ` for ${b.target}` : ""}</text>
    </g>`)}
  </svg></div>
  <figcaption>A row is an actor: one life of one node. A box is what a put wrote, under its dot [actor, counter]. An arrow leads
    from what the writer had seen to what it wrote; two boxes in one column did not see each other. <b>Bold boxes</b> are the values that a reader gets now${cut ? `; ${cut} older events are not drawn` : ""}.</figcaption></figure>`;
}

/** Actors as the figure names them: S and the letter of their node. */
function names_of(history, marks) {
  const found = {};
  for (const e of history.events) if (e.coordinator) found[dot_parts(e.dot)[0]] = marks[e.coordinator]?.letter.toLowerCase();
  return (actor) => (found[actor] ? "S" + found[actor] : actor.slice(0, 6) + "…");
}

function Copies({ records, marks, name }) {
  const columns = [...records.copies, ...records.without.filter((w) => w.owner)];
  return html`<div class="copies">${columns.map((c) => {
    const hint = c.target, lacks = c.lacks?.length || 0;
    const level = c.damaged || lacks || (!c.siblings && c.owner) ? "busy" : "good";
    return html`<article class=${"copy" + (hint ? " hint" : "")} data-node=${c.node}>
      <header><${Mark} mark=${marks[c.node]} /> <b>${c.node}</b>
        <small>${hint ? `hint for ${hint}` : c.owner ? "owner" : c.writer ? "writer" : "holds a copy"}</small></header>
      ${(c.siblings || []).map((s) => html`<div class=${"sibling " + s.kind}><span>${value_of(s, 60)}</span>
        <small>[${name(dot_parts(s.dot)[0])}, ${dot_parts(s.dot)[1]}] · ${size(s.bytes)}</small></div>`)}
      ${!c.siblings && html`<div class="sibling none">nothing</div>`}
      ${c.digest && html`<dl><dt>digest</dt><dd>${c.digest.slice(0, 10)}</dd><dt>history</dt>
        <dd>${Object.entries(c.vector).map(([a, k]) => `[${name(a)}, ${k}]`).join(" ") || "–"}</dd></dl>`}
      <${Level} level=${level}>${c.damaged ? "damaged" : lacks ? `lacks ${plural(lacks, "version")}` : !c.siblings ? "holds nothing"
        : hint ? "waits for its owner" : "same as the others"}<//></article>`;
  })}
  ${Object.entries(records.no_answer).filter(([name]) => records.owners.includes(name)).map(([name, why]) =>
    html`<article class="copy down" data-node=${name}><header><${Mark} mark=${marks[name]} /> <b>${name}</b> <small>owner</small></header>
      <${Level} level="bad">${why}<//></article>`)}</div>`;
}

/** Who was asked, when it answered. */
function Ladder({ told, marks }) {
  const most = Math.max(1, ...told.asked.map((a) => a.ms));
  return html`<div class="ladder"><p>${told.coordinator} coordinated the read; it was decided: <b>${told.decided}</b>.</p>
    ${told.asked.map((a) => html`<div class="rung"><span class="who"><${Mark} mark=${marks[a.node]} /> ${a.node} <small>${a.role}</small></span>
      <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="c0" height="10" width=${Math.max(0.8, (100 * a.ms) / most)} /></svg>
      <span>${a.answer}, ${a.ms.toFixed(1)} ms</span></div>`)}
    ${told.skipped.map((s) => html`<div class="rung"><span class="who"><${Mark} mark=${marks[s.node]} /> ${s.node}</span><span></span><span>not asked: ${s.reason}</span></div>`)}</div>`;
}

export function KeyPage({ cluster, word, setWord }) {
  const [value, setValue] = useState("");
  const [held, setHeld] = useState(null);
  const [said, setSaid] = useState(null);
  const [told, setTold] = useState(null);
  const path = "/v1/kv/" + encodeURIComponent(word);
  const poll = usePoll(async () => {
    if (!word) return null;
    const of = encodeURIComponent(word);
    const [records, history] = await Promise.all([document_of("/v1/records/" + of), document_of("/v1/history/" + of)]);
    return { records, history, word };
  }, word, 2000);
  const marks = marks_of(cluster.members);
  const found = poll.found && poll.found.word === word ? poll.found : null;
  const mine = held && held.word === word ? held : null;

  async function done(answer) {
    const context = answer.headers.get("dynamo-context");
    const acks = answer.headers.get("dynamo-acks");
    let detail = answer.ok ? "" : (await answer.json().catch(() => ({}))).detail || answer.statusText;
    setSaid({ good: answer.ok, words: answer.ok ? `done, acks ${acks || "–"}` : `${answer.status}: ${detail}` });
    poll.again();
    return context;
  }
  const guard = (call) => async (event) => {
    event?.preventDefault();
    try {
      await call();
    } catch (error) {
      setSaid({ good: false, words: error.message });
    }
  };
  const put = (seen) => guard(async () => {
    const headers = { "Content-Type": "text/plain; charset=utf-8", ...(seen ? { "Dynamo-Context": seen } : {}) };
    const context = await done(await ask(path, { method: "PUT", body: value, headers }));
    if (context && seen) setHeld({ word, context, values: [value] });
  });
  const read = guard(async () => {
    const answer = await ask(path, { headers: { Accept: "application/json" } });
    const body = await answer.json();
    const context = answer.headers.get("dynamo-context") || body.context || null;
    const values = (body.values || []).map((v) => text_of(v.data));
    setHeld({ word, context, values });
    setSaid({ good: true, words: values.length ? `read ${plural(values.length, "value")}` : "nothing is there" });
    poll.again();
  });
  const remove = guard(async () => {
    await done(await ask(path, { method: "DELETE", headers: mine?.context ? { "Dynamo-Context": mine.context } : {} }));
  });
  const explain = guard(async () => setTold(await (await ask(path + "?explain=true")).json()));

  const live = new Set((found?.records.copies || []).filter((c) => !c.superseded.length || c.target)
    .flatMap((c) => c.siblings.map((s) => s.dot)));
  for (const c of found?.records.copies || []) for (const dot of c.superseded) live.delete(dot);
  return html`<section class="page">
    <div class="lead"><h1>Key</h1><p>Two writers that did not see each other's value make two versions, and the store keeps both until a
      writer has seen both. Write here <b>without</b> a context to make a second version, read, and write <b>with</b> the context to merge.</p></div>
    <form class="tools" onSubmit=${put(null)}>
      <label>Key <input class="key" value=${word} placeholder="cart:42" spellcheck="false" autocomplete="off" onInput=${(e) => setWord(e.target.value)} /></label>
      <label>Value <input class="value" value=${value} placeholder="two apples" spellcheck="false" autocomplete="off" onInput=${(e) => setValue(e.target.value)} /></label>
      <button type="submit" disabled=${!word}>Put without context</button>
      <button type="button" disabled=${!word || !mine?.context} onClick=${put(mine?.context)}>Put with context</button>
      <button type="button" disabled=${!word} onClick=${read}>Read</button>
      <button type="button" disabled=${!word} onClick=${remove}>Delete</button>
      <button type="button" disabled=${!word} onClick=${explain}>Explain a read</button>
    </form>
    <p class="said" role="status">${said && html`<${Level} level=${said.good ? "good" : "bad"}>${said.words}<//>`}
      ${mine && html` <span>In hand: ${mine.values.length ? mine.values.map((v) => html`<span class="word">${short(v, 40)}</span> `) : "no value"}
        ${mine.context ? "and the context that covers it" : ""}</span>`}</p>
    ${poll.error && html`<p><${Level} level="bad">${poll.error.message}<//></p>`}
    ${!word && html`<p class="empty">Type a key to see where it came from and where it is.</p>`}
    ${found && html`
      <h2>How it came to be</h2>
      ${found.history.events.length ? html`<${Figure} history=${found.history} live=${live} marks=${marks} />`
        : html`<p class="empty">${found.history.watched ? "Nothing has changed this key since its nodes started."
            : html`No node remembers histories: set <code>history_bytes_max</code>. The copies below are as they are now.`}</p>`}
      <h2>Where it is <small>partition ${found.records.partition}, ${found.records.owners_agree ? "the owners agree" : "the owners differ"}</small></h2>
      ${found.records.copies.length || found.records.without.length || Object.keys(found.records.no_answer).length
        ? html`<${Copies} records=${found.records} marks=${marks} name=${names_of(found.history, marks)} />` : html`<p class="empty">No node holds it.</p>`}`}
    ${told && html`<h2>A read, explained</h2><${Ladder} told=${told} marks=${marks} />`}
  </section>`;
}
