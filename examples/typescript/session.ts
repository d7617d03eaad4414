// The README's first session: two writers that have not seen each other, and a merge that loses nothing.
import createClient from "openapi-fetch";
import type { components, paths } from "./ring.js";

const address = process.argv[2] ?? "http://127.0.0.1:7101";
const client = createClient<paths>({ baseUrl: address, headers: { Accept: "application/json" } });
const path = { key: `cart:${crypto.randomUUID()}` };

/** Writes text; with a context it replaces the values that the context covers. */
async function put(text: string, context?: string): Promise<void> {
  const { response } = await client.PUT("/v1/kv/{key}", {
    params: {
      path,
      // A write that is sent again under its request id is one write.
      header: { "Dynamo-Context": context, "Dynamo-Request-Id": crypto.randomUUID() },
    },
    body: text,
    bodySerializer: (body) => body,
    headers: { "Content-Type": "text/plain" },
  });
  if (!response.ok) throw new Error(`put: ${response.status}`);
}

/** All values of the key and their context; undefined if it has no value. */
async function get(): Promise<components["schemas"]["Values"] | undefined> {
  const { data, error, response } = await client.GET("/v1/kv/{key}", { params: { path } });
  if (response.status === 404) return undefined;
  if (error !== undefined || typeof data !== "object" || !("context" in data)) {
    throw new Error(`get: ${response.status}`);
  }
  return data;
}

const text = (value: components["schemas"]["Sibling"]) => Buffer.from(value.data, "base64").toString();

await put("milk");
await put("bread"); // this writer has not seen "milk": the ring keeps both
const both = await get();
if (both === undefined) throw new Error("the key has no value");
console.log(both.values.map(text).sort().join(" | "));

await put(both.values.map(text).sort().reverse().join(" and "), both.context);
const merged = await get();
console.log(merged?.values.map(text).join(" | "));

const deleted = await client.DELETE("/v1/kv/{key}", {
  params: { path, header: { "Dynamo-Context": merged?.context } },
});
if (!deleted.response.ok) throw new Error(`delete: ${deleted.response.status}`);
console.log((await get()) === undefined ? "gone" : "still there");
