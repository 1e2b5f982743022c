#!/usr/bin/env python3
"""Check licences, bans and sources of every dependency against deny.toml.

A small part of what cargo-deny does, for machines that do not have it: building
cargo-deny takes longer than building Postern. Advisories are cargo-deny's alone.
"""
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def satisfied(expression, allowed):
    """Whether a licence expression (SPDX, or Cargo's old `A/B`) can be met by `allowed`."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either():
        value = both()
        while peek() == "OR":
            take()
            value = both() or value
        return value

    def both():
        value = single()
        while peek() == "AND":
            take()
            value = single() and value
        return value

    def single():
        token = take()
        if token == "(":
            value = either()
            if take() != ")":
                raise ValueError(expression)
            return value
        if peek() == "WITH":
            take()
            token = f"{token} WITH {take()}"
        return token in allowed

    value = either()
    if peek() is not None:
        raise ValueError(expression)
    return value


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    allowed = set(rules["licenses"]["allow"])
    banned = {entry["crate"] for entry in rules["bans"]["deny"]}
    # `cargo tree`, not `cargo metadata`: the latter also lists what no feature in force pulls in.
    packages = set()
    for target in rules["graph"]["targets"]:
        command = ["cargo", "tree", "--workspace", "--edges=normal,build,dev", "--prefix=none",
                   "--format={p}\t{l}", f"--target={target}"]
        tree = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
        packages.update(line for line in tree.splitlines() if line.strip())

    problems = []
    for package in packages:
        described, licence = package.removesuffix(" (*)").split("\t")
        # NAME vVERSION, then in brackets where it comes from, if not from the registry.
        name, version, *source = described.replace(" (proc-macro)", "").split(" ", 2)
        if name in banned:
            problems.append(f"{name} {version} is banned: see [bans] in deny.toml, and `cargo tree -i {name}`")
        if not licence:
            problems.append(f"{name} {version} names no licence")
        elif not satisfied(licence, allowed):
            problems.append(f"{name} {version} is under `{licence}`, which [licenses] in deny.toml does not allow")
        if source and not source[0].startswith(f"({ROOT}"):
            problems.append(f"{name} {version} does not come from a registry: {source[0]}")
    for problem in sorted(problems):
        print(f"deny.py: {problem}", file=sys.stderr)
    print(f"{len(packages)} packages, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
