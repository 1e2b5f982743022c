"""A browser without a screen: cookies, redirects, and the forms of identity providers.

browser.py START UNTIL NAME PASSWORD: walks from START until the next address begins with UNTIL, and prints that.
"""

import http.cookiejar
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from html.parser import HTMLParser


class Form(HTMLParser):
    """The first form of a page: its action, method, fields and buttons."""

    def __init__(self, html):
        super().__init__()
        self.action, self.method = None, "get"
        self.fields, self.kinds = [], {}
        self.inside, self.id = False, None
        self.button_taken = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "form" and self.action is None:
            self.action, self.method = a.get("action") or "", (a.get("method") or "get").lower()
            self.inside, self.id = True, a.get("id")
        elif tag in ("input", "button") and a.get("name") and (
                self.inside or (self.id and a.get("form") == self.id)):
            kind = (a.get("type") or ("submit" if tag == "button" else "text")).lower()
            if kind == "submit":
                if self.button_taken:
                    return
                self.button_taken = True
            if kind in ("checkbox", "radio") and "checked" not in a:
                return
            self.kinds[a["name"]] = kind
            self.fields.append((a["name"], a.get("value") or ""))

    def handle_endtag(self, tag):
        if tag == "form":
            self.inside = False


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


class Browser:
    def __init__(self, headers=None):
        # Providers mark cookies Secure on plain-HTTP loopback too, as browsers accept there.
        policy = http.cookiejar.DefaultCookiePolicy(secure_protocols=("https", "wss", "http"))
        self.cookies = http.cookiejar.CookieJar(policy)
        self.opener = urllib.request.build_opener(
            NoRedirect, urllib.request.HTTPCookieProcessor(self.cookies), urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=ssl.create_default_context()))
        self.headers = {"Accept": "text/html", **(headers or {})}
        # Which cookies it loses, by their names, as soon as it gets them.
        self.loses = lambda name: False
        self.trace = []

    def request(self, url, fields=None):
        """One request; returns (status, headers, text) and never follows."""
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        req = urllib.request.Request(url, data, self.headers)
        try:
            resp = self.opener.open(req, timeout=30)
        except urllib.error.HTTPError as err:
            resp = err
        with resp:
            text = resp.read().decode("utf-8", "replace")
        self.trace.append((req.get_method(), url, resp.status))
        self.lose(self.loses)
        return resp.status, resp.headers, text

    def lose(self, which):
        for cookie in [c for c in self.cookies if which(c.name)]:
            self.cookies.clear(cookie.domain, cookie.path, cookie.name)

    def cookie(self, prefix):
        """What it would send of the cookies whose names begin so."""
        return "; ".join(f"{c.name}={c.value}" for c in self.cookies if c.name.startswith(prefix))

    def follow(self, url, until=None, username="", password="", fields=None, limit=25):
        """Walks redirects and forms. Returns (url, fields, status, text):
        the address that begins with `until` (not requested), or the page it ended on."""
        submitted = set()
        for _ in range(limit):
            if until and url.startswith(until):
                return url, fields, None, None
            status, headers, text = self.request(url, fields)
            if 300 <= status < 400 and headers.get("Location"):
                url, fields = urllib.parse.urljoin(url, headers["Location"]), None
                continue
            form = Form(text)
            if status != 200 or form.action is None:
                return url, None, status, text
            values, shape = [], (form.action.split("?")[0], tuple(sorted(form.kinds)))
            if shape in submitted and "password" in form.kinds.values():
                return url, None, status, text  # the same login form again: refused
            submitted.add(shape)
            for name, value in form.fields:
                kind = form.kinds[name]
                if kind == "password":
                    value = password
                elif kind in ("text", "email") and not value:
                    value = username
                values.append((name, value))
            url = urllib.parse.urljoin(url, form.action)
            if form.method == "get":
                url, fields = url.split("?")[0] + "?" + urllib.parse.urlencode(values), None
            else:
                fields = values
        raise RuntimeError("too many steps: %s" % self.trace)


def main():
    start, until, username, password = sys.argv[1:]
    url, _, status, text = Browser().follow(start, until, username, password)
    if status is not None:
        sys.exit(f"ended at {url} with {status}: {text}")
    print(url)


if __name__ == "__main__":
    main()
