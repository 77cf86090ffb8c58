"""Random signatures as text, and payloads that they have something to do with."""

from __future__ import annotations

from hypothesis import strategies as st

# Few bytes and small numbers: chance must hit them often.
BYTES = b"\x00\x01AaBb"
payloads = st.one_of(
    st.lists(st.sampled_from(BYTES), max_size=24).map(bytes),
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"d1:y1:qe",
            b"d1:y1:Ae",
            b"d1:y3:aBbe",
            b"d1:y0:e",
            b"\x01\x00" + bytes(14) + b"\x00A\x00\x01",
            b"\x41\x01" + bytes(18) + b"\x00\x02AB",
        ]
    ),
)

offsets = st.integers(0, 8).map(str)
small = st.one_of(
    st.integers(0, 4).map(str),
    st.sampled_from(["0x41", "0x61", "255", "256", "65", "1 << 16", "64", "20"]),
)
_widths = ["u8", "u8", "u8", "u16", "u32", "u64", "u16le", "u32le", "u64le"]


def _numbers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/%&|^"), inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["<<", ">>"]), inner),
        st.builds("{}{}".format, st.sampled_from("-~"), inner),
        st.builds("{}({})".format, st.sampled_from(_widths), inner),
    )


_reads = st.builds("{}({})".format, st.sampled_from(_widths), offsets)
_fields = st.sampled_from(
    ["size", "src.port", "utp.seq_nr", "utp.extensions_end", "length(bencode.y)"]
)
numbers = st.recursive(st.one_of(_reads, small, _fields), _numbers, max_leaves=4)
_signs = st.sampled_from(["==", "==", "==", "!=", "<", "<=", ">", ">="])
_decimals = st.builds(
    "{}({}, {})".format, st.sampled_from(["entropy", "printable"]), offsets, numbers
)
_bounds = st.tuples(st.integers(0, 5), st.integers(1, 9)).map(lambda b: f"{b[0]}..{b[0] + b[1]}")
_fixed_places = st.one_of(
    st.just(""), offsets.map(lambda o: f" at {o}"), _bounds.map(lambda b: f" in {b}")
)
_places = st.one_of(
    _fixed_places,
    numbers.map(lambda n: f" at {n}"),
    st.builds(" in {}..{}".format, numbers, numbers).filter(lambda t: "(" in t),
)
_names = ["$a", "$b", "$b2"]
_counts = st.builds(
    "count({}{})".format,
    st.sampled_from(_names),
    st.one_of(
        st.just(""),
        _bounds.map(lambda b: f" in {b}"),
        st.builds(" in {}..{}".format, numbers, small).filter(lambda t: "u" in t),
    ),
)
_text_signs = [
    *("contains", "startswith", "endswith"),
    *("icontains", "istartswith", "iendswith", "iequals"),
]

comparisons = st.one_of(
    st.builds("{} {} {}".format, _reads, _signs, small),
    st.builds("{} & {} {} {}".format, _reads, small, _signs, small),
    st.builds("{} {} {}".format, numbers, _signs, numbers),
    st.builds("{} in [{}, {}]".format, st.one_of(_reads, numbers), small, small),
    st.builds("{} in {}".format, numbers, _bounds),
    st.builds("{} in {}..{}".format, numbers, numbers, small).filter(lambda t: "u" in t),
    st.builds(
        "{} {} {}".format, _decimals, _signs, st.sampled_from(["0.5", "1.0", "0", "1", "2.5"])
    ),
    st.builds('bencode.y {} "{}"'.format, st.sampled_from(["==", "!="]), st.sampled_from("qA")),
    st.just('bencode.y in ["q", "r"]'),
    st.builds(
        'text({}, {}) {} "{}"'.format,
        offsets,
        st.integers(0, 3),
        st.sampled_from(["==", "==", "!=", "istartswith"]),
        st.sampled_from(["A", "a", "AB", "\\x01\\x00"]),
    ),
    st.builds('text({}, 2) in ["{}", "A"]'.format, numbers, st.sampled_from(["AB", "a\\x01"])),
    st.builds("{} in [{}, {}..{}]".format, st.one_of(_reads, numbers), small, offsets, small),
    st.builds("{} not in [{}, {}]".format, numbers, _bounds, small),
    st.builds("{} in [{}, {}]".format, _counts, small, _bounds),
    st.just("src.ip in 10.0.0.0/8"),
    st.sampled_from(["src.ip in [10.0.0.0/8, ::1]", "src.ip not in [10.0.0.0/9]"]),
    st.builds("known({})".format, st.one_of(_reads, numbers, st.just("bencode.y"))),
    st.builds("known({})".format, st.one_of(_counts, _decimals)),
    st.builds(
        "bencode.y {} /{}/".format,
        st.sampled_from(["matches", "imatches"]),
        st.sampled_from(["q", "A", "^a", "b$", "[qr]", "^.{3}", "a.?b", "(?:q|Bb)$"]),
    ),
    st.builds(
        'bencode.y {} "{}"'.format,
        st.sampled_from(_text_signs),
        st.sampled_from(["q", "A", "a", ""]),
    ),
    st.builds("{} {} {}".format, _counts, _signs, st.one_of(small, numbers)),
    st.builds("{} {} {}".format, st.integers(0, 2), _signs, _counts),
    st.builds("{} in [{}, {}]".format, _counts, small, small),
)


def _matches(places: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}{}".format, st.sampled_from(_names), places),
        st.builds(
            "{} of {}{}".format,
            st.sampled_from(["any", "all", "1", "2"]),
            st.sampled_from(["them", "($a, $b)", "($b*)", "($a, $b*)"]),
            places,
        ),
        st.builds("{} of ($a){}".format, st.sampled_from(["any", "all", "1"]), places),
    )


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    parts = st.lists(inner, min_size=2, max_size=3)
    return st.one_of(
        parts.map(lambda p: "(" + " and ".join(p) + ")"),
        parts.map(lambda p: "(" + " or ".join(p) + ")"),
        inner.map(lambda c: f"not ({c})"),
    )


conditions = st.recursive(st.one_of(comparisons, _matches(_places)), _joined, max_leaves=6)
of_patterns_alone = st.recursive(_matches(_fixed_places), _joined, max_leaves=6)

_text = st.lists(st.sampled_from(BYTES), min_size=1, max_size=3).map(
    lambda bs: '"' + "".join(f"\\x{b:02x}" for b in bs) + '"'
)
_hex_bytes = st.sampled_from(["00", "01", "41", "61", "42", "??", "4?", "?1"])
_hex = st.one_of(
    st.builds("{{ {} [{}] {} }}".format, _hex_bytes, st.sampled_from("012"), _hex_bytes),
    st.builds("{{ {} [0-{}] 41 }}".format, _hex_bytes, st.sampled_from("012")),
    st.builds("{{ ( {} | {} {} ) {} }}".format, *[_hex_bytes] * 4),
)
_regex = st.sampled_from([r"/A+b/", r"/[AB]\x00?./", r"/(A|bb)a/", r"/A(?:.|\x01)B|b\x00/"])
_bodies = st.builds(
    "{}{}".format, st.one_of(_text, _hex, _regex), st.sampled_from(["", "", " nocase"])
)
patterns = st.tuples(_bodies, _bodies, _bodies).map(
    lambda bodies: "".join(f"{name} = {body}\n" for name, body in zip(_names, bodies, strict=True))
)
