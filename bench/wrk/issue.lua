-- Asks for a token in an application's own name; $SECRET is the application's; the result as one line.
wrk.method = "POST"
wrk.path = "/oauth2/token"
wrk.body = "grant_type=client_credentials&client_id=bench&client_secret=" .. os.getenv("SECRET")
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
wrk.headers["X-Forwarded-Proto"] = "https"
function done(s, l)
  io.write(string.format("RESULT n=%d us=%d bad=%d err=%d p50=%d p99=%d\n", s.requests, s.duration,
    s.errors.status, s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout,
    l:percentile(50), l:percentile(99)))
end
