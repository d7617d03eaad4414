// What every page has in its hands: markup, requests with the token, polling, words, colours.
import { h, Fragment, render } from "./vendor/preact.js";
import { useEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
import htm from "./vendor/htm.js";

export const html = htm.bind(h);
export { Fragment, render, useEffect, useMemo, useRef, useState };

const TOKEN = "dynamo-ring-token";
export const token = {
  get: () => sessionStorage.getItem(TOKEN) || "",
  set: (word) => sessionStorage.setItem(TOKEN, word),
};

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** A request with the token; the answer as it is. Throws Refused for 401 and when no node answers. */
export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token.get()) headers.Authorization = "Bearer " + token.get();
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "this node does not answer");
  }
  if (answer.status === 401) throw new Refused(401, token.get() ? "this token is not known here" : "the node asks for a token");
  return answer;
}

/** The JSON of an answer. Throws Refused if it is none, or ends too early: the node was killed. */
export async function body_of(answer) {
  try {
    return await answer.json();
  } catch {
    throw new Refused(answer.status, `the answer ${answer.status} is not whole`);
  }
}

/** A JSON document. Throws Refused with the detail of the problem. */
export async function document_of(path, options) {
  const answer = await ask(path, options);
  const body = await body_of(answer);
  if (!answer.ok) throw new Refused(answer.status, body.detail || answer.statusText);
  return body;
}

const RETRY_MS = 5000;

/** Asks again every `every_ms` while the page is seen; `key` begins anew. A token that is not known is
 * not shown again: the node counts wrong tokens, and slows their address down. */
export function usePoll(call, key, every_ms = 2000) {
  const [seen, setSeen] = useState({ found: null, error: null });
  const again = useRef(() => {});
  useEffect(() => {
    let gone = false;
    let timer = 0;
    async function turn() {
      clearTimeout(timer);
      let wait_ms = every_ms;
      if (!document.hidden) {
        try {
          const found = await call();
          if (!gone) setSeen({ found, error: null });
        } catch (error) {
          wait_ms = error.status === 401 ? Infinity : Math.min(every_ms, RETRY_MS);
          if (!gone) setSeen((before) => ({ found: before.found, error }));
        }
      }
      clearTimeout(timer);
      if (!gone && wait_ms < Infinity) timer = setTimeout(turn, wait_ms);
    }
    again.current = turn;
    setSeen({ found: null, error: null });
    turn();
    document.addEventListener("visibilitychange", turn);
    return () => {
      gone = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", turn);
    };
  }, [key]);
  return { ...seen, again: () => again.current() };
}

// ---------------------------------------------------------------- words

export function size(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) (count /= 1000), (at += 1);
  return `${at ? count.toFixed(1) : count} ${units[at]}`;
}

export const time = (ms) => new Date(ms).toLocaleTimeString([], { hourCycle: "h23" });
export const plural = (n, one, many = one + "s") => `${n} ${n === 1 ? one : many}`;

export function bytes_of(base64) {
  return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
}

/** Bytes for people: text where they are UTF-8, else hexadecimal. */
export function text_of(base64) {
  const bytes = bytes_of(base64);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return "0x" + Array.from(bytes.slice(0, 24), (b) => b.toString(16).padStart(2, "0")).join("");
  }
}

export const short = (words, most = 18) =>
  words.length > most ? words.slice(0, most - 1) + "…" : words;

/** A value for people: what it says, or what it is. */
export function value_of(sibling, most = 18) {
  if (sibling.kind === "tombstone") return "deleted";
  if (sibling.kind === "unknown") return "?";
  if (!sibling.value && sibling.bytes) return `${size(sibling.bytes)}, not shown`;
  const words = short(text_of(sibling.value), most);
  if (sibling.kind === "expired") return `expired (${words})`;
  return words === "" ? "(empty)" : words;
}

// ---------------------------------------------------------------- members

const COLOURS = 9;
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

/** Letter, colour and pattern of each member, by name. */
export function marks_of(members) {
  const marks = {};
  members.forEach((member, at) => {
    const round = Math.floor(at / 26);
    marks[member.name] = {
      name: member.name, at, letter: LETTERS[at % 26] + (round || ""),
      colour: at % COLOURS, pattern: at % 6,
    };
  });
  return marks;
}

/** What is to be said of a member's state, the worst first. */
export function state_of(member) {
  if (!member.answered) return { word: "down", level: "bad" };
  const status = member.status;
  const parts = status.partitions;
  if (status.transfers.length) return { word: "receiving partitions", level: "busy" };
  if (parts.complete < parts.owned) return { word: "incomplete", level: "busy" };
  if (status.durability !== "ok" && status.durability !== "memory")
    return { word: status.durability, level: "busy" };
  if (member.state !== "MEMBER") return { word: member.state.toLowerCase(), level: "busy" };
  return { word: "up", level: "good" };
}

export const Mark = ({ mark }) =>
  mark
    ? html`<svg class="mark" viewBox="0 0 22 22" width="22" height="22" aria-hidden="true">
        <rect class=${"c" + mark.colour} width="22" height="22" rx="5" />
        <rect fill=${`url(#pattern-${mark.pattern})`} width="22" height="22" rx="5" />
        <text x="11" y="16" text-anchor="middle">${mark.letter}</text>
      </svg>`
    : null;

/** The patterns that stand beside colours, once a page. */
export const Patterns = () => html`<svg width="0" height="0" class="defs" aria-hidden="true"><defs>
  <pattern id="pattern-0" width="8" height="8" patternUnits="userSpaceOnUse"></pattern>
  <pattern id="pattern-1" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
    <rect class="ink" width="2" height="6" /></pattern>
  <pattern id="pattern-2" width="6" height="6" patternUnits="userSpaceOnUse">
    <circle class="ink" cx="3" cy="3" r="1.4" /></pattern>
  <pattern id="pattern-3" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">
    <rect class="ink" width="2" height="6" /></pattern>
  <pattern id="pattern-4" width="6" height="6" patternUnits="userSpaceOnUse">
    <path class="ink" d="M0 0h6v1.6H0zM0 0v6h1.600V0z" /></pattern>
  <pattern id="pattern-5" width="5" height="5" patternUnits="userSpaceOnUse">
    <rect class="ink" width="5" height="1.600" /></pattern>
</defs></svg>`;

export const Level = ({ level, children }) =>
  html`<span class=${"level " + level}><i aria-hidden="true"></i>${children}</span>`;
