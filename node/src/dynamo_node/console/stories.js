// Eleven short stories: a question, a prediction, and what real nodes then do. `play` makes the fault,
// tries it, and returns which of the choices has come true; it knows no answer beforehand.

const all_of = (lab, ...names) => lab.names.filter((name) => !names.includes(name));
const cut_off = async (lab, node) => {
  for (const other of all_of(lab, node)) {
    await lab.fault({ fault: "cut", source: node, target: other });
    await lab.fault({ fault: "cut", source: other, target: node });
  }
};
const has = (records, node, value) =>
  records.copies.some((c) => c.node === node && !c.target && c.siblings.some((s) => lab_text(s) === value));
const lab_text = (sibling) => (sibling.value ? atob(sibling.value) : "");
const acked = (put) => `status ${put.status}, acks ${put.acks || "none"}`;

export const STORIES = [
  {
    id: "down", title: "One owner is dead", needs: 4, see: "failure-and-repair", paper: "4.6",
    question: "N=3, R=2, W=2, one node down: what happens to writes?",
    choices: ["They succeed; the next node on the ring keeps the third copy", "They are refused until the node is back", "They succeed, and the third copy is never made"],
    why: "A sloppy quorum: the first N healthy nodes of the preference list take the write. The stand-in keeps the copy as a hint, with the name of the owner, and delivers it when the owner is back.",
    async play(lab) {
      const [a, , c] = lab.owners;
      await lab.fault({ fault: "kill", node: c }, `${c} is killed (kill -9)`);
      const put = await lab.put(a, "eggs", { w: 2 });
      lab.say(`put through ${a} with W=2: ${acked(put)}`);
      if (put.status !== 204) return 1;
      const hint = await lab.sees((r) => r.copies.find((x) => x.target === c));
      lab.say(hint ? `${hint.node} keeps the copy of ${c} as a hint` : "no node keeps a copy for it");
      await lab.fault({ fault: "start", node: c }, `${c} starts again`);
      const home = await lab.sees((r) => has(r, c, "eggs") && !r.copies.some((x) => x.target));
      lab.say(home ? `the hint has reached ${c} and is gone` : `${c} has no copy`);
      return home ? 0 : 2;
    },
  },
  {
    id: "two-down", title: "Two of three owners are dead", needs: 5, see: "quorums", paper: "4.6",
    question: "Two of the three owners of a key are down. W is 2. Can the key still be written and read?",
    choices: ["No: a majority of its owners is gone", "It can be read, not written", "Yes: stand-ins count for W, and a read asks them too"],
    why: "Dynamo is always writeable: stand-ins count. The price: if the last owner dies too, a reader may miss what only stand-ins have. A put with dw or a strict quorum asks for more.",
    async play(lab) {
      const [a, b, c] = lab.owners;
      await lab.fault({ fault: "kill", node: b }, `${b} is killed`);
      await lab.fault({ fault: "kill", node: c }, `${c} is killed`);
      const put = await lab.put(a, "milk", { w: 2 });
      lab.say(`put through ${a} with W=2: ${acked(put)}`);
      const got = await lab.get(a, { r: 2 });
      lab.say(`read through ${a} with R=2: ${got.values.join(", ") || `status ${got.status}`}`);
      return put.status === 204 && got.values.includes("milk") ? 2 : got.status === 200 ? 1 : 0;
    },
  },
  {
    id: "frozen", title: "A node hangs", needs: 3, see: "failure-and-repair", paper: "4.8",
    question: "An owner hangs: its connections stay open, and it answers nothing. What does a read with R=2 do?",
    choices: ["It fails when its time is over", "The other owners answer it", "It returns an old value"],
    why: "A node that is silent is asked no more than it must be: when an answer is late, the next owner is asked as well (hedged reads), and after suspect_ms the node counts as down.",
    async play(lab) {
      const [a, b] = lab.owners;
      await lab.put(a, "tea", { w: 3 });
      await lab.fault({ fault: "freeze", node: b }, `${b} is stopped (SIGSTOP); its sockets stay open`);
      const began = performance.now();
      const got = await lab.get(a, { r: 2 });
      lab.say(`read through ${a}: ${got.values.join(", ") || `status ${got.status}`}, after ${Math.round(performance.now() - began)} ms`);
      return got.status !== 200 ? 0 : got.values.join() === "tea" ? 1 : 2;
    },
  },
  {
    id: "split", title: "Both sides of a cut", needs: 3, see: "causality", paper: "4.4", cannot: "cut",
    question: "The network splits. A client on each side changes the same cart, with W=1. What does a reader get after the cut?",
    choices: ["The later change", "The change of the larger side", "Both changes, for the application to merge"],
    why: "Neither writer had seen the other's change, so none is newer: vector clocks say concurrent. Dynamo keeps both and lets the reader merge.",
    async play(lab) {
      const [a, b] = lab.owners;
      await lab.put(a, "bread", { w: 3 });
      const { context } = await lab.get(a, { r: 3 });
      await cut_off(lab, a);
      lab.say(`all links of ${a} are cut, both ways`);
      const left = await lab.put(a, "bread, jam", { w: 1, context });
      const right = await lab.put(b, "bread, honey", { w: 1, context });
      lab.say(`through ${a}: “bread, jam”, status ${left.status}; through ${b}: “bread, honey”, status ${right.status}`);
      await lab.heal();
      const got = await lab.reads((g) => g.values.length > 1);
      lab.say(`a read after the cut: ${got.values.map((v) => `“${v}”`).join(" and ")}`);
      return got.values.length === 2 ? 2 : got.values[0] === "bread, honey" ? 1 : 0;
    },
  },
  {
    id: "alone", title: "A node alone", needs: 4, see: "quorums", paper: "4.5", cannot: "cut",
    question: "One owner is cut off from all other nodes. Its client puts with W=2. What happens?",
    choices: ["The put is refused, and may take effect all the same", "The node keeps hints for the others and says yes", "It says yes now and takes it back after the cut"],
    why: "W=2 means two nodes have it. The node cannot say yes, and it cannot take its own copy back: an honest answer is “maybe applied”. The client tries again, with its context.",
    async play(lab) {
      const [a, b] = lab.owners;
      await cut_off(lab, a);
      lab.say(`all links of ${a} are cut, both ways`);
      const put = await lab.put(a, "salt", { w: 2, timeout_ms: 4000 });
      lab.say(`put through ${a} with W=2: ${acked(put)}, applied: ${put.applied || "yes"}`);
      if (put.status === 204) return 1;
      await lab.heal();
      const got = await lab.reads((g) => g.values.includes("salt"), b);
      lab.say(got.values.includes("salt") ? `after the cut a reader gets it from ${b}` : "after the cut no node has it");
      return got.values.includes("salt") ? 0 : 2;
    },
  },
  {
    id: "one-way", title: "Half a link", needs: 3, see: "failure-and-repair", paper: "4.8", cannot: "cut",
    question: "A's bytes reach B, but B's bytes do not reach A. For whom is the other one up?",
    choices: ["For B alone, because it hears A", "For neither of them: half a link is no link", "For both, until a request fails"],
    why: "A frame is served only if its sender has heard this very process lately. So a link that works one way counts as broken at both ends, and no node takes work that it cannot acknowledge.",
    async play(lab) {
      const [a, b] = lab.owners;
      await lab.fault({ fault: "cut", source: b, target: a }, `bytes of ${b} no longer reach ${a}`);
      const seen = async () => [(await lab.status(a)).peers[b], (await lab.status(b)).peers[a]];
      await lab.until(async () => (await seen()).includes("down"));
      await lab.until(async () => (await seen()).every((word) => word === "down"), 4000);
      const [for_a, for_b] = await seen();
      lab.say(`${a} says that ${b} is ${for_a}; ${b} says that ${a} is ${for_b}`);
      const put = await lab.put(a, "oil", { w: 2 });
      lab.say(`a put through ${a} with W=2 goes to others: ${acked(put)}`);
      return for_a === "down" && for_b === "down" ? 1 : for_b === "up" ? 0 : 2;
    },
  },
  {
    id: "wiped", title: "A disk is lost", needs: 3, see: "failure-and-repair", paper: "4.7",
    question: "An owner loses its disk and starts with an empty one. What becomes of its data?",
    choices: ["An administrator must copy it back", "It is gone: two copies stay", "The other owners give it all back"],
    why: "The node takes its own place again under its name. It compares hash trees with the other owners and fetches what differs. Until it is complete, its “not found” is no evidence.",
    async play(lab) {
      const [a, , c] = lab.owners;
      await lab.put(a, "rice", { w: 3 });
      await lab.fault({ fault: "wipe", node: c }, `the disk of ${c} is replaced by an empty one`);
      const got = await lab.get(a, { r: 2 });
      lab.say(`meanwhile a read with R=2: ${got.values.join() || `status ${got.status}`}`);
      const back = await lab.sees((r) => has(r, c, "rice"), 60_000);
      lab.say(back ? `${c} has its copy again` : `${c} has no copy`);
      return back ? 2 : 1;
    },
  },
  {
    id: "rolled-back", title: "Yesterday's disk", needs: 3, see: "durability", paper: "4.4",
    question: "A person puts an old copy of a disk back into a node. The node has counted further since the copy was made. Are its numbers used twice?",
    choices: ["No: each start counts under a new name, and the newer value comes back", "Yes: two values share a number, and one is lost", "The node refuses to start"],
    why: "A dot is (actor, counter), and the actor is born in memory with each start. So no old disk can make a number again. What the old disk lacks comes from the other owners.",
    async play(lab) {
      const [a, , c] = lab.owners;
      await lab.fault({ fault: "copy", node: c }, `a copy of the disk of ${c} is kept`);
      await lab.ready();
      await lab.put(c, "one", { w: 3 });
      const before = (await lab.records()).copies.flatMap((x) => x.siblings.map((s) => s.dot))[0];
      lab.say(`${c} writes “one” as ${before.slice(0, 6)}…:${before.split(":")[1]}`);
      await lab.fault({ fault: "rollback", node: c }, `the old disk is put back into ${c}`);
      await lab.ready();
      const put = await lab.put(c, "two", { w: 2 });
      const got = await lab.reads((g) => g.values.length > 1, a);
      const dots = (await lab.records()).copies.flatMap((x) => x.siblings.map((s) => s.dot));
      const mine = dots.find((dot) => dot !== before);
      lab.say(`${c} writes “two” (${put.status}) as ${mine ? `${mine.slice(0, 6)}…:${mine.split(":")[1]}` : "the same number"}`);
      lab.say(`a read gets ${got.values.map((v) => `“${v}”`).join(" and ")}`);
      return mine && got.values.includes("one") && got.values.includes("two") ? 0 : put.status ? 1 : 2;
    },
  },
  {
    id: "full", title: "A full disk", needs: 3, see: "durability", paper: "4.6", cannot: "fill",
    question: "The disk of an owner is full. What still works for its keys?",
    choices: ["Nothing until there is room", "Reads alone", "Reads and writes: other nodes take the writes"],
    why: "The node refuses writes that it cannot keep, and says so to the coordinator, which takes the next node of the preference list. What is on its disk it still serves.",
    async play(lab) {
      const [a, , c] = lab.owners;
      await lab.put(a, "old", { w: 3 });
      const { context } = await lab.get(a, { r: 3 });
      await lab.fault({ fault: "fill", node: c }, `files of ${c} can no longer grow`);
      const got = await lab.get(c, { r: 1 });
      lab.say(`read through ${c}: ${got.values.join() || `status ${got.status}`}`);
      const put = await lab.put(a, "new", { w: 2, context });
      lab.say(`put through ${a} with W=2: ${acked(put)}`);
      await lab.fault({ fault: "empty", node: c }, `there is room again on the disk of ${c}`);
      const home = await lab.sees((r) => has(r, c, "new"), 60_000);
      lab.say(home ? `${c} has caught up` : `${c} has not caught up`);
      return put.status === 204 && got.status === 200 ? 2 : got.status === 200 ? 1 : 0;
    },
  },
  {
    id: "skewed", title: "A clock an hour ahead", needs: 3, see: "causality", paper: "4.4",
    question: "A node's clock is an hour ahead. It writes “first”. Then a client reads that and writes “second” through a node with the right time. What does a reader get?",
    choices: ["“first”: it has the later time", "“second”: its writer had seen the first", "Both values"],
    why: "Versions are ordered by what their writers had seen, never by a clock. Only expiries and the last-writer-wins merge of a client look at the wall clock.",
    async play(lab) {
      const [a, , c] = lab.owners;
      await lab.fault({ fault: "skew", node: c, ahead_s: 3600 }, `${c} runs with a clock that is an hour ahead`);
      await lab.ready();
      await lab.put(c, "first", { w: 3 });
      const { context } = await lab.get(a, { r: 3 });
      await lab.put(a, "second", { w: 3, context });
      const got = await lab.get(a, { r: 3 });
      lab.say(`a read gets ${got.values.map((v) => `“${v}”`).join(" and ")}`);
      return got.values.length > 1 ? 2 : got.values[0] === "second" ? 1 : 0;
    },
  },
  {
    id: "deleted", title: "Deleted or added?", needs: 3, see: "data-model", paper: "4.4",
    question: "Two clients have read a cart. One deletes it, the other adds an item. What does a reader get?",
    choices: ["The added item: a delete covers only what its client has seen", "Nothing: a delete is final", "An error until an administrator decides"],
    why: "A delete is a put of a tombstone. It takes away what its context covers, and the item was not there. “Add to cart” is never lost; a deleted item may come back, as the paper says.",
    async play(lab) {
      const [a, b] = lab.owners;
      await lab.put(a, "apple", { w: 3 });
      const { context } = await lab.get(a, { r: 3 });
      const gone = await lab.remove(a, { context, w: 3 });
      const put = await lab.put(b, "apple, pear", { context, w: 3 });
      lab.say(`delete: status ${gone.status}; put of “apple, pear” with the same context: status ${put.status}`);
      const got = await lab.get(a, { r: 3 });
      lab.say(`a read gets ${got.values.map((v) => `“${v}”`).join(" and ") || `nothing (${got.status})`}`);
      return got.values.includes("apple, pear") ? 0 : got.status === 404 ? 1 : 2;
    },
  },
];
