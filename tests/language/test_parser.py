from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.language import syntax
from engine.language.diagnostics import MistakeError
from engine.language.parser import (
    MAX_DEPTH,
    MAX_TEXT_B,
    parse_condition,
    parse_patterns,
    parse_payload,
)
from tests.compiler.conditions import conditions
from tests.compiler.written import SPAN, condition, fragment, patterns


def number(value: float) -> syntax.Number:
    return syntax.Number(value=value, span=SPAN)


def term(name: str, *arguments: Any) -> syntax.Term:
    return syntax.Term(name=name, arguments=arguments, span=SPAN)


SIZE = term("size")


def compare(left: Any, operator: Any, right: Any) -> syntax.Comparison:
    return syntax.Comparison(operator=operator, left=left, right=right, span=SPAN)


def match(pattern: str, place: Any = None) -> syntax.Match:
    return syntax.Match(pattern=pattern, place=place, span=SPAN)


def interval(low: int, high: int) -> syntax.Range:
    return syntax.Range(low=number(low), high=number(high), span=SPAN)


def of(quantity: Any, *names: str, place: Any = None) -> syntax.Of:
    return syntax.Of(quantity=quantity, patterns=names, place=place, span=SPAN)


def member(container: Any, operand: Any = SIZE) -> syntax.Member:
    return syntax.Member(operand=operand, container=container, span=SPAN)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("size == 1", compare(SIZE, "==", number(1))),
        ("size == 0x1F", compare(SIZE, "==", number(31))),
        ("size == 0010", compare(SIZE, "==", number(10))),
        ("size == 18446744073709551615", compare(SIZE, "==", number(2**64 - 1))),
        ("entropy(0,9)>7.25", compare(term("entropy", number(0), number(9)), ">", number(7.25))),
        ('bencode.q == "\\x00\\n\\"ü"', None),
        ("u8(u16(2)) == 1", compare(term("u8", term("u16", number(2))), "==", number(1))),
        ("$a", match("$a")),
        ("$a at 4", match("$a", number(4))),
        ("$a in 0..64", match("$a", interval(0, 64))),
        ("any of them", of("any")),
        ("all of ($a, $b*) at 0", of("all", "$a", "$b*", place=number(0))),
        ("2 of ($*)", of(2, "$*")),
        ("0x2 of them in 0..4", of(2, place=interval(0, 4))),
        ("size in 0..4", member(interval(0, 4))),
        ("size in [1, 2]", member(syntax.Choice(items=(number(1), number(2)), span=SPAN))),
        (
            "src.ip in 10.0.0.0/8",
            member(syntax.Network(value=ip_network("10.0.0.0/8"), span=SPAN), term("src.ip")),
        ),
        (
            "src.ip in 2001:db8::/32",
            member(syntax.Network(value=ip_network("2001:db8::/32"), span=SPAN), term("src.ip")),
        ),
        (
            "src.ip in ::1",
            member(syntax.Network(value=ip_network("::1"), span=SPAN), term("src.ip")),
        ),
    ],
)
def test_condition(text: str, meaning: syntax.Expression | None) -> None:
    if meaning is None:
        value = syntax.Text(value=b'\0\n"\xc3\xbc', span=SPAN)
        meaning = compare(term("bencode.q"), "==", value)
    assert condition(text) == meaning


@pytest.mark.parametrize(
    ("loose", "explicit"),
    [
        ("$a or $b and not $c", "$a or ($b and (not $c))"),
        ("not $a and $b", "(not $a) and $b"),
        ("not size == 1", "not (size == 1)"),
        ("1 + 2 * 3 == 7", "(1 + (2 * 3)) == 7"),
        ("1 - 2 - 3 == 4", "((1 - 2) - 3) == 4"),
        ("u8(0) & 0x0f == 1", "(u8(0) & 0x0f) == 1"),
        ("1 | 2 ^ 3 & 4 << 5 + 6 == 0", "(1 | (2 ^ (3 & (4 << (5 + 6))))) == 0"),
        ("8 >> 1 << 2 == 16", "((8 >> 1) << 2) == 16"),
        ("-1 + ~2 == 0", "((-1) + (~2)) == 0"),
        ("size + 1 in 0..4", "(size + 1) in 0..4"),
        ("size in 1 + 1..2 * 4", "size in (1 + 1)..(2 * 4)"),
        ("$a # a remark\n\tand\r\n$b", "$a and $b"),
        ("notes == 1 or ofs == 1", "(notes == 1) or (ofs == 1)"),
    ],
)
def test_binding(loose: str, explicit: str) -> None:
    assert condition(loose) == condition(explicit)


@given(conditions)
def test_parentheses_change_nothing(text: str) -> None:
    assert condition(f"((({text})))") == condition(text)


def one(text: str) -> syntax.Pattern:
    (pattern,) = patterns(text)
    return pattern


def byte(value: int, mask: int = 0xFF) -> syntax.HexByte:
    return syntax.HexByte(value=value, mask=mask, span=SPAN)


def jump(low: int, high: int) -> syntax.HexJump:
    return syntax.HexJump(low=low, high=high, span=SPAN)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("{ 41fF ?? 4? ?4 }", (byte(0x41), byte(0xFF), byte(0, 0), byte(0x40, 0xF0), byte(4, 15))),
        ("{ 41 [3] 42 [08-010] 43 }", (byte(65), jump(3, 3), byte(66), jump(8, 10), byte(67))),
        (
            "{ ( 41 | 42 [0-2] ) }",
            (syntax.HexChoice(options=((byte(65),), (byte(66), jump(0, 2))), span=SPAN),),
        ),
    ],
)
def test_hex_pattern(text: str, items: tuple[Any, ...]) -> None:
    assert one(f"$a = {text}").body == syntax.HexBody(items=items, span=SPAN)


def test_patterns() -> None:
    text = '$a = "#1" nocase # a remark\n$b = /x\\/"#\\x41/ $c = "\\x13\\r\\t\\0\\\\\\/"'
    assert [(p.name, p.nocase) for p in patterns(text)] == [
        ("$a", True),
        ("$b", False),
        ("$c", False),
    ]
    bodies = [p.body for p in patterns(text)]
    assert bodies == [
        syntax.TextBody(value=b"#1", span=SPAN),
        syntax.RegexBody(expression='x/"#\\x41', span=SPAN),
        syntax.TextBody(value=b"\x13\r\t\0\\/", span=SPAN),
    ]


@pytest.mark.parametrize(
    ("parse", "text", "code"),
    [
        (parse_condition, "size == " + "9" * 5000, "S016"),
        (parse_condition, "size == 0x" + "f" * 5000, "S016"),
        (parse_condition, "size > " + "9" * 400 + ".0", "S016"),
        (parse_condition, "9" * 5000 + " of them", "S016"),
        (parse_condition, "size > 1\n\u3000", "S010"),
        (parse_condition, "", "S010"),
        (parse_condition, "# nothing", "S010"),
        (parse_condition, "src.ip in 1.2.3.4/33", "S016"),
        (parse_condition, "src.ip in 1:2", "S016"),
        (parse_condition, "(" * 8000 + "size" + ")" * 8000 + " " * 400, "S023"),
        (parse_condition, "-" * 16000 + "1 == 1", "S023"),
        (parse_condition, "(" * 8000, "S010"),
        (parse_condition, "u8(" * 100 + "0" + ")" * 100 + " == 1", "S023"),
        (parse_patterns, "$a = { 41 [2000] 42 }", "S016"),
        (parse_patterns, "$a = { " + "(41|" * 100 + "42" + ")" * 100 + " }", "S023"),
        (parse_patterns, '$a = "' + "x" * MAX_TEXT_B + '"', "S023"),
        (parse_payload, "u8(", "S010"),
    ],
)
def test_mistake(parse: Any, text: str, code: str) -> None:
    with pytest.raises(MistakeError) as caught:
        parse(fragment(text))
    assert caught.value.diagnostic.code == code


def test_depth_limit_is_as_said() -> None:
    assert parse_condition(fragment("not " * (MAX_DEPTH - 1) + "$a"))
    with pytest.raises(MistakeError, match=f"more than {MAX_DEPTH} deep"):
        parse_condition(fragment("not " * MAX_DEPTH + "$a"))


_words = [*'$()[]{}/\\"#.,|&^~+-*%<>=!?:', "$a", "size", "and", "or", "not", "of", "in", "at"]
_words += ["any", "them", "..", "<<", "0x", "7", "4.2", "nocase", "u8(0)", "41", "??", "\n", "\xa0"]


@given(
    st.sampled_from([parse_condition, parse_patterns, parse_payload]),
    st.one_of(st.lists(st.sampled_from(_words), max_size=30).map(" ".join), st.text(max_size=40)),
)
def test_no_text_raises_anything_but_a_mistake(parse: Any, text: str) -> None:
    try:
        parse(fragment(text))
    except MistakeError as mistake:
        span = mistake.diagnostic.span
        assert 1 <= span.line <= text.count("\n") + 1
        assert span.column >= 1
        assert str(mistake.diagnostic)
