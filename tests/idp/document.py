"""docs/openid-connect-keycloak.md, done as it says: its files, its commands, and what they must answer.

document.py POSTERN ECHO: ECHO is the binary postern-echo. Ports are fixed: use run.sh, which gives it a network of its own.
"""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys

import lab

DOCUMENT = lab.HERE / "../../docs/openid-connect-keycloak.md"
FENCED = re.compile(r"^```(\w+) ?(.*)\n((?:.*\n)*?)^```$", re.MULTILINE)
# In what is expected: any text, or a name for it.
HOLE = re.compile(r"…|\$([A-Z_]+)")
# On standard error behind each answer.
STATUS = re.compile(r"^status (\d+)$", re.MULTILINE)


class Keycloak(lab.Issuer):
    """Where the document has it, with nothing in it."""

    program = "keycloak.sh"
    environment = {"KC_PORT": "8080"}


class Reader:
    """Does what the document says, in a folder of its own."""

    def __init__(self, folder, postern):
        (folder / "bin").mkdir()
        (folder / "bin" / "postern").symlink_to(postern)
        (folder / ".curlrc").write_text('noproxy = "*"\nwrite-out = "%{stderr}\\nstatus %{http_code}\\n"\n')
        self.folder = folder
        self.environment = {
            **os.environ, "CURL_HOME": str(folder), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "POSTERN_STATE_DIR": str(folder / "state"),
        }
        self.names = {}

    def do(self, command):
        """What it printed, and the status of its last answer."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=self.folder, env={**self.environment, **self.names},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )
        statuses = STATUS.findall(done.stderr)
        assert done.returncode == 0 and statuses, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout, statuses[-1]

    def check(self, command, kind, status, expected):
        printed, found = self.do(command)
        assert found == status, f"{command}\nstatus {found}\n{printed}"
        if kind == "json":
            why = self.differs(json.loads(expected), json.loads(printed), "")
            assert why is None, f"{command}\n{why}\n{printed}"
            return
        lines = printed.splitlines()
        for line in expected.splitlines():
            assert any(self.fits(line, printed) for printed in lines), f"{command}\n{line}\nis not in\n{printed}"

    def differs(self, expected, found, at):
        """Where they do, if they do."""
        if expected == "…":
            return None
        if isinstance(expected, str) and isinstance(found, str) and self.fits(expected, found):
            return None
        if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() == found.keys():
            parts = [(f"{at}.{name}", expected[name], found[name]) for name in expected]
        elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
            parts = [(f"{at}[{n}]", *both) for n, both in enumerate(zip(expected, found))]
        else:
            return None if expected == found else f"{at}: expected {expected}, found {found}"
        return next((why for at, *both in parts if (why := self.differs(*both, at))), None)

    def fits(self, expected, found):
        """Names are given to what they stand for."""
        def part(hole):
            name = hole[1]
            if name is None:
                return ".*"
            return re.escape(self.names[name]) if name in self.names else f"(?P<{name}>.+)"
        pieces, end = [], 0
        for hole in HOLE.finditer(expected):
            pieces += [re.escape(expected[end:hole.start()]), part(hole)]
            end = hole.end()
        matched = re.fullmatch("".join(pieces) + re.escape(expected[end:]), found)
        if matched:
            self.names.update(matched.groupdict())
        return bool(matched)


def main():
    postern, echo = map(pathlib.Path, sys.argv[1:])
    blocks = FENCED.findall(DOCUMENT.read_text())
    with lab.scene(Keycloak()) as folder, lab.program(folder, echo), contextlib.ExitStack() as running:
        reader = Reader(folder, postern)
        count = 0
        for (kind, title, text), (then, status, expected) in zip(blocks, [*blocks[1:], ("", "", "")]):
            if kind == "sh" and status.isdecimal():
                reader.check(text, then, status, expected)
                count += 1
            elif kind == "sh":
                # What answers nothing is left running.
                command = ["bash", "-c", f"exec {text}"]
                process = running.enter_context(lab.program(folder, *command, **reader.environment))
                lab.wait_ready(process)
            elif not title.isdecimal():
                (folder / title).write_text(text)
        assert count > 20, f"{count} commands"
        lab.hidden(folder, [value for name, value in reader.names.items() if name.endswith("TOKEN")])
    print(f"ok   the {count} commands of {DOCUMENT.name}")


if __name__ == "__main__":
    main()
