"""Whatever stands in the files of a folder: nothing but diagnostics comes of it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.compiler.ruleset import RuleSet
from engine.fields import Context
from engine.language.diagnostics import SignatureError
from engine.language.lists import MAX_LIST_B
from engine.selftest import self_test
from engine.signatures import MAX_FILE_B, load
from tests.loading import ONE, SHIPPED, folder, loaded

_variables = st.sampled_from(
    [b"PORTS: ", b"A: ", b"1", b"\n", b"[", b"]", b"{", b"}", b", ", b"- ", b"&a ", b"*a", b"!!x "]
)

ASKING = """\
id: test.asking
title: Asks what stands in other files
scope: {transport: tcp}
when: |
  http.host in @hosts and src.ip in @networks and src.port in @ports and src.port in PORTS
then: {action: log}
tests:
  - {expect: match, payload: '"x"'}
  - {expect: no match, payload: '"x"'}
"""


@settings(max_examples=100)
@given(
    st.one_of(
        st.binary(max_size=80), st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace"))
    ),
    st.one_of(st.binary(max_size=80), st.lists(_variables, max_size=6).map(b"".join)),
)
def test_no_list_and_no_variables_raise_anything_but_a_signature_error(
    entries: bytes, variables: bytes
) -> None:
    with folder(ASKING.encode()) as path:
        (path / "vars.yaml").write_bytes(variables)
        (path / "lists").mkdir()
        for name in ("hosts", "networks", "ports"):
            (path / "lists" / f"{name}.txt").write_bytes(entries)
        with contextlib.suppress(SignatureError):
            self_test(load(path))


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("vars.yaml", b"PORTS: [" + b"1, " * 100_000 + b"1]", "S006"),
        ("vars.yaml", b"PORTS: " + b"9" * 900_000, "S006"),
        ("vars.yaml", b"PORTS: " + b"[" * 500_000, "S023"),
        ("vars.yaml", b"PORTS: &a [*a]", "S002"),
        ("vars.yaml", b"A: 1\n" * 100_000, "S003"),
        ("vars.yaml", b" " * (MAX_FILE_B + 1), "S023"),
        ("lists/hosts.txt", b" " * (MAX_LIST_B + 1), "S023"),
        ("lists/hosts.txt", b"\xff", "S009"),
        ("lists/hosts.txt", b"." * 1_000_000, "S025"),
        ("lists/networks.txt", b"0.0.0.0/0/" * 100_000, "S025"),
        ("lists/ports.txt", b"9" * 1_000_000, "S025"),
        ("lists/ports.txt", b"x\n" * 100_000, "S023"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else None,
)
def test_large_and_strange_lists_and_variables_are_refused(
    name: str, data: bytes, told: str
) -> None:
    with folder(ASKING.encode()) as path:
        (path / "lists").mkdir()
        for other in ("vars.yaml", "lists/hosts.txt", "lists/networks.txt", "lists/ports.txt"):
            (path / other).write_bytes(b"")
        (path / name).write_bytes(data)
        with pytest.raises(SignatureError) as caught:
            load(path)
        assert f"error[{told}]" in str(caught.value)


def test_a_long_list_is_read_and_asked_quickly() -> None:
    with folder(ASKING.encode()) as path:
        (path / "vars.yaml").write_text("PORTS: [0]")
        (path / "lists").mkdir()
        hosts = "\n".join(f"host-{number}.example" for number in range(100_000))
        (path / "lists" / "hosts.txt").write_text(hosts)
        (path / "lists" / "networks.txt").write_text("0.0.0.0/0\n")
        (path / "lists" / "ports.txt").write_text("0\n")
        ruleset = load(path)
        request = b"GET / HTTP/1.1\r\nHost: www.host-99999.example\r\n\r\n"
        bank = ruleset.tcp_stream
        assert bank.decide(bank.database.scan(request), Context(request))
        other = request.replace(b"-99999", b"-100000")
        assert not bank.decide(bank.database.scan(other), Context(other))


_lines = [line for data in SHIPPED for line in data.splitlines(keepends=True)]
_splinters = st.sampled_from(
    [
        *[b"\0", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\t", b"\xe2\x80\xa8", b"\xc2\x85"],
        *[b"*a", b"&a ", b"!!python/object ", b"---\n", b"...\n", b"%TAG ! x\n", b"[", b"{", b"}"],
        *[b"|", b">", b"|9", b"? ", b": ", b"- ", b"'", b'"', b"#", b"~", b"<<", b"=", b"$a", b"("],
        *[b"9" * 400, b"1:" * 60 + b"1", b"0x" + b"f" * 300, b"1e999", b"2001-99-99", b"(" * 200],
        *[b"[" * 200, b"{1,5000}", b"{ 41 [0-9999] }", b"not " * 100, b"[08]", b"\\q", b"..", b"/"],
        *[b"count($a in 0..", b"@lists ", b" icontains ", b"$a at u8(0) ", b"VARIABLE", b"@"],
        *[b"known(", b" matches /(", b" imatches /x*/ ", b" not in [", b"[1, 2..", b"[::1, "],
        *[
            b"repeat(9, ",
            b"repeat(65536, ",
            b"random(9, 9) ",
            b"src: ",
            b"dst: 1:2",
            b"allow: [S102]\n",
        ],
        *[b"(*UTF8)", b"any of them", b"00 of them", b"size in 0..", b"<< 63 ", b"/ 0 "],
    ]
)


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A shipped file with splinters in it, lines moved, bytes changed, cut."""
    data = bytearray(draw(st.sampled_from(SHIPPED)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at:at] = draw(_splinters)
            case 1:
                data[at : at + draw(st.integers(0, 30))] = draw(_splinters)
            case 2:
                data[at:at] = draw(st.sampled_from(_lines))
            case _:
                data[at : at + 1] = draw(st.binary(max_size=2))
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


_scalars = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["udp", "tcp", "match", "no match", "a.b", "block", "src", "10s", "none", "~"]),
    st.integers().map(str),
    st.floats().map(str),
)
_keys = st.sampled_from(
    [
        *["id", "rev", "title", "status", "refs", "scope", "patterns", "when", "prefilter"],
        *["then", "tests", "transport", "inspect", "action", "threshold", "count", "per"],
        *["within", "expect", "payload", "note", "turns", "src", "dst", "tagged", "allow"],
    ]
)


def _flow(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_flow(k)}: {_flow(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case _:
            return str(value)


_yaml = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(_keys, _scalars), inner, max_size=8)
    ),
    max_leaves=20,
).map(lambda value: _flow(value).encode("utf-8", "replace"))


@settings(max_examples=250)
@given(st.one_of(mangled(), mangled(), _yaml, st.binary(max_size=60)))
def test_no_file_raises_anything_but_a_signature_error(data: bytes) -> None:
    result = loaded(data)
    if isinstance(result, RuleSet):
        self_test(result)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"[" * 1_000_000, "S023"),
        (b"{a: " * 200_000, "S023"),
        (b"- " * 400_000, "S023"),
        (b"a: &a [x]\nb: [" + b"*a, " * 100_000 + b"]", "S002"),
        (b"id: " + b"1:" * 400_000 + b"1", "S006"),
        (b"rev: " + b"9" * 900_000, "S006"),
        (b"x\n---\n" * 30_000, "S023"),
        (b"{a: 1, a: 1}\n---\n" * 10_000, "S023"),
        (b"? [a]\n: b\n" * 20_000, "S006"),
        (b"a: 1\n" * 40_000, "S003"),
        (b" " * (MAX_FILE_B + 1), "S023"),
        (b"\xff\xfei\0d\0", "S009"),
        (b"a: !!binary x", "S002"),
        (b"%YAML 9.9\n--- a", "S001"),
        (ONE.encode() + b"\0", "S001"),
        (b"", "S009"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else None,
)
def test_large_and_strange_files_are_refused(data: bytes, told: str) -> None:
    result = loaded(data)
    assert isinstance(result, str)
    assert f"error[{told}]" in result
    assert len(result) < 200_000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\ufeff" + ONE, 6),
        (ONE.replace("\n", "\r\n"), 6),
        (ONE.replace("\n", "\r"), 6),
        (ONE.replace("at 0", "at\t0 # \u00fc"), 6),
        ("%YAML 1.1\n---\n" + ONE + "...\n", 8),
    ],
    ids=["BOM", "CRLF", "CR", "tab in a condition", "directives"],
)
def test_editors_habits_change_nothing(text: str, line: int) -> None:
    result = loaded(text.encode())
    assert isinstance(result, RuleSet)
    assert [(d.code, d.span.line, d.span.column) for d in result.warnings] == [("S101", line, 3)]
