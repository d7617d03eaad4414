// What is under way: hints, transfers, repairs, rounds, hash trees, and the stream of events.
import {
  Level, Mark, ask, document_of, html, marks_of, plural, size, time, useEffect, usePoll, useState,
} from "./parts.js";

const KEPT = 200;
const AGAIN_MS = 2000;
const TRANSFERS_SHOWN = 32;
const SIDE = 16;
const WORDS = {
  peer_up: (e) => `${e.node} is up`, peer_down: (e) => `${e.node} is down`,
  ring: (e) => `the ring is at epoch ${e.epoch}`,
  exchange: (e) => `partition ${e.partition} exchanged with ${e.peer} (${e.why}): ${plural(e.repaired, "record")} repaired`,
  hints_kept: (e) => `${plural(e.count, "hint")} kept`, hints_delivered: (e) => `${plural(e.count, "hint")} delivered`,
  stored_by_repair: (e) => `${plural(e.count, "record")} stored by read repair`,
  stored_by_exchange: (e) => `${plural(e.count, "record")} stored by anti-entropy`,
  rounds_committed: (e) => `${plural(e.count, "round")} committed`, rounds_abandoned: (e) => `${plural(e.count, "round")} abandoned`,
  tombstones_collected: (e) => `${plural(e.count, "tombstone")} collected`, moves_begun: (e) => `${plural(e.count, "move")} begun`,
  switches: (e) => `${plural(e.count, "partition")} switched to a new owner`, completed: (e) => `${plural(e.count, "partition")} complete`,
};
const said = (e) => (WORDS[e.kind] ? WORDS[e.kind](e) : `${e.kind.replaceAll("_", " ")}${e.count ? ": " + e.count : ""}`);

/** Reads the stream with the token, which an EventSource cannot send, and begins again. Each node numbers
 * its own events, so another node begins anew. A page that is not seen reads nothing. */
function useEvents(asked) {
  const [lines, setLines] = useState([]);
  useEffect(() => {
    let gone = false;
    let after = 0;
    let stream = null;
    const take = (block) => {
      const id = /^id: (\d+)$/m.exec(block), data = /^data: (.*)$/m.exec(block);
      if (!id || !data) return;
      after = +id[1];
      setLines((before) => [{ number: after, ...JSON.parse(data[1]) }, ...before.filter((l) => l.number !== after)].slice(0, KEPT));
    };
    const turned = () => document.hidden && stream?.abort();
    const seen = async () => {
      while (document.hidden && !gone) await new Promise((go) => document.addEventListener("visibilitychange", go, { once: true }));
    };
    setLines([]);
    document.addEventListener("visibilitychange", turned);
    (async () => {
      for (;;) {
        await seen();
        if (gone) return;
        stream = new AbortController();
        try {
          const answer = await ask(`/v1/events?after=${after}`, { signal: stream.signal });
          if (!answer.ok) throw new Error(answer.statusText);
          const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
          for (let rest = ""; ;) {
            const { done, value } = await reader.read();
            if (done) break;
            const blocks = (rest + value).split("\n\n");
            rest = blocks.pop();
            blocks.forEach(take);
          }
        } catch {
          // It is asked for again: the node has ended it, or is gone.
        }
        if (gone) return;
        await new Promise((go) => setTimeout(go, AGAIN_MS));
      }
    })();
    return () => {
      gone = true;
      stream?.abort();
      document.removeEventListener("visibilitychange", turned);
    };
  }, [asked]);
  return lines;
}

function Hints({ hints, marks }) {
  const rows = hints.holders.flatMap((h) => h.targets.map((t) => ({ ...t, node: h.node, next: h.next_attempt_ms })));
  const total = rows.reduce((sum, r) => sum + r.count, 0);
  return html`<section class="card"><h2>Hints <b class="count" data-count=${total}>${total}</b></h2>
    <p class="note">A stand-in keeps the copy of an owner that cannot be reached, and delivers it when the owner is back.</p>
    ${rows.length ? html`<div class="wide" tabindex="0" role="region" aria-label="Hints"><table><thead><tr><th>held by</th><th>for</th><th class="num">keys</th><th class="num">bytes</th><th class="num">oldest</th><th>waits for</th><th class="num">next try</th></tr></thead>
      <tbody>${rows.map((r) => html`<tr><td><${Mark} mark=${marks[r.node]} /> ${r.node}</td><td><${Mark} mark=${marks[r.target]} /> ${r.target}</td>
        <td class="num">${r.count}</td><td class="num">${size(r.bytes)}</td><td class="num">${r.oldest_s.toFixed(0)} s</td><td>${r.waits_for}</td><td class="num">${(r.next / 1000).toFixed(1)} s</td></tr>`)}</tbody></table></div>`
      : html`<p class="empty">None: no node keeps a copy for another one.</p>`}</section>`;
}

function Transfers({ cluster, marks }) {
  const rows = cluster.members.flatMap((m) => (m.status?.transfers || []).map((t) => ({ ...t, at: m.name })));
  return html`<section class="card"><h2>Transfers <b class="count">${rows.length}</b></h2>
    <p class="note">Partitions that are copied to a new owner before it takes the place of the old one.</p>
    ${rows.length ? html`<div class="wide" tabindex="0" role="region" aria-label="Transfers"><table><thead><tr><th class="num">partition</th><th>from</th><th>to</th><th>copied</th><th>state</th></tr></thead>
      <tbody>${rows.slice(0, TRANSFERS_SHOWN).map((t) => html`<tr><td class="num">${t.partition}</td><td><${Mark} mark=${marks[t.out]} /> ${t.out}</td><td><${Mark} mark=${marks[t.in]} /> ${t.in}</td>
        <td><progress aria-label=${`Partition ${t.partition} copied`} max=${t.bytes_total || 1} value=${t.bytes_total ? t.bytes_done : 0}></progress> ${size(t.bytes_done)}</td><td>${t.state}${t.reason ? `: ${t.reason}` : ""}</td></tr>`)}</tbody></table></div>
      ${rows.length > TRANSFERS_SHOWN && html`<p class="note">${rows.length - TRANSFERS_SHOWN} more are not shown.</p>`}`
      : html`<p class="empty">None: nothing moves.</p>`}</section>`;
}

function Background({ cluster, marks }) {
  return html`<section class="card"><h2>Repairs and rounds</h2>
    <p class="note">Owners compare hash trees all the time. A tombstone goes only when every member agrees. Both yield to clients: the budget falls while reads are slow.</p>
    <div class="wide" tabindex="0" role="region" aria-label="Repairs and rounds"><table><thead><tr><th>node</th><th class="num">oldest comparison</th><th>budget</th><th class="num">p99 of reads</th><th class="num">tombstones</th><th>the oldest waits for</th></tr></thead>
    <tbody>${cluster.members.filter((m) => m.status).map(({ name, status: s }) => html`<tr><td><${Mark} mark=${marks[name]} /> ${name}</td>
      <td class="num">${s.oldest_comparison_s === null ? "–" : s.oldest_comparison_s.toFixed(1) + " s"}</td><td><meter aria-label=${`Budget of ${name}`} min="0" max="1" value=${s.background.budget}></meter> ${Math.round(100 * s.background.budget)}%</td>
      <td class="num">${s.background.latency_p99_ms === null ? "–" : s.background.latency_p99_ms.toFixed(1) + " ms"}</td>
      <td class="num">${s.tombstones.count ?? "–"}</td><td class="words">${s.tombstones.waiting_for || "–"}</td></tr>`)}</tbody></table></div></section>`;
}

/** The hash trees of one partition: that of the key, if there is one, or the one that is typed. */
function Trees({ marks, partitions, word }) {
  const [partition, setPartition] = useState(0);
  useEffect(() => {
    if (word) document_of("/v1/preference-list/" + encodeURIComponent(word)).then((found) => setPartition(found.partition), () => {});
  }, [word]);
  const poll = usePoll(() => document_of("/v1/trees/" + partition), partition, 2000);
  const found = poll.found && poll.found.partition === partition ? poll.found : null;
  const differ = new Set(found?.differ || []);
  return html`<section class="card"><h2>Hash trees <b class="count" data-count=${differ.size}>${found ? plural(differ.size, "leaf differs", "leaves differ") : ""}</b></h2>
    <p class="note">One square for each owner, one cell for each leaf: the sum of the digests of its keys. Only the keys of leaves that differ are exchanged.</p>
    <div class="tools"><label>Partition <input type="number" min="0" max=${partitions - 1} value=${partition}
      onInput=${(e) => setPartition(Math.max(0, Math.min(partitions - 1, +e.target.value || 0)))} /></label></div>
    <div class="trees">${(found?.copies || []).map((c) => {
      const side = Math.ceil(Math.sqrt(c.leaves.length)) || SIDE;
      return html`<figure><svg viewBox=${`0 0 ${side * 10} ${side * 10}`} role="img" aria-label=${`${c.node}: ${differ.size} leaves differ`}>
        ${c.leaves.map((leaf, i) => {
          const x = (i % side) * 10, y = Math.floor(i / side) * 10, other = differ.has(i);
          return html`<g class=${"leaf" + (other ? " differs" : /[^0]/.test(leaf) ? " full" : "")}><rect x=${x + 0.5} y=${y + 0.5} width="9" height="9" rx="1.5" />
            ${other && html`<path d=${`M${x + 2} ${y + 2}l6 6m0-6l-6 6`} />`}<title>leaf ${i}: ${leaf.slice(0, 8)}…</title></g>`;
        })}</svg><figcaption><${Mark} mark=${marks[c.node]} /> ${c.node} <small>${c.complete ? "complete" : "not complete"}</small></figcaption></figure>`;
    })}</div>
    ${poll.error && html`<${Level} level="bad">${poll.error.message}<//>`}</section>`;
}

export function FlowPage({ cluster, word }) {
  const marks = marks_of(cluster.members);
  const hints = usePoll(() => document_of("/v1/hints"), "hints", 1500);
  const events = useEvents(cluster.asked);
  return html`<section class="page"><div class="lead"><h1>Flow</h1><p>What nodes do without a client: they bring every copy to the node that
      should have it. Each line says what the work waits for.</p></div>
    <div class="cards">
      ${hints.found ? html`<${Hints} hints=${hints.found} marks=${marks} />` : html`<section class="card"><h2>Hints</h2></section>`}
      <${Transfers} cluster=${cluster} marks=${marks} />
      <${Background} cluster=${cluster} marks=${marks} />
      <${Trees} marks=${marks} partitions=${cluster.ring.partitions} word=${word} />
      <section class="card stream"><h2>Events of ${cluster.asked}</h2><p class="note">As they happen, the newest first, each with its rule of docs/rules.md.</p>
        <ol tabindex="0" aria-label="Events">${events.map((e) => html`<li key=${e.number}><time>${time(e.at_ms)}</time> <span>${said(e)}</span> <code>${e.rule}</code></li>`)}</ol>
        ${!events.length && html`<p class="empty">Nothing yet.</p>`}</section>
    </div></section>`;
}
