-- One fixed request; the result as one line.
function done(s, l)
  io.write(string.format("RESULT n=%d us=%d bad=%d err=%d p50=%d p99=%d\n", s.requests, s.duration,
    s.errors.status, s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout,
    l:percentile(50), l:percentile(99)))
end
