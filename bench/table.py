#!/usr/bin/env python3
"""table.py RESULTS.csv: medians of all rounds, ratios to the peers, and each target with 'reached' or 'falls short'."""
import csv
import statistics
import sys

rows = {}
with open(sys.argv[1]) as f:
    for row in csv.DictReader(f):
        rows.setdefault((row["suite"], row["mode"], row["peer"]), []).append(row)


def median(suite, mode, peer, column="cpu_us"):
    values = [float(r[column]) for r in rows.get((suite, mode, peer), [])]
    return statistics.median(values) if values else None


def table(suite, peers, base):
    modes = list(dict.fromkeys(m for s, m, _ in rows if s == suite))
    if not modes:
        return
    columns = "".join("%10s" % ("/ " + b) for b in base)
    print("\n%-8s %-13s %9s %7s %7s %s %9s %8s %8s %8s %8s %5s" % (
        suite, "peer", "CPU us", "min", "max", columns, "req/s", "p99 ms", "idle MB", "load MB", "start ms", "bad"))
    for mode in modes:
        for peer in peers:
            all_rows = rows.get((suite, mode, peer))
            if not all_rows:
                continue
            costs = [float(r["cpu_us"]) for r in all_rows]
            ratios = ""
            for b in base:
                other = median(suite, mode, b)
                ratios += "%10s" % ("%.2f" % (statistics.median(costs) / other) if other else "-")
            number = lambda column: median(suite, mode, peer, column)
            print("%-16s %-13s %9.2f %7.2f %7.2f %s %9.0f %8.1f %8.1f %8.1f %8.0f %5d" % (
                mode, peer, statistics.median(costs), min(costs), max(costs), ratios, number("rps"), number("p99_us") / 1000,
                number("idle_mb"), number("after_mb"), number("start_ms"), sum(int(r["bad"]) for r in all_rows)))


def target(what, value, limit, goal=None, unit="x"):
    if value is None:
        return
    word = "reached" if value <= limit else "falls short"
    print("%-58s %8.2f %-2s of %8.2f  %-11s%s" % (
        what, value, unit, limit, word, "  (goal %.2f%s)" % (goal, "" if value > goal else ", reached") if goal else ""))


def ratio(suite, mode, peer):
    return quotient(median(suite, mode, "postern"), median(suite, mode, peer))


def to_ours(mode, other):
    return quotient(median("http", mode, "postern"), median("http", other, "postern"))


def quotient(ours, other):
    return ours / other if ours and other else None


table("http", ["haproxy", "nginx", "envoy", "hyper", "postern", "postern-logs"], ["haproxy", "envoy", "hyper"])
table("tls", ["haproxy", "nginx", "postern"], ["haproxy", "nginx"])
print("\ntargets")
for mode, limit, goal in (("plain", 1.2, 1.0), ("key-1k", 1.1, 0.95), ("key-1m", 0.95, 0.85)):
    target(f"{mode}: CPU per request, of HAProxy's", ratio("http", mode, "haproxy"), limit, goal)
for mode in ("plain", "key-1k", "key-1m"):
    target(f"{mode}: CPU per request, of a bare hyper proxy's", ratio("http", mode, "hyper"), 1.15)
target("key-1m: memory after the load", median("http", "key-1m", "postern", "after_mb"), 200, unit="MB")
target("key-1m: start from the last-good file", (median("http", "key-1m", "postern", "start_ms") or 0) / 1000 or None, 2, unit="s")
target("plain: memory when idle", median("http", "plain", "postern", "idle_mb"), 30, unit="MB")
target("TLS, HTTP/1.1 kept alive: CPU per request, of HAProxy's", ratio("tls", "h1", "haproxy"), 1.2)
target("TLS, HTTP/2: CPU per request, of nginx's", ratio("tls", "h2", "nginx"), 1.2)
target("TLS, a new connection each: CPU per request, of nginx's", ratio("tls", "conn", "nginx"), 1.1)
for mode, limit, goal in (("jwt-hs256", 0.85, 0.75), ("jwt-rs256", 0.8, 0.7), ("jwt-es256", 0.85, 0.78)):
    target(f"{mode}: CPU per request, of HAProxy's", ratio("http", mode, "haproxy"), limit, goal)
target("jwt-rs256-cached: CPU per request, of Envoy's", ratio("http", "jwt-rs256-cached", "envoy"), 0.4, 0.33)
for mode, limit in (("bearer-memory", 1.1), ("bearer-file", 1.1), ("oidc-session", 1.5), ("oidc-bearer", 1.2)):
    target(f"{mode}: CPU per request, of our own key-1k's", to_ours(mode, "key-1k"), limit)
for mode in ("routes-100", "routes-10k"):
    target(f"{mode}: CPU per request, of our own routes-1's", to_ours(mode, "routes-1"), 1.1)
target("upstream-oauth: CPU per request, of our own plain's", to_ours("upstream-oauth", "plain"), 1.1)
logs, without = median("http", "plain", "postern-logs"), median("http", "plain", "postern")
if logs and without:
    print("the access log costs %.2f us per request (%.0f %%)" % (logs - without, (logs / without - 1) * 100))
