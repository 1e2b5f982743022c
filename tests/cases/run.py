#!/usr/bin/env python3
"""Runs the acceptance cases against a gateway, from outside. See FORMAT.md.

  run.py --cases key-auth.yaml [--known FILE] [--base http://127.0.0.1:8000] [--https-base https://127.0.0.1:8443]
         [--adapter adapter] [--echo-port 9801] [--idp-port 9802] [--only REGEX] [--system key-auth]
         [--tag t] [--skip-tag slow] [--no-apply] [--jobs 8] [--report out.json] [--list] [-v]

HTTP is stdlib http.client so that duplicate headers, empty values and raw targets go out exactly as written.
Exit status: 0 all as expected, 1 some not, 2 set-up trouble.
"""
import argparse
import base64
import concurrent.futures as cf
import http.client
import importlib
import inspect
import json
import os
import re
import ssl
import sys
import threading
import time
import traceback
import urllib.parse

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import jose  # noqa: E402
from match import MISSING, check, extract, short  # noqa: E402
from servers import Echo, MockIdP  # noqa: E402

TPL = re.compile(r"<<([^<>]+)>>")


class Case:
    def __init__(self, d, env):
        self.d = d
        self.id = d["id"]
        self.env = env
        self.idp = d.get("idp") or {}
        self.tokens = d.get("tokens") or {}
        self.vars = {}
        self.made = {}
        self.jar = {}
        self.lock = threading.RLock()
        self.idp_base = env["idp"].base + "/" + self.id

    # -- templates ---------------------------------------------------------------------
    def lookup(self, name):
        name = name.strip()
        if name in self.vars:
            return self.vars[name]
        if name in self.tokens:
            with self.lock:
                if name not in self.made:
                    self.made[name] = jose.make(self.resolve(self.tokens[name]))
                return self.made[name]
        m = re.fullmatch(r"(now|nowstr|nowf)([+-]\d+)?", name)
        if m:
            t = int(time.time()) + int(m.group(2) or 0)
            return {"now": t, "nowstr": str(t), "nowf": t + 0.5}[m.group(1)]
        if name == "idp":
            return self.idp_base
        if name == "idp_origin":
            return self.env["idp"].base
        if name == "echo":
            return "http://127.0.0.1:%d" % self.env["echo"].port
        if name == "host":
            return self.id + ".test"
        pre, _, arg = name.partition(":")
        if pre == "host":
            return arg + "." + self.id + ".test"
        if pre == "pem":
            return jose.public_pem(arg)
        if pre == "pem-private":
            return jose.private_pem(arg)
        if pre == "consumer_id":
            v = self.env["ids"].get("consumers", {}).get(arg)
            return v if v is not None else MISSING      # unknown to the adapter: presence is enough
        if pre == "tail":           # <<tail:var:n>> all but first n chars of a token
            v, n = arg.rsplit(":", 1)
            return str(self.lookup(v))[int(n):]
        if pre == "part":           # <<part:token:i>> one dot-separated piece of a token
            v, i = arg.rsplit(":", 1)
            return str(self.lookup(v)).split(".")[int(i)]
        if pre == "urlenc":
            return urllib.parse.quote(str(self.lookup(arg)), safe="")
        raise KeyError("unknown template <<%s>>" % name)

    def resolve(self, v):
        if isinstance(v, str):
            m = TPL.fullmatch(v)
            if m:
                return self.lookup(m.group(1))
            return TPL.sub(lambda m: str(self.lookup(m.group(1))), v)
        if isinstance(v, list):
            return [self.resolve(x) for x in v]
        if isinstance(v, dict):
            return {self.resolve(k): self.resolve(x) for k, x in v.items()}
        return v

    def jwk(self, x):
        if isinstance(x, str):
            return jose.jwk(x)
        x = dict(x)
        return jose.jwk(x.pop("key"), **x)

    # -- objects for the adapter ----------------------------------------------------------
    def objects(self):
        o = self.resolve(self.d.get("objects") or {})
        return expand(self.id, o, self.lookup("echo"))


def expand(cid, o, echo):
    """Turn a case's compact objects into the flat lists the adapter gets."""
    out = {"services": [], "routes": [], "plugins": [], "consumers": [], "credentials": []}
    svcs = {s["name"]: s for s in o.get("services", [])}
    routes = o.get("routes", [])
    for r in routes:
        svcs.setdefault(r.get("service", "svc"), {"name": r.get("service", "svc")})
    for s in svcs.values():
        name = cid + "-" + s["name"]
        out["services"].append({"name": name, "url": s.get("url", echo), "case": cid})
        for i, p in enumerate(s.get("plugins", [])):
            out["plugins"].append({"name": p["name"], "config": p.get("config") or {}, "service": name, "case": cid,
                                   "instance": "%s-%s-%d" % (name, p["name"], i)})
    for r in routes:
        n = r.get("name", "main")
        name = cid + "-" + n
        out["routes"].append({"name": name, "hosts": [r.get("host", (cid if n == "main" else n + "." + cid) + ".test")],
                              "paths": [r.get("path", "/")], "service": cid + "-" + r.get("service", "svc"),
                              "strip_path": False, "preserve_host": True, "case": cid})
        for i, p in enumerate(r.get("plugins", [])):
            out["plugins"].append({"name": p["name"], "config": p.get("config") or {}, "route": name, "case": cid,
                                   "instance": "%s-%s-%d" % (name, p["name"], i)})
    for c in o.get("consumers", []):
        out["consumers"].append({"username": c.get("username"), "custom_id": c.get("custom_id"), "id": c.get("id"), "case": cid})
        for t in ("key-auth", "jwt", "oauth2"):
            for i, cr in enumerate(c.get(t, [])):
                d = dict(cr)
                d.update(type=t, consumer=c.get("username"), case=cid,
                         label=d.get("label") or "%s-%s-%d" % (c.get("username"), t, i))
                out["credentials"].append(d)
    return out


def merge(objs):
    out = {"services": [], "routes": [], "plugins": [], "consumers": [], "credentials": []}
    for o in objs:
        for k in out:
            out[k].extend(o[k])
    return out


# ---- HTTP --------------------------------------------------------------------------------
class Resp:
    pass


def encode_request(case, s):
    headers = []
    h = s.get("headers") or []
    for k, v in (h.items() if isinstance(h, dict) else [tuple(x) for x in h]):
        headers.append((k, str(case.resolve(v))))
    body = None
    ctype = s.get("ctype")
    if "form" in s:
        f = case.resolve(s["form"])
        body = f if isinstance(f, str) else urllib.parse.urlencode(f if isinstance(f, dict) else [tuple(x) for x in f], doseq=True)
        ctype = ctype or "application/x-www-form-urlencoded"
    elif "json" in s:
        body = json.dumps(case.resolve(s["json"]))
        ctype = ctype or "application/json"
    elif "multipart" in s:
        b = "----gwcases7f3a"
        body = "".join('--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (b, k, v)
                       for k, v in case.resolve(s["multipart"]).items()) + "--%s--\r\n" % b
        ctype = "multipart/form-data; boundary=" + b
    elif "body" in s:
        body = case.resolve(s["body"])
    if ctype and not any(k.lower() == "content-type" for k, _ in headers):
        headers.append(("Content-Type", ctype))
    return headers, (body.encode() if isinstance(body, str) else body)


def send(case, s, step_no, env):
    route = s.get("route")
    host = case.resolve(s["host"]) if "host" in s else ((route + "." if route else "") + case.id + ".test")
    base = env["https_base"] if s.get("scheme") == "https" else env["base"]
    u = urllib.parse.urlsplit(base)
    target = case.resolve(s.get("path", "/request"))
    if "query" in s:
        q = case.resolve(s["query"])
        target += "?" + (q if isinstance(q, str) else urllib.parse.urlencode(q, doseq=True))
    headers, body = encode_request(case, s)
    method = s.get("method") or ("POST" if body is not None else "GET")
    jar = case.jar.setdefault(host, {})
    if case.d.get("jar") and s.get("cookies") != "none":
        if s.get("cookies") == "tamper":
            def bad(v):
                i = len(v) // 2
                return v[:i] + ("A" if v[i] != "A" else "B") + v[i + 1:]
            pairs = ["%s=%s" % (k, bad(v)) for k, v in jar.items()]
        elif s.get("cookies") == "truncate":
            pairs = ["%s=%s" % (k, v[: len(v) // 2]) for k, v in jar.items()]
        elif str(s.get("cookies", "")).startswith("from:"):   # another route's cookies
            src = case.jar.get(s["cookies"][5:] + "." + case.id + ".test" if s["cookies"] != "from:main" else case.id + ".test", {})
            pairs = ["%s=%s" % kv for kv in src.items()]
        else:
            pairs = ["%s=%s" % kv for kv in jar.items()]
        if pairs:
            headers.append(("Cookie", "; ".join(pairs)))
    tag = "%s#%d" % (case.id, step_no)
    if u.scheme == "https":
        ctx = ssl._create_unverified_context()
        conn = http.client.HTTPSConnection(u.hostname, u.port, timeout=env["timeout"], context=ctx)
    else:
        conn = http.client.HTTPConnection(u.hostname, u.port, timeout=env["timeout"])
    try:
        conn.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        names = {k.lower() for k, _ in headers}
        if "host" not in names:
            conn.putheader("Host", host)
        conn.putheader("X-Case", tag)
        for k, v in headers:
            conn.putheader(k, v.encode("utf-8"))
        if body is not None and "content-length" not in names:
            conn.putheader("Content-Length", str(len(body)))
        elif body is None and method in ("POST", "PUT", "PATCH") and "content-length" not in names:
            conn.putheader("Content-Length", "0")
        conn.endheaders()
        if body:
            conn.send(body)
        r = conn.getresponse()
        data = r.read()
    finally:
        conn.close()
    out = Resp()
    out.status = r.status
    out.headers = {}
    for k, v in r.getheaders():
        out.headers.setdefault(k.lower(), []).append(v)
    out.body = data.decode("utf-8", "replace")
    try:
        out.json = json.loads(out.body)
    except ValueError:
        out.json = MISSING
    out.tag = tag
    out.upstream = env["echo"].seen(tag)
    if case.d.get("jar") and s.get("cookies") != "none":
        for sc in out.headers.get("set-cookie", []):
            first, *attrs = [x.strip() for x in sc.split(";")]
            n, _, v = first.partition("=")
            low = {a.split("=")[0].lower(): a.partition("=")[2] for a in attrs}
            dead = low.get("max-age") == "0" or "1970" in low.get("expires", "") or v == ""
            if dead:
                jar.pop(n, None)
            else:
                jar[n] = v
    return out


# ---- running -------------------------------------------------------------------------------
def run_case(case, env):
    t0 = time.time()
    res = {"id": case.id, "system": case.d["system"], "title": case.d["title"],
           "tags": case.d.get("tags", []), "errors": []}
    ad = env["adapter"]
    try:
        if "reject" in case.d:
            if not hasattr(ad, "try_apply"):
                res["skipped"] = "adapter has no try_apply"
                return res
            accepted, msg = ad.try_apply(case.objects())
            want = not case.d["reject"]
            if accepted != want:
                res["errors"].append("configuration %s but should be %s (%s)" % (
                    "accepted" if accepted else "refused", "accepted" if want else "refused", short(msg)))
            return res
        for i, st in enumerate(case.d["steps"]):
            if "sleep" in st:
                time.sleep(st["sleep"])
                continue
            if "apply" in st or "delete" in st:
                if not hasattr(ad, "update"):
                    res["skipped"] = "adapter has no update"
                    return res
                echo = case.lookup("echo")
                ad.update(apply=expand(case.id, case.resolve(st["apply"]), echo) if "apply" in st else None,
                          delete=expand(case.id, case.resolve(st["delete"]), echo) if "delete" in st else None)
                ad.wait_programmed()
                continue
            s = st["send"]
            n = s.get("parallel", 1)
            if n > 1:
                with cf.ThreadPoolExecutor(n) as ex:
                    rs = list(ex.map(lambda _: send(case, s, i, env), range(n)))
            else:
                rs = [send(case, s, i, env)]
            # values saved by a step may be used in its own expectations
            for k, spec in (st.get("save") or {}).items():
                v = extract(case, spec, rs[-1])
                if v is MISSING:
                    res["errors"].append("step %d: cannot save %s from %s (status %d, body %r)" % (
                        i, k, spec, rs[-1].status, short(rs[-1].body)))
                case.vars[k] = "" if v is MISSING else v
            for r in rs:
                for e in check(case, st.get("expect") or {}, r, env):
                    res["errors"].append("step %d: %s" % (i, e))
            if res["errors"]:
                break
    except NotImplementedError as e:
        res["skipped"] = "adapter: %s" % e
    except Exception as e:
        res["errors"].append("exception: %r" % e)
        if env.get("verbose"):
            traceback.print_exc()
    res["seconds"] = round(time.time() - t0, 3)
    return res


def load(files):
    out = []
    for f in files:
        with open(f) as fh:
            out.extend(yaml.load(fh, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["cases"])
    ids = [c["id"] for c in out]
    dup = {i for i in ids if ids.count(i) > 1}
    if dup:
        raise SystemExit("duplicate case ids: %s" % dup)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--base", default="http://127.0.0.1:8000")
    ap.add_argument("--https-base")
    ap.add_argument("--adapter", default="adapter")
    ap.add_argument("--cases", nargs="+", required=True)
    ap.add_argument("--known", help="list of cases that are known to fail: id and reason")
    ap.add_argument("--echo-port", type=int, default=9801)
    ap.add_argument("--idp-port", type=int, default=9802)
    ap.add_argument("--only")
    ap.add_argument("--system")
    ap.add_argument("--tag")
    ap.add_argument("--skip-tag", action="append", default=[])
    ap.add_argument("--jobs", type=int, default=8)
    ap.add_argument("--timeout", type=float, default=15)
    ap.add_argument("--report")
    ap.add_argument("--dump-objects")
    ap.add_argument("--no-apply", action="store_true")
    ap.add_argument("--list", action="store_true")
    ap.add_argument("-v", "--verbose", action="store_true")
    a = ap.parse_args()

    cases = load(a.cases)
    if a.only:
        cases = [c for c in cases if re.search(a.only, c["id"])]
    if a.system:
        cases = [c for c in cases if c["system"] in a.system.split(",")]
    if a.tag:
        cases = [c for c in cases if a.tag in c.get("tags", [])]
    skip = set(a.skip_tag)
    if not a.https_base:
        skip.add("needs-tls")
    cases = [c for c in cases if not skip & set(c.get("tags", []))]
    if a.list:
        for c in cases:
            print("%-44s %-15s %s" % (c["id"], c["system"], c["title"]))
        print(len(cases), "cases")
        return 0

    ad = None if a.dump_objects else importlib.import_module(a.adapter)
    if hasattr(ad, "rewrite_case"):
        cases = [ad.rewrite_case(c) for c in cases]
    env = {"base": a.base, "https_base": a.https_base, "timeout": a.timeout, "ids": {}, "verbose": a.verbose, "adapter": ad}
    env["echo"] = Echo(a.echo_port)
    env["idp"] = MockIdP(a.idp_port)
    objs = [Case(c, env) for c in cases]
    for c in objs:
        env["idp"].cases[c.id] = c
    live = [c for c in objs if "reject" not in c.d]
    if a.dump_objects:
        with open(a.dump_objects, "w") as f:
            json.dump(merge([c.objects() for c in live]), f, indent=1, default=str)
        return 0
    if hasattr(ad, "configure"):
        tls = {"https_base": a.https_base} if "https_base" in inspect.signature(ad.configure).parameters else {}
        ad.configure(base=a.base, echo=env["echo"].port, idp=env["idp"].port, **tls)
    if not a.no_apply:
        try:
            ids = ad.apply(merge([c.objects() for c in live]))
            if isinstance(ids, dict):
                env["ids"] = ids
            ad.wait_programmed()
        except Exception as e:
            print("set-up failed: %r" % e, file=sys.stderr)
            traceback.print_exc()
            return 2
    # cases that change the configuration or time things run alone, the rest in parallel
    alone = [c for c in objs if {"dynamic", "slow", "serial"} & set(c.d.get("tags", [])) or "reject" in c.d]
    para = [c for c in objs if c not in alone]
    results = []
    with cf.ThreadPoolExecutor(a.jobs) as ex:
        results += list(ex.map(lambda c: run_case(c, env), para))
    slow = [c for c in alone if "dynamic" not in c.d.get("tags", []) and "reject" not in c.d and "serial" not in c.d.get("tags", [])]
    with cf.ThreadPoolExecutor(max(a.jobs, 8)) as ex:
        results += list(ex.map(lambda c: run_case(c, env), slow))
    for c in alone:
        if c not in slow:
            results.append(run_case(c, env))
    known = load_known(a.known)
    bad = report(results, known, a.verbose)
    if a.report:
        with open(a.report, "w") as f:
            json.dump({"results": sorted(results, key=lambda r: r["id"])}, f, indent=1)
    return 1 if bad else 0


def load_known(path):
    """Case id -> why it is known to fail."""
    if not path:
        return {}
    with open(path) as f:
        return {k["id"]: k["reason"] for k in yaml.safe_load(f) or []}


def report(results, known, verbose):
    """Prints what is not as expected and the sum; returns the number of such cases. A case that is known to fail and
    passes counts as well, so that the list stays true."""
    bad = passed = skipped = 0
    for r in sorted(results, key=lambda r: r["id"]):
        why = known.get(r["id"])
        if r.get("skipped"):
            skipped, word, lines = skipped + 1, "skip", [r["skipped"]]
        elif why and r["errors"]:
            skipped, word, lines = skipped + 1, "known", [why]
        elif why:
            bad, word, lines = bad + 1, "FAIL", ["passes, but is listed as known to fail: take it off the list"]
        elif r["errors"]:
            bad, word, lines = bad + 1, "FAIL", r["errors"]
        else:
            passed, word, lines = passed + 1, "ok", []
        if word != "ok" or verbose:
            print("%-5s %s  %s" % (word, r["id"], r["title"]))
            for line in lines:
                print("       ", line)
    print("%d passed, %d failed, %d skipped" % (passed, bad, skipped))
    return bad


if __name__ == "__main__":
    sys.exit(main())
