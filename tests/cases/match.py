"""Matchers: what a case expects against what came. See FORMAT.md."""
import base64
import hashlib
import json
import re
import time
import urllib.parse

import jose

MISSING = object()


OPS = {"re", "present", "absent", "not", "in", "b64json", "jwt", "contains", "uri", "len", "any_of", "range", "has", "eq",
       "not_contains"}


def match(case, exp, act, where, errs):
    """exp: scalar = equality; {op: ..} = see OPS; other dict = subset; list = element-wise."""
    if isinstance(exp, dict) and exp and set(exp) <= OPS:
        for op, a in exp.items():
            if op == "absent":
                if (act is MISSING) != bool(a):
                    errs.append("%s: expected absent, got %r" % (where, short(act)))
                continue
            if act is MISSING and op != "any_of":
                errs.append("%s: missing" % where)
                continue
            if op == "present":
                continue
            if op == "re":
                if not re.search(str(case.resolve(a)), str(act)):
                    errs.append("%s: %r !~ /%s/" % (where, short(act), a))
            elif op == "contains":
                if str(case.resolve(a)) not in str(act):
                    errs.append("%s: %r lacks %r" % (where, short(act), a))
            elif op == "not_contains":
                if str(case.resolve(a)) in str(act):
                    errs.append("%s: %r must not contain %r" % (where, short(act), a))
            elif op == "not":
                if str(case.resolve(a)) == str(act):
                    errs.append("%s: must not be %r" % (where, a))
            elif op == "in":
                if str(act) not in [str(case.resolve(x)) for x in a]:
                    errs.append("%s: %r not in %r" % (where, short(act), a))
            elif op == "eq":
                match(case, a, act, where, errs)
            elif op == "has":
                if not isinstance(act, (list, str)) or case.resolve(a) not in act:
                    errs.append("%s: %r has no %r" % (where, short(act), a))
            elif op == "len":
                if len(act) != a:
                    errs.append("%s: length %d != %d" % (where, len(act), a))
            elif op == "range":
                try:
                    ok = a[0] <= float(act) <= a[1]
                except (TypeError, ValueError):
                    ok = False
                if not ok:
                    errs.append("%s: %r not in range %r" % (where, short(act), a))
            elif op == "any_of":
                for x in a:
                    e = []
                    match(case, x, act, where, e)
                    if not e:
                        break
                else:
                    errs.append("%s: %r fits none of %r" % (where, short(act), a))
            elif op == "b64json":
                try:
                    s = str(act)
                    try:
                        v = json.loads(base64.b64decode(s + "=" * (-len(s) % 4)))
                    except Exception:
                        v = json.loads(base64.urlsafe_b64decode(s + "=" * (-len(s) % 4)))
                except Exception:
                    errs.append("%s: not base64 JSON: %r" % (where, short(act)))
                    continue
                match(case, a, v, where + "<b64json>", errs)
            elif op == "jwt":
                try:
                    h, c, _, _ = jose.decode(str(act))
                except Exception:
                    errs.append("%s: not a JWT: %r" % (where, short(act)))
                    continue
                match(case, a.get("header", {}), h, where + ".header", errs)
                match(case, a.get("claims", {}), c, where + ".claims", errs)
                if "verify" in a:
                    v = case.resolve(a["verify"])
                    if not jose.verify(str(act), v["alg"], v.get("secret"), v.get("key")):
                        errs.append("%s: JWT signature does not verify with %r" % (where, v))
                for lo, hi in [a["lifetime"]] if "lifetime" in a else []:
                    left = float(c.get("exp", 0)) - time.time()
                    if not lo <= left <= hi:
                        errs.append("%s: exp in %.0fs, expected %s..%s" % (where, left, lo, hi))
            elif op == "uri":
                p = urllib.parse.urlsplit(str(act))
                base = "%s://%s%s" % (p.scheme, p.netloc, p.path) if p.netloc else p.path
                if "base" in a:
                    match(case, a["base"], base, where + ".base", errs)
                if "path" in a:
                    match(case, a["path"], p.path, where + ".path", errs)
                if "host" in a:
                    match(case, a["host"], p.netloc, where + ".host", errs)
                for part, text in (("query", p.query), ("fragment", p.fragment)):
                    if part in a:
                        q = {k: (v[0] if len(v) == 1 else v) for k, v in urllib.parse.parse_qs(text, keep_blank_values=True).items()}
                        match(case, a[part], q, where + "." + part, errs)
                    if "no_" + part in a and text:
                        errs.append("%s: unexpected %s %r" % (where, part, text))
        return
    if isinstance(exp, dict):
        if not isinstance(act, dict):
            errs.append("%s: expected object, got %r" % (where, short(act)))
            return
        for k, v in exp.items():
            match(case, v, act.get(case.resolve(k), MISSING), "%s.%s" % (where, k), errs)
        return
    if isinstance(exp, list):
        if not isinstance(act, list) or len(act) != len(exp):
            errs.append("%s: %r != %r" % (where, short(act), exp))
            return
        for i, (e, a) in enumerate(zip(exp, act)):
            match(case, e, a, "%s[%d]" % (where, i), errs)
        return
    exp = case.resolve(exp)
    if exp is MISSING:
        if act is MISSING:
            errs.append("%s: missing" % where)
        return
    if act is MISSING:
        errs.append("%s: missing, expected %r" % (where, exp))
    elif isinstance(exp, bool) or isinstance(act, bool):
        if exp is not act:
            errs.append("%s: %r != %r" % (where, short(act), exp))
    elif exp is None:
        if act is not None:
            errs.append("%s: %r != null" % (where, short(act)))
    elif str(exp) != str(act):
        errs.append("%s: %r != %r" % (where, short(act), exp))


def short(x):
    s = x if isinstance(x, (int, float, bool)) else str(x) if x is not MISSING else "<missing>"
    return s if not isinstance(s, str) or len(s) < 300 else s[:300] + "..."


def one(d, k):
    v = d.get(k.lower())
    return MISSING if v is None else (v[0] if len(v) == 1 else v)


class HDict(dict):
    def get(self, k, default=None):
        v = dict.get(self, k.lower())
        return default if v is None else (v[0] if len(v) == 1 else v)


class QDict(dict):
    def get(self, k, default=None):
        v = dict.get(self, k)
        return default if v is None else (v[0] if len(v) == 1 else v)


def check_record(case, exp, rec, where, errs):
    for k, v in exp.items():
        if k == "headers":
            match(case, v, HDict(rec["headers"]), where + ".headers", errs)
        elif k in ("query", "form", "multipart"):
            act = rec.get(k)
            if act is None:
                errs.append("%s.%s: absent" % (where, k))
            else:
                match(case, v, QDict(act), "%s.%s" % (where, k), errs)
        elif k == "basic":
            want = "Basic " + base64.b64encode(str(case.resolve(v)).encode()).decode()
            match(case, want, HDict(rec["headers"]).get("authorization", MISSING), where + ".authorization", errs)
        elif k in ("method", "path", "target", "body", "json", "via_proxy"):
            match(case, v, rec.get(k, MISSING), "%s.%s" % (where, k), errs)
        else:
            errs.append("%s: unknown expectation %s" % (where, k))


def check(case, e, r, env):
    errs = []
    if "status" in e:
        st = e["status"]
        if isinstance(st, list):
            if r.status not in st:
                errs.append("status %d not in %s" % (r.status, st))
        elif isinstance(st, dict):
            match(case, st, r.status, "status", errs)
        elif r.status != st:
            errs.append("status %d != %s (body %r)" % (r.status, st, short(r.body)))
    if "headers" in e:
        match(case, e["headers"], HDict(r.headers), "headers", errs)
    if "json" in e:
        match(case, e["json"], r.json, "json", errs)
    if "json_exact" in e:
        match(case, e["json_exact"], r.json, "json", errs)
        if isinstance(r.json, dict) and isinstance(e["json_exact"], dict):
            want = {k for k, v in e["json_exact"].items() if not (isinstance(v, dict) and v.get("absent"))}
            extra = set(r.json) - want
            if extra:
                errs.append("json: unexpected members %s" % sorted(extra))
    if "body" in e:
        match(case, e["body"], r.body, "body", errs)
    if "set_cookie" in e:
        ok = False
        for sc in r.headers.get("set-cookie", []):
            ee = []
            for rx in e["set_cookie"]:
                if not re.search(case.resolve(rx), sc, re.I):
                    ee.append(rx)
            ok = ok or not ee
        if not ok:
            errs.append("set-cookie: none of %r has all of %r" % (r.headers.get("set-cookie"), e["set_cookie"]))
    if "upstream" in e:
        u = e["upstream"]
        if u is False:
            if r.upstream:
                errs.append("upstream was reached but must not be")
        elif not r.upstream:
            errs.append("upstream was not reached (status %d, body %r)" % (r.status, short(r.body)))
        elif isinstance(u, dict):
            check_record(case, u, r.upstream[-1], "upstream", errs)
    for ep, x in (e.get("idp") or {}).items():
        seen = env["idp"].seen(case.id, ep)
        if "count" in x:
            c = x["count"]
            if isinstance(c, list):
                if not c[0] <= len(seen) <= c[1]:
                    errs.append("idp.%s: %d calls, expected %s" % (ep, len(seen), c))
            elif len(seen) != c:
                errs.append("idp.%s: %d calls, expected %d" % (ep, len(seen), c))
        for name, idx in (("last", -1), ("first", 0)):
            if name in x:
                if not seen:
                    errs.append("idp.%s: never called" % ep)
                else:
                    check_record(case, x[name], seen[idx], "idp.%s" % ep, errs)
        if "distinct_claim" in x:
            got = []
            for rec in seen:
                try:
                    got.append(jose.decode(rec["form"]["client_assertion"][0])[1].get(x["distinct_claim"]))
                except Exception:
                    got.append(None)
            if None in got or len(set(got)) != len(got):
                errs.append("idp.%s: assertion claim %s repeats or is absent: %r" % (ep, x["distinct_claim"], got))
        if "any" in x:
            for want in x["any"]:
                for rec in seen:
                    ee = []
                    check_record(case, want, rec, "", ee)
                    if not ee:
                        break
                else:
                    errs.append("idp.%s: no call fits %r (saw %d)" % (ep, want, len(seen)))
    if "distinct" in e:
        vals = [str(case.lookup(x)) for x in e["distinct"]]
        if len(set(vals)) != len(vals):
            errs.append("values of %s are not distinct" % e["distinct"])
    if "same" in e:
        vals = {str(case.lookup(x)) for x in e["same"]}
        if len(vals) != 1:
            errs.append("values of %s differ" % e["same"])
    if "pkce" in e:                       # {challenge: var, verifier_at: token}
        seen = env["idp"].seen(case.id, "token")
        v = (seen[-1].get("form", {}).get("code_verifier") or [""])[0] if seen else ""
        want = jose.b64u(hashlib.sha256(v.encode()).digest())
        if want != str(case.lookup(e["pkce"]["challenge"])):
            errs.append("code_verifier does not hash to the code_challenge")
        if not 43 <= len(v) <= 128:
            errs.append("code_verifier length %d" % len(v))
    return errs


def extract(case, spec, r):
    kind, _, rest = spec.partition(":")
    if kind == "json":
        v = r.json
        for p in rest.split("."):
            v = v.get(p, MISSING) if isinstance(v, dict) else MISSING
        return v
    if kind == "header":
        v = r.headers.get(rest.lower())
        return v[0] if v else MISSING
    if kind == "upstream_header":
        v = r.upstream[-1]["headers"].get(rest.lower()) if r.upstream else None
        return v[0] if v else MISSING
    if kind in ("query_of", "fragment_of"):
        src, _, name = rest.rpartition(":")
        s = extract(case, src, r)
        if s is MISSING:
            return MISSING
        p = urllib.parse.urlsplit(s)
        v = urllib.parse.parse_qs(p.query if kind == "query_of" else p.fragment).get(name)
        return v[0] if v else MISSING
    if kind == "path_of":
        s = extract(case, rest, r)
        p = urllib.parse.urlsplit(s)
        return p.path + ("?" + p.query if p.query else "")
    raise KeyError(spec)
