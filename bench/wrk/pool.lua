-- Rotates over the credentials in $POOL, a line each, sent as the header $HEADER behind $PREFIX; the result as one line.
local reqs, i = {}, 0
function init()
  local name, prefix = os.getenv("HEADER"), os.getenv("PREFIX") or ""
  for l in io.lines(os.getenv("POOL")) do
    reqs[#reqs + 1] = wrk.format("GET", "/", { [name] = prefix .. l })
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
