from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputError
from engine.truth import FlowKey, Manifest, parse_manifest, score_capture, total

A, B, C = "10.0.0.1:1000", "10.0.0.2:2000", "[2001:db8::1]:3000"


def flow(**fields: Any) -> dict[str, Any]:
    return {"proto": "tcp", "a": A, "b": B, "kind": "handshake"} | fields


def entry(*flows: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"file": "some.pcap", "class": "positive", "bt_flows": list(flows)} | fields


def parse(*entries: Any) -> Any:
    return parse_manifest(json.dumps(entries), "m.json")


def test_endpoints_are_unordered_and_canonical() -> None:
    (labels,) = parse(entry(flow(a="[2001:DB8:0::0001]:03000", b=A, proto="udp")))
    assert list(labels.flows) == [FlowKey("udp", A, C)]


def test_defaults() -> None:
    (labels,) = parse(entry(flow()))
    assert not labels.disputed
    assert [each.scope for each in labels.flows.values()] == ["protocol"]


@pytest.mark.parametrize("field", ["arguable", "synthetic"])
def test_disputed_files(field: str) -> None:
    assert parse(entry(**{field: True}))[0].disputed


def test_fields_it_does_not_use_are_left_alone() -> None:
    assert len(parse(entry(flow(note="x", pkts=[1, 2]), sha256="00", split=None))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.json: not JSON: Expecting value in line 1, column 1"),
        ('[{"file": ]', "line 1, column 11"),
        ("{}", "expected a JSON array"),
        ("[" * 100_000, "maximum recursion depth"),
        ("[" + "1" * 5000 + "]", "m.json: not a manifest: Exceeds the limit"),
    ],
)
def test_not_a_manifest(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_manifest(text, "m.json")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (7, "entry 1: expected an object, found 7"),
        (entry(file=None), "entry 1, file: expected a text that is not empty, found null"),
        (entry(file=""), 'entry 1, file: expected a text that is not empty, found ""'),
        (entry(file="a\0b"), "entry 1, file: expected a text"),
        ({"file": "x", "class": "A"}, "entry 1, bt_flows: expected a list of flows, found nothing"),
        ({"file": "x", "bt_flows": []}, "entry 1, class: expected a text"),
        (entry(arguable="no"), 'entry 1, arguable: expected true or false, found "no"'),
        (entry(synthetic=1), "entry 1, synthetic: expected true or false, found 1"),
        (entry(bt_flows={}), "entry 1, bt_flows: expected a list of flows, found {}"),
        (entry([1]), r"entry 1, bt_flows\[0\]: expected an object"),
        (entry(flow(), flow(proto="sctp")), r'bt_flows\[1\].proto: expected "tcp" or "udp"'),
        (entry(flow(proto=[])), r'bt_flows\[0\].proto: expected "tcp" or "udp"'),
        (entry(flow(scope="some")), r"bt_flows\[0\].scope: expected one of protocol, midstream"),
        (entry(flow(kind=None)), r"bt_flows\[0\].kind: expected a text"),
        (entry(flow(), flow(a=B, b=A)), r"bt_flows\[1\]: expected each flow once"),
        *[
            (entry(flow(b=end)), r'bt_flows\[0\].b: expected "ip:port" or "\[ipv6\]:port"')
            for end in [
                None,
                "",
                "10.0.0.1",
                "10.0.0.1:",
                "10.0.0.1:65536",
                "10.0.0.1:-1",
                "10.0.0.1:1_0",
                "10.0.0.1:" + "9" * 5000,
                "10.0.0.256:1",
                "host:1",
                "[10.0.0.1]:1",
                "2001:db8::1:1",
                "[2001:db8::1:1",
            ]
        ],
    ],
)
def test_malformed_entry(bad: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse(entry(), bad)
    assert str(caught.value).startswith("m.json: entry 1")
    assert len(str(caught.value)) < 200


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["file", "class", "bt_flows", "proto", "a", "b", "scope", "kind"]),
                inner,
            )
        ),
    )
)
def test_any_json(value: Any) -> None:
    try:
        parse_manifest(json.dumps(value), "m.json")
    except InputError as err:
        assert "\n" not in str(err)


def test_captures_are_found_relative_to_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([entry(file="deep/one.pcap")]))
    manifest = Manifest(path)
    monkeypatch.chdir(tmp_path / "deep")
    assert manifest.labels_of(Path("one.pcap")).file == "deep/one.pcap"
    with pytest.raises(InputError, match=r"two.pcap: no entry in .*manifest.json"):
        manifest.labels_of(Path("two.pcap"))


def test_manifest_that_names_a_file_twice(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([entry(file="one.pcap"), entry(file="./one.pcap")]))
    with pytest.raises(InputError, match="entry 1, file: expected each file once"):
        Manifest(path)


def test_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        Manifest(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").write_bytes(b"[\xff]")
    with pytest.raises(InputError, match="not UTF-8"):
        Manifest(tmp_path / "manifest.json")


def key(port: int, proto: str = "tcp") -> FlowKey:
    return FlowKey(proto, A, f"10.0.0.2:{port}")


def listed(port: int, **fields: Any) -> dict[str, Any]:
    return flow(b=f"10.0.0.2:{port}", **fields)


def test_score_of_a_capture() -> None:
    (labels,) = parse(
        entry(
            listed(1),
            listed(2, kind="mse"),
            listed(3, kind="dht", scope="protocol"),
            listed(4, scope="midstream"),
            listed(5, kind="dns", scope="related"),
        )
    )
    # 3 is not even in the capture; 1 over UDP is another flow.
    score = score_capture(
        labels,
        {
            key(1): True,
            key(2): False,
            key(4): True,
            key(5): False,
            key(6): True,
            key(7): False,
            key(1, "udp"): True,
        },
    )
    assert [each.key for each in score.found] == [key(1)]
    assert [each.key for each in score.missed] == [key(2), key(3)]
    assert [(each.scope, hit) for each, hit in score.apart] == [
        ("midstream", True),
        ("related", False),
    ]
    assert score.false_positives == (key(6), key(1, "udp"))
    assert score.negatives == 3
    assert not score.holds


def test_total() -> None:
    positive, negative, disputed = parse(
        entry(listed(1), listed(2), listed(3, kind="mse"), listed(4, scope="opaque")),
        entry(file="n.pcap", **{"class": "A"}),
        entry(file="d.pcap", arguable=True, **{"class": "A"}),
    )
    score = total(
        [
            score_capture(positive, {key(1): True, key(2): False, key(3): True, key(4): True}),
            score_capture(negative, {key(1): True, key(2): False}),
            score_capture(disputed, {key(1): True}),
        ]
    )
    assert score.as_json() == {
        "missed": 1,
        "false_positives": 1,
        "kinds": {
            "handshake": {"flows": 2, "detected": 1},
            "mse": {"flows": 1, "detected": 1},
        },
        "apart": {"opaque handshake": {"flows": 1, "detected": 1}},
        "classes": {"A": {"flows": 2, "detected": 1}, "positive": {"flows": 0, "detected": 0}},
        "disputed": {"d.pcap": {"flows": 1, "detected": 1}},
    }
    assert not score.holds


def test_disputed_file_does_not_break_the_expectation() -> None:
    (disputed,) = parse(entry(synthetic=True))
    score = score_capture(disputed, {key(1): True})
    assert score.holds
    assert total([score]).holds
