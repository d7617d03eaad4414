// How old a read can be: live PBS. The curve of the ring, of any other R and W, and what canaries saw.
import uPlot from "./vendor/uplot.js";
import { Level, Mark, document_of, html, marks_of, plural, useEffect, usePoll, useRef, useState } from "./parts.js";

const ASK_MS = 60_000; // a node computes for up to a second, so an open page asks rarely
const COPIES_MAX = 7;
const LEAST = { more: 0.0005, less: 0.05 }; // a smaller change, of a share or of milliseconds, is none
const HEIGHT = 320;
const NARROW = 520;

const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(share > 0.9999 && share < 1 ? 3 : share > 0.99 && share < 1 ? 2 : 1)}%`);
const millis = (ms) => (ms === null || ms === undefined ? "longer" : ms >= 100 ? `${Math.round(ms)} ms` : `${ms.toFixed(1)} ms`);
/** A time of a setting; none while nodes that it needs are down. */
const took = (times, which) => (times ? millis(times[which]) : "–");
const soon_of = (setting) => (setting.possible ? soon(setting.fresh_999_ms) : "–");
const soon = (ms) => (ms === 0 ? "at once" : millis(ms));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const line_of = (found, r, w) => found.settings.find((s) => s.r === r && s.w === w);

/** Times on a logarithmic axis; 0 stands at half of the first one. */
function axis_of(found) {
  const first = found.t_ms.find((t) => t > 0) || 1;
  return { place: (t) => (t > 0 ? t : first / 2), words: (x) => (x < first ? "0" : x >= 1000 ? x / 1000 + " s" : x + " ms") };
}

/** Measured shares at the middle of their times, on the times of the whole picture. */
function series_of(found, canary, chosen, present, axis) {
  const points = (canary?.points || []).filter((p) => p.reads > 0 && p.measured !== null)
    .map((p) => [axis.place(p.from_ms > 0 ? Math.sqrt(p.from_ms * p.to_ms) : p.to_ms / 2), 100 * p.measured]);
  const times = [...new Set([...found.t_ms.map(axis.place), ...points.map(([x]) => x)])].sort((a, b) => a - b);
  const curve = (setting) => times.map((x) => {
    const at = found.t_ms.findIndex((t) => axis.place(t) === x);
    return at < 0 || !setting.fresh ? undefined : 100 * setting.fresh[at];
  });
  const measured = times.map((x) => (points.find(([at]) => at === x) || [0, null])[1]);
  return [times, curve(present), curve(chosen), measured];
}

function Curve({ found, chosen, present, canary }) {
  const place = useRef(null);
  const [drawn, setDrawn] = useState(0);
  useEffect(() => {
    const again = () => setDrawn((n) => n + 1);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", again);
    addEventListener("resize", again);
    return () => (scheme.removeEventListener("change", again), removeEventListener("resize", again));
  }, []);
  useEffect(() => {
    const axis = axis_of(found), width = place.current.clientWidth;
    const data = series_of(found, canary, chosen, present, axis);
    const low = Math.min(99, ...data.slice(1).flat().filter((y) => typeof y === "number"));
    const words = { stroke: colour("--soft"), font: "13px system-ui, sans-serif", grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const plot = new uPlot({
      width, height: width < NARROW ? HEIGHT * 0.75 : HEIGHT, legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false, distr: 3, log: 10 }, y: { range: [Math.max(0, Math.floor(low / 5) * 5 - 2), 100.5] } },
      axes: [
        { ...words, values: (_, splits) => splits.map((x) => (Math.log10(x) % 1 === 0 ? axis.words(x) : "")), label: "time between the write's acknowledgement and the read", labelFont: words.font },
        { ...words, values: (_, splits) => splits.map((y) => y + "%"), size: 56 },
      ],
      series: [
        {},
        { stroke: colour("--soft"), width: 2, dash: [7, 5], spanGaps: true, points: { show: false } },
        { stroke: colour("--accent"), width: 3, spanGaps: true, points: { show: false } },
        { stroke: colour("--bad"), width: 0, paths: () => null, points: { show: true, size: 9, width: 2, stroke: colour("--bad"), fill: colour("--card") } },
      ],
    }, data, place.current);
    return () => plot.destroy();
  }, [found, chosen, present, canary, drawn]);
  const words = `R=${chosen.r}, W=${chosen.w}: ` + (chosen.possible
    ? `${percent(chosen.fresh_at_once)} of reads see the last write at once; 99.9% after ${millis(chosen.fresh_999_ms)}` : "not possible while nodes are down");
  return html`<figure class="curve"><div ref=${place} role="img" aria-label=${words}></div>
    <figcaption><span class="sign line"></span> predicted for R=${chosen.r}, W=${chosen.w}${found.n === found.ring_n ? "" : `, N=${found.n}`} <span class="sign dash"></span> the ring as it is, R=${present.r}, W=${present.w}
      <span class="sign dot"></span> measured by canaries</figcaption></figure>`;
}

function Bought({ chosen, present, n }) {
  const change = (now, then, better) => {
    if (now == null || then == null || Math.abs(then - now) < LEAST[better]) return "";
    const good = better === "more" ? then > now : then < now;
    return html`<${Level} level=${good ? "good" : "busy"}>${then > now ? "+" : "−"}${better === "more" ? (100 * Math.abs(then - now)).toFixed(1) + " points" : millis(Math.abs(then - now))}<//>`;
  };
  const rows = [
    ["reads that see the last write at once", percent(chosen.fresh_at_once), change(present.fresh_at_once, chosen.fresh_at_once, "more")],
    ["99.9% of reads see it after", soon_of(chosen), change(present.fresh_999_ms, chosen.fresh_999_ms, "less")],
    ["a read takes, p99", took(chosen.read_ms, "p99"), change(present.read_ms?.p99, chosen.read_ms?.p99, "less")],
    ["a write takes, p99", took(chosen.write_ms, "p99"), change(present.write_ms?.p99, chosen.write_ms?.p99, "less")],
  ];
  return html`<table class="bought"><caption>${chosen === present ? "The ring as it is" : `What ${n ? `N=${n}, ` : ""}R=${chosen.r}, W=${chosen.w} would buy and cost`}</caption>
    <tbody>${rows.map(([name, value, more]) => html`<tr><th scope="row">${name}</th><td class="num"><b>${value}</b></td><td>${more}</td></tr>`)}</tbody></table>`;
}

function Slider({ name, value, most, words, onValue }) {
  return html`<label class="slide"><span>${name} = <b>${value}</b></span>
    <input type="range" min="1" max=${most} value=${value} disabled=${!onValue} aria-valuetext=${`${name} = ${value}`} onInput=${(e) => onValue && onValue(+e.target.value)} /><small>${words}</small></label>`;
}

function Canary({ canary }) {
  if (!canary || !canary.reads)
    return html`<p class="empty">No canary has been read. <code>canaries_per_minute</code> lets each node write canary keys and read them through another node, to measure what is predicted here.</p>`;
  return html`<p><b>${plural(canary.reads, "read")}</b> of canary keys in the last minutes: <b>${percent(canary.measured)}</b> were fresh, <b>${percent(canary.predicted)}</b> were predicted for the same times.</p>`;
}

export function StalenessPage({ cluster }) {
  const [copies, setCopies] = useState(0); // 0: as many as the ring keeps
  const [wanted, setWanted] = useState(null);
  const own = usePoll(() => document_of("/v1/staleness"), "staleness", ASK_MS);
  const other = usePoll(async () => (copies ? document_of("/v1/staleness?n=" + copies) : null), copies, ASK_MS);
  const marks = marks_of(cluster.members);
  const ready = copies && other.found && other.found.n === copies && other.found.settings.length;
  const found = ready && own.found ? other.found : own.found;
  const error = own.error || other.error;
  const again = () => (own.again(), other.again());
  const lead = html`<div class="lead"><h1>Staleness</h1><p>A read may miss the last write: it asked owners that the write had not reached yet. The delays of real requests
      say how likely that is, for this ring and for any other N, R and W. Small quorums are fast, large ones are fresh: move the sliders to see the price.</p></div>`;
  if (!found || !found.settings.length)
    return html`<section class="page">${lead}<p class="empty">${error ? `${error.message}.` : found ? "No delay has been sampled yet: read and write some keys." : "The node collects delays and computes…"}</p>
      ${(found || error) && html`<button onClick=${again}>Ask again</button>`}</section>`;
  const present = own.found.settings.find((s) => s.present) || own.found.settings[0];
  const as_is = found === own.found;
  const most = Math.max(found.ring_n, Math.min(COPIES_MAX, cluster.members.length));
  const low = (x) => Math.min(x, found.n);
  const chosen = line_of(found, low(wanted ? wanted.r : present.r), low(wanted ? wanted.w : present.w)) || present;
  const set = (more) => setWanted({ r: chosen.r, w: chosen.w, ...more });
  return html`<section class="page">${lead}
    <div class="split staleness"><div class="card"><${Slider} name="N" value=${copies || found.n} most=${most} words="copies of every key; fixed when a ring is made" onValue=${(n) => setCopies(n === found.ring_n ? 0 : n)} />
      <${Slider} name="R" value=${chosen.r} most=${found.n} words="owners that must answer a read" onValue=${(r) => set({ r })} />
      <${Slider} name="W" value=${chosen.w} most=${found.n} words="nodes that must have a write" onValue=${(w) => set({ w })} />
      <p>${chosen.overlap ? html`<${Level} level="good">R + W > N: they overlap<//>` : html`<${Level} level="busy">R + W ≤ N: a read may miss a write<//>`}
        ${!chosen.possible && html` <${Level} level="bad">not possible while nodes are down<//>`}</p>
      <button disabled=${chosen === present} onClick=${() => (setWanted(null), setCopies(0))}>As the ring is</button>
      <span role="status">${copies > 0 && as_is && html` ${other.error ? html`<${Level} level="bad">${other.error.message}<//>` : "The node computes…"}`}</span>
      <${Bought} chosen=${chosen} present=${present} n=${as_is ? 0 : found.n} /></div>
    <div class="card"><${Curve} ...${{ found, chosen, present }} canary=${own.found.canary} /><${Canary} canary=${own.found.canary} /></div></div>
    ${found.advice.map((words) => html`<p class="advice">${words}</p>`)}
    <h2>Every choice${as_is ? "" : ` with N=${found.n}`}</h2>
    <div class="wide" tabindex="0" role="region" aria-label="Every R and W"><table class="choices"><thead><tr><th>R, W</th><th>overlap</th><th class="num">fresh at once</th><th class="num">99.9% after</th><th class="num">read p50</th><th class="num">p99</th><th class="num">write p50</th><th class="num">p99</th></tr></thead>
      <tbody>${found.settings.map((s) => html`<tr class=${s === chosen ? "lit" : ""}><td><button class="link" aria-pressed=${s === chosen} onClick=${() => set({ r: s.r, w: s.w })}>R=${s.r}, W=${s.w}</button>${s.present ? " now" : ""}</td>
        <td>${s.overlap ? "yes" : "no"}</td><td class="num">${percent(s.fresh_at_once)}</td><td class="num">${soon_of(s)}</td>
        <td class="num">${took(s.read_ms, "p50")}</td><td class="num">${took(s.read_ms, "p99")}</td><td class="num">${took(s.write_ms, "p50")}</td><td class="num">${took(s.write_ms, "p99")}</td></tr>`)}</tbody></table></div>
    <h2>The delays behind it <small>${plural(found.samples, "sample")} of ${plural(found.nodes.length, "node")}, ${plural(found.trials, "trial")}, ${Math.round(found.age_s)} s old</small></h2>
    <p class="note">W: a write on its way to an owner, A: its acknowledgement, R: a read on its way, S: its answer; p99 each.
      ${found.assumed ? " Some pairs have no samples; those of other pairs stand for them." : ""}${found.missing.length ? ` No samples came from ${found.missing.join(", ")}.` : ""}</p>
    <div class="wide" tabindex="0" role="region" aria-label="Delays"><table><thead><tr><th>from</th><th>to</th><th class="num">samples</th><th class="num">W</th><th class="num">A</th><th class="num">R</th><th class="num">S</th></tr></thead>
      <tbody>${found.delays.map((d) => html`<tr><td><${Mark} mark=${marks[d.from]} /> ${d.from}</td><td><${Mark} mark=${marks[d.to]} /> ${d.to}</td><td class="num">${d.writes + d.reads}</td>
        ${["w_ms", "a_ms", "r_ms", "s_ms"].map((k) => html`<td class="num">${d[k] ? millis(d[k].p99) : "–"}</td>`)}</tr>`)}</tbody></table></div>
    <p><button onClick=${again}>Compute again</button></p></section>`;
}
