// The ring: partitions as bands by owner rank; a key and its arc, owners, stand-ins.
import {
  Level, Mark, document_of, html, marks_of, plural, short, size, state_of, useEffect, useMemo, useState,
} from "./parts.js";

const R = 300;
const BAND = 46;
const GAP = 5;
const EDGE = 346;
const ROWS = 64;
const PATTERNS_MAX = 256; // of partitions; narrower ones have no room for a pattern
const STRAIGHT = 1 / 500; // so short an arc looks like a line, and is drawn sooner

const turn = (share) => 2 * Math.PI * share - Math.PI / 2;
const at = (radius, share) => [radius * Math.cos(turn(share)), radius * Math.sin(turn(share))];
const n = (x) => Math.round(x * 100) / 100;

/** A piece of a band, from one share of the circle to another. */
function piece(inner, outer, from, to) {
  const [ax, ay] = at(outer, from), [bx, by] = at(outer, to);
  const [cx, cy] = at(inner, to), [dx, dy] = at(inner, from);
  if (to - from < STRAIGHT) return `M${n(ax)} ${n(ay)}L${n(bx)} ${n(by)} ${n(cx)} ${n(cy)} ${n(dx)} ${n(dy)}Z`;
  const large = to - from > 0.5 ? 1 : 0;
  return `M${n(ax)} ${n(ay)}A${outer} ${outer} 0 ${large} 1 ${n(bx)} ${n(by)}` +
    `L${n(cx)} ${n(cy)}A${inner} ${inner} 0 ${large} 0 ${n(dx)} ${n(dy)}Z`;
}

/** One path a member and rank: thousands of partitions are a few shapes. Neighbours are joined. */
export function bands(entries, ranks) {
  const found = new Map();
  const q = entries.length;
  const room = q > 512 ? 0 : 0.0009;
  for (let rank = 0; rank < ranks; rank++) {
    const outer = R - rank * (BAND + GAP), inner = outer - BAND;
    for (let p = 0; p < q; ) {
      const owner = entries[p].owners[rank];
      let end = p + 1;
      if (q > 512) while (end < q && entries[end].owners[rank] === owner) end++;
      if (owner !== undefined) {
        const key = rank + " " + owner;
        const band = found.get(key) || { rank, owner, d: [] };
        band.d.push(piece(inner, outer, p / q + room, end / q - room));
        found.set(key, band);
      }
      p = end;
    }
  }
  return [...found.values()].map((band) => ({ ...band, d: band.d.join("") }));
}

/** What the middle of the ring says: the key, its owners in order, and who stands in for one that is down. */
function Middle({ ring, marks, levels, chosen, owners, place, word, moving }) {
  const wide = 66, left = (-wide * (owners.length - 1)) / 2;
  const downs = owners.filter((o) => levels[o] === "bad").length;
  const stand = place ? place.stand_ins.slice(0, Math.max(1, downs)) : [];
  const disc = (name, x, y, half, kind, words) => {
    const mark = marks[name] || { colour: 8, pattern: 0, letter: "?" };
    return html`<g class=${`disc ${kind} ${levels[name] || "bad"}`} transform=${`translate(${x} ${y})`}>
      <rect class=${"c" + mark.colour} x=${-half} y=${-half} width=${2 * half} height=${2 * half} rx=${half / 2.2} />
      <rect class="over" fill=${`url(#pattern-${mark.pattern})`} x=${-half} y=${-half} width=${2 * half} height=${2 * half} rx=${half / 2.2} />
      <text class="letter" y=${half / 3} text-anchor="middle">${mark.letter}</text>
      ${levels[name] === "bad" && html`<path class="cross" d=${`M${-half} ${-half}L${half} ${half}M${half} ${-half}L${-half} ${half}`} />`}
      <text class="small" y=${half + 17} text-anchor="middle">${words}</text></g>`;
  };
  return html`<text class="big" y="-84" text-anchor="middle">${place ? short(word, 18) : `partition ${chosen}`}</text>
    <text class="small" y="-62" text-anchor="middle">${place ? `hashes into partition ${chosen}` : "is owned by"}</text>
    ${owners.map((o, i) => disc(o, left + i * wide, -22, 23, "owner", `${i + 1}. ${short(o, 9)}`))}
    ${stand.map((o, i) => disc(o, (i - (stand.length - 1) / 2) * wide, 52, 14, "stand-in", levels[o] === "bad" ? "" : downs ? "stands in" : "would stand in"))}
    <text class="small wordy" y="102" text-anchor="middle">N=${ring.n} R=${ring.r} W=${ring.w} · epoch ${ring.epoch}${moving ? ` · ${moving} moving` : ""}</text>`;
}

export function Picture({ ring, marks, levels, chosen, place, word, lit, onChoose }) {
  const q = ring.entries.length, ranks = ring.n;
  const drawn = useMemo(() => bands(ring.entries, ranks), [ring.digest, ranks]);
  const lowest = R - ranks * (BAND + GAP);
  const moving = ring.entries.flatMap((e, p) => (e.move ? [p] : []));
  const share = (chosen + 0.5) / q;
  const owners = ring.entries[chosen] ? ring.entries[chosen].owners : [];
  function pick(event) {
    const box = event.currentTarget.getBoundingClientRect();
    const x = event.clientX - box.left - box.width / 2, y = event.clientY - box.top - box.height / 2;
    const found = (Math.atan2(y, x) + Math.PI / 2) / (2 * Math.PI);
    onChoose(Math.floor(((found + 1) % 1) * q));
  }
  function step(event) {
    const to = {
      ArrowRight: chosen + 1, ArrowDown: chosen + 1, ArrowLeft: chosen - 1, ArrowUp: chosen - 1,
      PageDown: chosen + 16, PageUp: chosen - 16, Home: 0, End: q - 1,
    };
    if (!(event.key in to)) return;
    event.preventDefault();
    onChoose((to[event.key] + q) % q);
  }
  const [hx, hy] = at(R + 28, share);
  return html`<svg class="ring" viewBox=${`${-EDGE} ${-EDGE} ${2 * EDGE} ${2 * EDGE}`} tabindex="0"
      role="slider" aria-label="Partition of the ring" aria-valuemin="0" aria-valuemax=${q - 1}
      aria-valuenow=${chosen} aria-valuetext=${`partition ${chosen}: ${owners.join(", ")}`}
      onClick=${pick} onKeyDown=${step}>
    ${Array.from({ length: ranks }, (_, rank) => html`<circle class="bed"
      r=${R - rank * (BAND + GAP) - BAND / 2} stroke-width=${BAND} />`)}
    ${drawn.map((band) => {
      const mark = marks[band.owner] || { colour: 0, pattern: 0 };
      const level = levels[band.owner] || "bad";
      return html`<g class=${`band ${level}${lit ? (lit === band.owner ? " pointed" : " dim") : ""}`} data-node=${band.owner} data-rank=${band.rank}>
        <path class=${"c" + mark.colour} d=${band.d} />
        ${q <= PATTERNS_MAX && html`<path fill=${`url(#pattern-${mark.pattern})`} d=${band.d} />`}</g>`;
    })}
    ${q <= 64 && drawn.length < 400 && ring.entries.flatMap((entry, p) => entry.owners.map((owner, rank) => {
      const [x, y] = at(R - rank * (BAND + GAP) - BAND / 2, (p + 0.5) / q);
      return html`<text class="cell" x=${x} y=${y + 5} text-anchor="middle">${marks[owner]?.letter}</text>`;
    }))}
    ${moving.length > 0 && html`<path class="moving" d=${moving.map((p) => piece(R + 5, R + 13, p / q, (p + 1) / q)).join("")}>
      <title>partitions that move: ${moving.length}</title></path>`}
    <path class="chosen" d=${piece(lowest + GAP, R + 3, chosen / q, (chosen + 1) / q)} />
    ${place !== null && html`<g class="place"><line x1=${at(R + 3, share)[0]} y1=${at(R + 3, share)[1]} x2=${hx} y2=${hy} />
      <circle cx=${hx} cy=${hy} r="9" /></g>`}
    <${Middle} ...${{ ring, marks, levels, chosen, owners, place, word }} moving=${moving.length} />
  </svg>`;
}

function Members({ members, marks, entries, owners, standIns, only, pinned, onLit, onPinned }) {
  const first = {}, held = {};
  for (const entry of entries) entry.owners.forEach((o, rank) => {
    if (!rank) first[o] = (first[o] || 0) + 1;
    held[o] = (held[o] || 0) + 1;
  });
  return html`<div class="wide" tabindex="0" role="region" aria-label="Members"><table class="members">
    <thead><tr><td></td><th>node</th><th>state</th><th>for this ${only}</th><th class="num">tokens</th><th class="num">replicas</th>
      <th class="num">complete</th><th class="num">hints held</th><th class="num">disk</th></tr></thead>
    <tbody>${members.map((m) => {
      const state = state_of(m), s = m.status;
      const rank = owners.indexOf(m.name), stand = standIns.indexOf(m.name);
      const blind = Object.entries(m.seen_by).filter(([, v]) => v === "down").map(([k]) => k);
      const hints = s ? Object.values(s.hints).reduce((sum, h) => sum + h.count, 0) : null;
      return html`<tr class=${(rank >= 0 ? "lit " : "") + state.level} data-node=${m.name}
          onMouseEnter=${() => onLit(m.name)} onMouseLeave=${() => onLit("")}>
        <td><${Mark} mark=${marks[m.name]} /></td>
        <th scope="row"><button class="link" aria-pressed=${pinned === m.name} aria-label=${`Show ${m.name} on the ring`} onFocus=${() => onLit(m.name)}
          onBlur=${() => onLit("")} onClick=${() => onPinned(pinned === m.name ? "" : m.name)}>${m.name}</button>${m.zone && html` <small>${m.zone}</small>`}</th>
        <td><${Level} level=${state.level}>${state.word}${m.answered && blind.length > 0 && ` (not for ${blind.join(", ")})`}<//></td>
        <td>${rank === 0 ? "1st owner" : rank > 0 ? `owner ${rank + 1}` : stand === 0 ? "first stand-in" : stand > 0 ? `stand-in ${stand + 1}` : ""}</td>
        <td class="num">${first[m.name] || 0}</td><td class="num">${held[m.name] || 0}</td>
        <td class="num">${s ? `${s.partitions.complete}/${s.partitions.owned}` : "–"}</td>
        <td class="num hints">${hints === null ? "–" : hints}</td><td class="num">${s ? size(s.disk_bytes) : "–"}</td></tr>`;
    })}</tbody></table></div>`;
}

function Table({ ring, marks, levels, chosen, onChoose }) {
  const page = Math.floor(chosen / ROWS), pages = Math.ceil(ring.entries.length / ROWS);
  const from = page * ROWS;
  return html`<div class="wide" tabindex="0" role="region" aria-label="Partitions"><table class="partitions">
    <caption>Partitions ${from} to ${Math.min(from + ROWS, ring.entries.length) - 1}
      ${pages > 1 && html`<span class="pages"><button disabled=${page === 0} onClick=${() => onChoose(from - ROWS)}>before</button>
        <button disabled=${page === pages - 1} onClick=${() => onChoose(from + ROWS)}>next</button></span>`}</caption>
    <thead><tr><th>partition</th>${Array.from({ length: ring.n }, (_, r) => html`<th>owner ${r + 1}</th>`)}<th></th></tr></thead>
    <tbody>${ring.entries.slice(from, from + ROWS).map((entry, i) => html`<tr class=${from + i === chosen ? "lit" : ""}>
      <td><button class="link" onClick=${() => onChoose(from + i)}>${from + i}</button></td>
      ${entry.owners.map((o) => html`<td class=${levels[o]}><${Mark} mark=${marks[o]} /> ${o}${levels[o] === "bad" ? " (down)" : ""}</td>`)}
      <td>${entry.move ? "moving" : ""}</td></tr>`)}</tbody></table></div>`;
}

export function RingPage({ cluster, ring, word, setWord }) {
  const [chosen, setChosen] = useState(0);
  const [place, setPlace] = useState(null);
  const [table, setTable] = useState(false);
  const [error, setError] = useState("");
  const [lit, setLit] = useState("");
  const [pinned, setPinned] = useState("");
  const marks = marks_of(cluster.members);
  const levels = Object.fromEntries(cluster.members.map((m) => [m.name, state_of(m).level]));
  useEffect(() => {
    if (!word) return setPlace(null), setError("");
    let gone = false;
    document_of("/v1/preference-list/" + encodeURIComponent(word)).then(
      (found) => !gone && (setPlace(found), setChosen(found.partition), setError("")),
      (failed) => !gone && setError(failed.message),
    );
    return () => { gone = true; };
  }, [word, cluster.ring.digest]);
  const choose = (p) => (setChosen(p), setPlace(null));
  const shown = Math.min(chosen, ring.entries.length - 1);
  const owners = ring.entries[shown].owners;
  const standIns = place ? place.stand_ins : [];
  return html`<section class="page">
    <div class="lead"><h1>Ring</h1>
      <p>The hash of a key is a place on the circle, and the place lies in one of ${ring.entries.length} equal partitions.${" "}
        The <b>outer band</b> shows each partition's first owner, the bands inside the other owners: ${ring.n} copies of every key. Choose a
        partition, or type a key.</p></div>
    <div class="tools"><label>Key <input class="key" value=${word} placeholder="cart:42" spellcheck="false" autocomplete="off"
        onInput=${(e) => setWord(e.target.value)} /></label>
      <button onClick=${() => setTable(!table)}>${table ? "Show as a ring" : "Show as a table"}</button>
      ${word && html`<a href="#/key">Look at this key →</a>`}
      <span role="alert">${error && html`<${Level} level="bad">${error}<//>`}</span></div>
    <div class="split">
      ${table ? html`<${Table} ...${{ ring, marks, levels, onChoose: choose }} chosen=${shown} />`
        : html`<${Picture} ...${{ ring, marks, levels, onChoose: choose }} chosen=${shown} place=${place} word=${word} lit=${lit || pinned} />`}
      <div>
        <h2>${place ? html`<span class="word">${word}</span> lies in partition ${shown}` : `Partition ${shown}`}</h2>
        <p class="owners">${owners.map((o, i) => html`<span class="chip"><${Mark} mark=${marks[o]} /> ${o} <small>owner ${i + 1}</small></span>`)}
          ${standIns.slice(0, 3).map((o, i) => html`<span class="chip stand"><${Mark} mark=${marks[o]} /> ${o} <small>stand-in ${i + 1}</small></span>`)}</p>
        <${Members} members=${cluster.members} marks=${marks} entries=${ring.entries} owners=${owners} standIns=${standIns}
          only=${place ? "key" : "partition"} pinned=${pinned} onLit=${setLit} onPinned=${setPinned} />
        <p class="note">${plural(cluster.members.length, "member")}, asked through ${cluster.asked}. A member that is down is faded on the
          ring. Point at a line, or press a name, to see where the member is; <span class="swatch moving"></span> marks partitions that move. While an owner is down,
          the first stand-in keeps its writes as hints (sloppy quorum).</p>
      </div></div></section>`;
}
