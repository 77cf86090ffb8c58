from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.certainty import DetectionProfile
from engine.compiler.ruleset import RuleSet
from engine.fields import Context
from engine.language.diagnostics import SignatureError
from engine.language.lists import MAX_LIST_B
from engine.paths import shipped_signatures
from engine.selftest import self_test
from engine.signatures import MAX_FILE_B, load

SHIPPED = [path.read_bytes() for path in sorted(shipped_signatures().rglob("*.yaml"))]
ONE = (Path(__file__).parent / "language/golden/pattern-unused.yaml").read_text()


@contextlib.contextmanager
def folder(*files: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        for number, data in enumerate(files):
            (Path(name) / f"{number}.yaml").write_bytes(data)
        yield Path(name)


def loaded(*files: bytes) -> RuleSet | str:
    """The RuleSet of some files, or what is wrong with them, in full."""
    with folder(*files) as path:
        try:
            return load(path)
        except SignatureError as error:
            assert error.diagnostics
            return str(error)


def test_what_is_shipped_is_right() -> None:
    ruleset = load(shipped_signatures())
    assert self_test(ruleset) == []
    assert ruleset.warnings == ()
    assert len(ruleset.signatures) + len(ruleset.disabled) >= len(SHIPPED)


def test_examples_are_switched_off() -> None:
    ruleset = load(shipped_signatures(), profile="strict")
    examples = load(shipped_signatures() / "examples")
    assert not examples.signatures
    assert {s.id for s in examples.disabled} == {s.id for s in ruleset.disabled}
    assert len({s.id.split(".")[1] for s in examples.disabled}) >= 4


def test_a_single_file_is_loaded_alone() -> None:
    text = SHIPPED[0]
    with folder(text, text, b"id: [") as path:
        alone = load(path / "0.yaml")
        assert {signature.source.path for signature in alone.signatures} == {path / "0.yaml"}
        with pytest.raises(SignatureError):  # the others are broken, and share its ids
            load(path)


LEANING = """\
id: test.leaning
title: Leans on what stands elsewhere
scope: {transport: udp}
patterns: |
  $hello = "hello"
when: |
  $hello at 0 and not src.port in ports and (http.host in @hosts or size == 5)
  and src.tagged("set-elsewhere")
then: {action: log}
tests:
  - {expect: match, payload: '"hello"', tagged: {src: [set-elsewhere]}}
  - {expect: no match, payload: '"hullo"'}
"""


@pytest.mark.parametrize("name", ["a.yaml", "sub/a.yaml"])
def test_a_single_file_has_the_variables_and_lists_of_its_folder(name: str) -> None:
    with folder() as path:
        (path / "sub").mkdir()
        (path / "lists").mkdir()
        (path / "vars.yaml").write_text("ports: [1, 2]\nunused: 3\n")
        (path / "lists" / "hosts.txt").write_text("a.example\n")
        (path / "lists" / "unused.txt").write_text("b.example\n")
        (path / name).write_text(LEANING)
        ruleset = load(path / name)
        assert [signature.id for signature in ruleset.signatures] == ["test.leaning"]
        assert ruleset.warnings == ()  # other files may use the rest, and set the tag
        with pytest.raises(SignatureError, match="no signature sets the tag `set-elsewhere`"):
            load(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("0.yaml", "no signature in `.*0.yaml`: it is empty"),
        ("", "no signature in `.*`: every file is empty"),
        ("9.yaml", "there is no signature file or folder `.*9.yaml`"),
    ],
)
def test_nothing_to_load(name: str, said: str) -> None:
    with folder(b"") as path, pytest.raises(SignatureError, match=said):
        load(path / name)


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


@settings(max_examples=100, deadline=None)
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


# --- any bytes

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


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


# --- folders


def test_all_mistakes_of_all_files_are_told_at_once() -> None:
    broken = ONE.replace("$a at 0", "$c at 0").encode()
    result = loaded(b"id: [", b"\xff", broken, b"x: 1")
    assert isinstance(result, str)
    assert [result.count(f"error[{code}]") for code in ("S001", "S009", "S011", "S004")] == [1] * 4


def test_an_id_is_taken_across_files() -> None:
    result = loaded(ONE.encode(), ONE.replace("An example", "Another").encode())
    assert isinstance(result, str)
    assert "the id `example.protocol` is taken" in result
    assert "0.yaml:1" in result


def test_files_below_are_found_and_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/a.yaml").write_text(ONE)
    (tmp_path / "notes.txt").write_text("{")
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    assert [s.id for s in load(tmp_path).signatures] == ["example.protocol"]


# --- switched off

OFF = ONE.replace("then:", "enabled: false\nthen:")


def test_a_disabled_signature_is_loaded_and_does_not_judge() -> None:
    result = loaded(OFF.encode())
    assert isinstance(result, RuleSet)
    assert (result.signatures, [s.id for s in result.disabled]) == ((), ["example.protocol"])
    assert not (result.udp.rules or result.tcp_stream.rules or result.tcp_packet.rules)


def test_enable_all_switches_it_on() -> None:
    with folder(OFF.encode()) as path:
        result = load(path, enable_all=True)
    assert ([s.id for s in result.signatures], result.disabled) == (["example.protocol"], ())


def test_a_disabled_signature_is_checked_and_takes_its_id() -> None:
    result = loaded(ONE.encode(), OFF.encode(), OFF.replace("$a at 0", "$c at 0").encode())
    assert isinstance(result, str)
    assert result.count("error[S008]") == 2
    assert result.count("error[S011]") == 1


def test_the_tests_of_a_disabled_signature_run() -> None:
    swapped = OFF.replace("expect: match", "expect: x").replace("expect: no match", "expect: match")
    result = loaded(swapped.replace("expect: x", "expect: no match").encode())
    assert isinstance(result, RuleSet)
    assert [failure.code for failure in self_test(result)] == ["S021", "S021"]


@pytest.mark.parametrize(
    ("certainty", "profile", "judges"),
    [
        ("certain", "plain", True),
        ("likely", "plain", False),
        ("guess", "plain", False),
        ("certain", "balanced", True),
        ("likely", "balanced", True),
        ("guess", "balanced", False),
        ("certain", "strict", True),
        ("likely", "strict", True),
        ("guess", "strict", True),
    ],
)
def test_a_profile_leaves_out_what_is_not_sure_enough(
    certainty: str, profile: DetectionProfile, judges: bool
) -> None:
    text = ONE.replace("then:", f"certainty: {certainty}\nthen:")
    with folder(text.encode()) as path:
        result = load(path, profile=profile)
    assert bool(result.signatures) is bool(result.tcp_stream.rules or result.udp.rules) is judges
    assert bool(result.disabled) is not judges
    assert self_test(result) == []


def test_the_profile_by_default_is_balanced() -> None:
    texts = (
        ONE.replace("then:", f"certainty: {c}\nthen:").replace("e.protocol", f"e.{c}")
        for c in ("certain", "likely", "guess")
    )
    with folder(*(text.encode() for text in texts)) as path:
        ids = {signature.id for signature in load(path).signatures}
    assert ids == {"example.certain", "example.likely"}


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_no_folder_of_signatures(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SignatureError) as caught:
        load(tmp_path / name)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "S009"
    assert str(tmp_path / name) in str(diagnostic)
    assert "\n" not in str(diagnostic)
