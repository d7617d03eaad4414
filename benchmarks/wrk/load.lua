-- Requests of `bench.py` for wrk: one thread for each node, another key in every request.
-- Arguments: get|put|same, keys, bytes of a value, prefix of new keys, query, addresses host:port...
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  kind, keys, bytes, prefix, query = args[1], tonumber(args[2]), tonumber(args[3]), args[4], args[5]
  if query == "-" then query = "" end
  math.randomseed(os.time() + 7919 * number)
  counter = 0
  local host = args[6 + number % (#args - 5)]
  local address, port = host:match("^(.*):(%d+)$")
  wrk.thread.addr = wrk.lookup(address, port)[1]
  tail = query .. " HTTP/1.1\r\nHost: " .. host .. "\r\n"
  body = "Content-Length: " .. bytes .. "\r\n\r\n" .. string.rep("v", bytes)
end

function request()
  if kind == "put" then
    counter = counter + 1
    return "PUT /v1/kv/" .. prefix .. number .. "-" .. counter .. tail .. body
  elseif kind == "get" then
    return "GET /v1/kv/key-" .. math.random(0, keys - 1) .. tail .. "\r\n"
  end
  return "GET " .. prefix .. tail .. "\r\n"
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"operations": %d, "seconds": %.6f, "failed": %d, "p50": %.3f, "p99": %.3f, "p999": %.3f}\n',
    summary.requests, summary.duration / 1e6,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3))
end
