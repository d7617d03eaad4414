// Changes of the ring: the plan first, with bars before and after; then approve, follow, cancel.
import { Level, Mark, document_of, html, marks_of, plural, size, useState } from "./parts.js";

const JSON_BODY = { "Content-Type": "application/json" };
const post = (path, body) => document_of(path, { method: "POST", headers: JSON_BODY, body: JSON.stringify(body) });
const KINDS = {
  join: "Let a node join", leave: "Let a node leave", weight: "Give a node another weight", balance: "Balance what is there",
  move: "Move one replica", tokens: "Move some replicas",
};
const COPIES_MAX = 4096;

/** What the form asks for, as the admin API wants it. Without a node that gives, the nodes with most do. */
function wishes_of(form) {
  if (form.kind === "join") return { join: [{ name: form.name.trim(), address: form.address.trim() }] };
  if (form.kind === "leave") return { leave: [form.node] };
  if (form.kind === "weight") return { weights: { [form.node]: +form.weight } };
  if (form.kind === "move") return { moves: [{ partition: +form.partition, from: form.from, to: form.to }] };
  if (form.kind === "tokens") return { moves: [{ tokens: +form.tokens, to: form.to, ...(form.from ? { from: form.from } : {}) }] };
  return {};
}

function Bars({ before, after, marks }) {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  const most = Math.max(1, ...Object.values(before), ...Object.values(after));
  const bar = (count, mark, kind) => html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
    <rect class=${`c${mark ? mark.colour : 8} ${kind}`} height="10" width=${(100 * count) / most} /></svg>`;
  return html`<div class="wide" tabindex="0" role="region" aria-label="Replicas before and after"><table class="bars"><thead><tr><th>node</th><th>replicas before</th><th class="num"></th><th>after</th><th class="num"></th></tr></thead>
    <tbody>${names.map((name) => {
      const b = before[name] || 0, a = after[name] || 0;
      return html`<tr data-node=${name}><td><${Mark} mark=${marks[name]} /> ${name}</td><td class="drawn">${bar(b, marks[name], "old")}</td><td class="num">${b}</td>
        <td class="drawn">${bar(a, marks[name], "new")}</td><td class="num">${a}${a === b ? "" : html` <small>${a > b ? "+" : "−"}${Math.abs(a - b)}</small>`}</td></tr>`;
    })}</tbody></table></div>`;
}

function Operation({ cluster, onCancel }) {
  const said = cluster.members.map((m) => m.status?.operation).filter((o) => o && o.id);
  const now = said.find((o) => o.state === "running") || said[0];
  if (!now) return html`<p class="empty">No change has been made yet.</p>`;
  const level = now.state === "running" ? "busy" : "good";
  return html`<p class="operation"><${Level} level=${level}>${now.state}<//> <progress aria-label="Moves done" max=${Math.max(1, now.moves_total)} value=${now.moves_total ? now.moves_done : 1}></progress>
    ${" "}${now.moves_done} of ${plural(now.moves_total, "move")} <small>${now.id}</small>
    ${now.state === "running" && html` <button onClick=${onCancel}>Cancel what has not been switched</button>`}</p>`;
}

export function PlanPage({ cluster, ring }) {
  const [form, setForm] = useState({
    kind: "leave", node: cluster.members[0].name, weight: 1, name: "", address: "", partition: 0, tokens: 1, from: "", to: cluster.members[0].name,
  });
  const [made, setMade] = useState(null);
  const [said, setSaid] = useState(null);
  const marks = marks_of(cluster.members);
  const set = (more) => (setForm({ ...form, ...more }), setMade(null), setSaid(null));
  const guard = (call) => async (event) => {
    event?.preventDefault();
    try {
      await call();
    } catch (error) {
      setSaid({ level: "bad", words: error.message });
    }
  };
  const plan = guard(async () => {
    const wishes = wishes_of(form);
    setSaid(null);
    setMade({ wishes, plan: await post("/v1/ring/plan", wishes) });
  });
  const apply = guard(async () => {
    const operation_id = "console-" + Array.from(crypto.getRandomValues(new Uint8Array(6)), (b) => b.toString(16).padStart(2, "0")).join("");
    await post("/v1/ring/apply", { ...made.wishes, hash: made.plan.hash, operation_id });
    setMade(null);
    setSaid({ level: "good", words: "approved: partitions move now; the Ring page marks them" });
  });
  const cancel = guard(async () => {
    const { undone } = await post("/v1/ring/cancel", {});
    setSaid({ level: "good", words: undone ? "what had not been switched is taken back" : "nothing was left to take back" });
  });
  const nodes = cluster.members.map((m) => html`<option value=${m.name}>${m.name}</option>`);
  const owners = ring.entries[form.partition]?.owners || [];
  const moves = form.kind === "move" || form.kind === "tokens";
  return html`<section class="page"><div class="lead"><h1>Plan</h1><p>A person decides who joins and who leaves; no node does it by itself. A change is a
      plan first: nothing moves before you approve it, and its hash makes sure that what is done is what you saw.</p></div>
    <h2>The last change</h2><${Operation} cluster=${cluster} onCancel=${cancel} />
    <h2>A new one</h2>
    <form class="tools" onSubmit=${plan}>
      <label>Change <select value=${form.kind} onChange=${(e) => set({ kind: e.target.value })}>
        ${Object.entries(KINDS).map(([kind, words]) => html`<option value=${kind}>${words}</option>`)}</select></label>
      ${(form.kind === "leave" || form.kind === "weight") && html`<label>Node <select class="node" value=${form.node} onChange=${(e) => set({ node: e.target.value })}>${nodes}</select></label>`}
      ${form.kind === "weight" && html`<label>Weight <input type="number" min="1" max="1000" value=${form.weight} onInput=${(e) => set({ weight: e.target.value })} /></label>`}
      ${form.kind === "join" && html`<label>Name <input value=${form.name} onInput=${(e) => set({ name: e.target.value })} placeholder="n6" /></label>
        <label>Peer address <input value=${form.address} onInput=${(e) => set({ address: e.target.value })} placeholder="10.0.0.6:8082" /></label>`}
      ${form.kind === "move" && html`<label>Partition <input type="number" class="partition" min="0" max=${ring.entries.length - 1} value=${form.partition}
        onInput=${(e) => set({ partition: e.target.value, from: "" })} /></label>`}
      ${form.kind === "tokens" && html`<label>Replicas <input type="number" min="1" max=${COPIES_MAX} value=${form.tokens} onInput=${(e) => set({ tokens: e.target.value })} /></label>`}
      ${moves && html`<label>From <select class="gives" value=${form.from} onChange=${(e) => set({ from: e.target.value })}>
          <option value="">${form.kind === "move" ? "choose an owner" : "the nodes with most"}</option>
          ${form.kind === "move" ? owners.map((name) => html`<option value=${name}>${name}</option>`) : nodes}</select></label>
        <label>To <select class="takes" value=${form.to} onChange=${(e) => set({ to: e.target.value })}>${nodes}</select></label>`}
      <button type="submit">Show the plan</button></form>
    <p class="said" role="status">${said && html`<${Level} level=${said.level}>${said.words}<//>`}</p>
    ${made && html`<div class="card planned">
      <p><b>${plural(made.plan.moves.length, "partition")}</b> ${made.plan.moves.length === 1 ? "moves" : "move"}, ${made.plan.bytes === null ? "how much to copy is not known" : `${size(made.plan.bytes)} to copy`}${made.plan.seconds_estimated === null ? "" : `, about ${made.plan.seconds_estimated} s`}.</p>
      <${Bars} before=${made.plan.before} after=${made.plan.after} marks=${marks} />
      ${made.plan.violations.map((v) => html`<p><${Level} level="busy">${v}<//></p>`)}
      <p><button class="approve" onClick=${apply} disabled=${!made.plan.moves.length && !["weight", "join"].includes(form.kind)}>Approve and apply</button></p></div>`}
  </section>`;
}
