// A key: its causal history as Figure 3 of the paper draws it, its copies, puts from here.
import {
  Level, Mark, Refused, ask, body_of, document_of, html, marks_of, plural, short, size, text_of, time, usePoll,
  useState, value_of,
} from "./parts.js";

const COLUMN = 164, ROW = 78, LEFT = 112, TOP = 14, BOX_W = 126, BOX_H = 46;
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

/** Actors as the paper names them: S and the letter of their node; a node that counts anew has another actor. */
function names_of(history, marks) {
  const found = {}, counts = {};
  for (const e of history.events) {
    const [actor] = dot_parts(e.dot), letter = marks[e.coordinator]?.letter.toLowerCase();
    if (!letter || found[actor]) continue;
    counts[letter] = (counts[letter] || 0) + 1;
    found[actor] = `S${letter}${"′".repeat(counts[letter] - 1)}`;
  }
  return (actor) => found[actor] || actor.slice(0, 6) + "…";
}

/** An arrow from a box to the left edge of a later one. It goes around the boxes between them: above those of its
 * row, or along the gap between two rows. */
function arrow(from, to, left, top, x, y) {
  const right = left + BOX_W, middle = top + BOX_H / 2;
  const near = to.column - from.column < 2;
  if (near || from.row === to.row) {
    const away = near ? 0 : -BOX_H;
    return `M${right} ${middle}C${right + 26} ${middle + away} ${x - 26} ${y + away} ${x} ${y}`;
  }
  const down = to.row > from.row ? 1 : -1, half = (ROW - BOX_H) / 2;
  const edge = middle + (down * BOX_H) / 2, lane = edge + down * half, begin = left + BOX_W / 2;
  return `M${begin} ${edge}Q${begin} ${lane} ${begin + half} ${lane}L${x - 36} ${lane}C${x - 12} ${lane} ${x - 30} ${y} ${x} ${y}`;
}

function Figure({ history, live, marks, name }) {
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
      <text x="0" y=${TOP + i * ROW + 32}>${r.node ? `${name(r.actor)} · ${short(r.node, 9)}` : "not seen"}</text>
      <text class="small" x="0" y=${TOP + i * ROW + 48}>${r.actor.slice(0, 6)}…</text></g>`)}
    ${boxes.flatMap((b) => b.parents.filter((p) => by[p]).map((p) => {
      const from = by[p];
      return html`<path class="cause" marker-end="url(#arrow)" d=${arrow(from, b, x(from), y(from), x(b) - 2, y(b) + BOX_H / 2)} />`;
    }))}
    ${boxes.map((b) => html`<g class=${`event ${b.live ? "live" : "past"} ${b.kind}`} data-dot=${b.dot}>
      <title>${`${b.dot}, ${b.coordinator || "coordinator not known"}${b.at_ms ? ", " + time(b.at_ms) : ""}` +
        b.came.map((c) => `\n${c.node}: ${c.way}${c.target ? " for " + c.target : ""}`).join("")}</title>
      <rect x=${x(b)} y=${y(b)} width=${BOX_W} height=${BOX_H} rx="8" />
      <text x=${x(b) + BOX_W / 2} y=${y(b) + 20} text-anchor="middle">${value_of(b, 13)}</text>
      <text class="small" x=${x(b) + BOX_W / 2} y=${y(b) + 37} text-anchor="middle">[${name(dot_parts(b.dot)[0])}, ${dot_parts(b.dot)[1]}]${b.target ? ` for ${b.target}` : ""}</text>
    </g>`)}
  </svg></div>
  <figcaption>A row is an actor: a node, until it starts again or has to count anew (′). A box is what a put wrote, under its dot [actor, counter]. An arrow leads
    from what the writer had seen to what it wrote; two boxes in one column did not see each other. <b>Bold boxes</b> are the values that a reader gets now${cut ? `; ${cut} older events are not drawn` : ""}.</figcaption></figure>`;
}

/** What the figure draws, in rows: for readers who cannot see it, and the ways that it has no room for. */
function Rows({ history, name }) {
  const said = (dots) => dots.map((dot) => `[${name(dot_parts(dot)[0])}, ${dot_parts(dot)[1]}]`).join(" ") || "–";
  return html`<details><summary>The same as a table</summary><div class="wide" tabindex="0" role="region" aria-label="History as a table">
    <table class="events"><thead><tr><th>event</th><th>value</th><th>coordinator</th><th>time</th><th>after</th><th>superseded by</th><th>came to</th></tr></thead>
    <tbody>${history.events.map((e) => html`<tr><th scope="row">${said([e.dot])}</th><td>${value_of(e, 40)}</td><td>${e.coordinator || "not known"}</td>
      <td>${e.at_ms ? time(e.at_ms) : "–"}</td><td>${said(e.parents)}</td><td>${said(e.superseded_by)}</td>
      <td class="words">${e.came.map((c) => `${c.node}${c.target ? ` for ${c.target}` : ""} (${c.way})`).join(", ") || "–"}</td></tr>`)}</tbody></table></div></details>`;
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
    const body = await body_of(answer);
    if (![200, 404].includes(answer.status)) throw new Refused(answer.status, `${answer.status}: ${body.detail}`);
    const context = answer.headers.get("dynamo-context") || body.context || null;
    const values = (body.values || []).map((v) => text_of(v.data));
    setHeld({ word, context, values });
    setSaid({ good: true, words: values.length ? `read ${plural(values.length, "value")}` : "nothing is there" });
    poll.again();
  });
  const remove = guard(async () => {
    await done(await ask(path, { method: "DELETE", headers: mine?.context ? { "Dynamo-Context": mine.context } : {} }));
  });
  const explain = guard(async () => {
    const answer = await ask(path + "?explain=true");
    const body = await body_of(answer);
    if (!body.asked) throw new Refused(answer.status, `${answer.status}: ${body.detail}`);
    setTold({ ...body, word });
  });

  const name = found && names_of(found.history, marks);
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
      ${mine && html` <span>This page has seen: ${mine.values.length ? mine.values.map((v) => html`<span class="word">${short(v, 40)}</span> `) : "no value"}
        ${mine.context ? "and the context that covers it" : ""}</span>`}</p>
    ${poll.error && html`<p><${Level} level="bad">${poll.error.message}<//></p>`}
    ${!word && html`<p class="empty">Type a key to see where it came from and where it is.</p>`}
    ${found && found.records.values_shown === false && html`<p class="note">Values are not shown: the name of this token has no right
      <code>get</code> on this key.</p>`}
    ${found && html`
      <h2>How it came to be</h2>
      ${found.history.events.length ? html`<${Figure} history=${found.history} live=${live} ...${{ marks, name }} /><${Rows} history=${found.history} name=${name} />`
        : html`<p class="empty">${found.history.watched ? "Nothing has changed this key since its nodes started."
            : html`No node remembers histories: set <code>history_bytes_max</code>. The copies below are as they are now.`}</p>`}
      <h2>Where it is <small>partition ${found.records.partition}, the owners${found.records.owners.some((o) => o in found.records.no_answer) ? " that answer" : ""} ${found.records.owners_agree ? "agree" : "differ"}</small></h2>
      ${found.records.copies.length || found.records.without.length || Object.keys(found.records.no_answer).length
        ? html`<${Copies} records=${found.records} marks=${marks} name=${name} />` : html`<p class="empty">No node holds it.</p>`}`}
    ${told && told.word === word && html`<h2>A read, explained</h2><${Ladder} told=${told} marks=${marks} />`}
  </section>`;
}
