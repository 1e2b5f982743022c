-- Rotates over the routes in $POOL, a host and a path a line; the result as one line.
local reqs, i = {}, 0
function init()
  for l in io.lines(os.getenv("POOL")) do
    local host, path = l:match("(%S+) (%S+)")
    reqs[#reqs + 1] = wrk.format("GET", path, { Host = host })
  end
end
function request()
  i = i % #reqs + 1
  return reqs[i]
end
function done(s, l)
  io.write(string.format("RESULT n=%d us=%d bad=%d err=%d p50=%d p99=%d\n", s.requests, s.duration,
    s.errors.status, s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout,
    l:percentile(50), l:percentile(99)))
end
