"""Names and types: whether a condition means something, before anything is compiled."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from engine.language import syntax
from engine.language.diagnostics import Diagnostic, Source, Span, nearest
from engine.language.lists import Lists
from engine.language.pattern_uses import PatternUses
from engine.language.places import Place, is_constant, place_bounds
from engine.language.values import constant, may_be_unknown
from engine.language.vocabulary import Field, Type, Vocabulary

# Hyperscan's bounded repeats end at 32767; inspection buffers end long before.
MAX_OFFSET_B = 32767

_NAMED = "a pattern needs a name: `$a = ...` under `patterns`, and `$a` here"
_TRUTH = "a truth value stands alone: `dns.response`, `not dns.response`"
_MISSING = "ask `not known(...)` whether a value is missing"
# Words of other languages.
_FOREIGN = {"true": _TRUTH, "false": _TRUTH, "null": _MISSING, "none": _MISSING}


def check(
    patterns: Sequence[syntax.Pattern],
    condition: syntax.Expression,
    *,
    transport: str,
    inspect: str,
    vocabulary: Vocabulary,
    source: Source,
    lists: Lists | None = None,
    variables: Collection[str] = (),
) -> list[Diagnostic]:
    """Every mistake in one signature's patterns and condition, and what looks wasteful.

    What is wrong in the `lists` it asks for is told by them. Of `variables`, filled in before,
    only the names matter: for hints.
    """
    checker = _Checker(
        patterns, transport, inspect, vocabulary, source, lists or Lists({}), variables
    )
    # Each entry of a variable stands at the same place.
    return list(dict.fromkeys(checker.check(condition)))


class _Checker:
    def __init__(
        self,
        patterns: Sequence[syntax.Pattern],
        transport: str,
        inspect: str,
        vocabulary: Vocabulary,
        source: Source,
        lists: Lists,
        variables: Collection[str],
    ) -> None:
        self._diagnostics: list[Diagnostic] = []
        self._patterns = PatternUses(patterns, source)
        self._transport = transport
        self._inspect = inspect
        self._vocabulary = vocabulary
        self._source = source
        self._lists = lists
        self._variables = variables
        self._names = (*vocabulary, *variables)

    def check(self, condition: syntax.Expression) -> list[Diagnostic]:
        self._expect(condition, Type.TRUTH)
        return [*self._diagnostics, *self._patterns.finish()]

    def _report(self, code: str, message: str, span: Span, hint: str = "") -> None:
        self._diagnostics.append(Diagnostic(code, message, self._source, span, hint))

    def _expect(self, expression: syntax.Expression, wanted: Type) -> Type | None:
        """The type of an expression that should have the one `wanted`."""
        found = self._type(expression)
        if found is not None and found is not wanted:
            hint = "compare it with something" if wanted is Type.TRUTH else ""
            if wanted is Type.TRUTH and isinstance(expression, syntax.Text):
                hint = _NAMED
            message = f"{wanted} is needed, this is {found}"
            self._report("S013", message, expression.span, hint)
        return found

    def _type(self, expression: syntax.Expression) -> Type | None:
        """The type of an expression; None where a mistake was reported already."""
        match expression:
            case syntax.Number(value=value):
                return Type.NUMBER if isinstance(value, int) else Type.DECIMAL
            case syntax.Text():
                return Type.TEXT
            case syntax.Term():
                return self._term(expression)
            case syntax.Unary(operand=operand):
                self._expect(operand, Type.NUMBER)
                return Type.NUMBER
            # Decimals come from measures and are only compared: no arithmetic on them can
            # then fail or lose precision.
            case syntax.Arithmetic(left=left, right=right):
                self._expect(left, Type.NUMBER)
                self._expect(right, Type.NUMBER)
                return Type.NUMBER
            case syntax.Comparison():
                self._comparison(expression)
                return Type.TRUTH
            case syntax.TextComparison(left=left, right=right):
                self._expect(left, Type.TEXT)
                self._expect(right, Type.TEXT)
                return Type.TRUTH
            case syntax.Matches(text=text):
                self._expect(text, Type.TEXT)
                return Type.TRUTH
            case syntax.Member():
                self._member(expression)
                return Type.TRUTH
            case syntax.Known(operand=operand):
                self._known_value(operand)
                return Type.TRUTH
            case syntax.Count(pattern=name, place=place):
                named = self._patterns.resolve([name], expression.span)
                self._place(place, named, sought=place is not None)
                return Type.NUMBER
            case syntax.Match(pattern=name, place=place):
                named = self._patterns.resolve([name], expression.span)
                self._place(place, named, sought=not is_constant(place))
                return Type.TRUTH
            case syntax.Of(place=place):
                named = self._patterns.resolve_set(expression)
                self._place(place, named, sought=not is_constant(place))
                return Type.TRUTH
            case syntax.Not(operand=operand):
                self._expect(operand, Type.TRUTH)
                return Type.TRUTH
            case syntax.And(operands=operands) | syntax.Or(operands=operands):
                for operand in operands:
                    self._expect(operand, Type.TRUTH)
                return Type.TRUTH

    def _term(self, term: syntax.Term) -> Type | None:
        if term.name in self._variables:
            self._report("S013", f"`{term.name}` is a list", term.span, "write `in` before it")
            return None
        field = self._vocabulary.get(term.name)
        if field is None:
            hint = _FOREIGN.get(term.name.lower()) or nearest(term.name, self._names)
            self._report("S012", f"unknown field `{term.name}`", term.span, hint)
            return None
        if self._transport not in field.transports:
            where = " and ".join(sorted(field.transports))
            hint = f"the transport of this signature is {self._transport}"
            self._report("S012", f"`{term.name}` is for {where} alone", term.span, hint)
        elif self._inspect not in field.inspects:
            message, hint = self._out_of_place(field)
            self._report("S012", message, term.span, hint)
        if len(term.arguments) != len(field.parameters):
            self._report(
                "S014",
                f"`{term.name}` takes {len(field.parameters)} arguments, not {len(term.arguments)}",
                term.span,
                f"write `{field.signature}`",
            )
        else:
            for argument, (_, wanted) in zip(term.arguments, field.parameters, strict=True):
                self._expect(argument, wanted)
            if field.index_below is not None:
                self._indexed(term, field.index_below, field)
        return field.type

    def _out_of_place(self, field: Field) -> tuple[str, str]:
        """Why a field is not for this kind of inspection, and what is."""
        if self._inspect == "flow":
            message = f"`{field.name}` reads one buffer, and a flow has none"
            turned = self._vocabulary.get(f"turn(n).{field.name}")
            return message, f"write `{turned.signature}`" if turned else "read its turns"
        return f"`{field.name}` is for signatures of flows", "say `inspect: flow` in `scope`"

    def _indexed(self, term: syntax.Term, below: int, field: Field) -> None:
        """Check what is said of `turn(n)`: which one, and how far into it."""
        index, *where = (constant(argument) for argument in term.arguments)
        place = term.arguments[0].span
        if index is None:
            self._report("S015", "which turn must be a constant", place)
        elif not 0 <= index < below:
            self._report("S016", f"`{field.signature}` is known of turns 0 to {below - 1}", place)
        offset, length = (*where, 1, 1)[:2]
        if field.reach_b is None or offset is None or length is None:
            return
        if not 0 <= offset <= field.reach_b - max(1, length):
            message = f"of a turn the first {field.reach_b} bytes are kept"
            self._report("S016", message, term.span)

    def _comparison(self, comparison: syntax.Comparison) -> None:
        left, right = self._type(comparison.left), self._type(comparison.right)
        if left is None or right is None:
            return
        numeric = {Type.NUMBER, Type.DECIMAL}
        if left is not right and not {left, right} <= numeric:
            self._report("S013", f"{left} is compared with {right}", comparison.span)
        elif left is Type.TRUTH:
            self._report(
                "S013",
                "truth values are not compared",
                comparison.span,
                "use `and`, `or` and `not`",
            )
        elif left is Type.ADDRESS:
            self._report("S013", "addresses are not compared", comparison.span, "use `in`")
        elif left is Type.TEXT and comparison.operator not in ("==", "!="):
            hint = "use `contains`, `startswith`, `endswith`"
            self._report("S013", "texts have no order", comparison.span, hint)

    def _member(self, member: syntax.Member) -> None:
        operand = self._type(member.operand)
        match member.container:
            case syntax.Choice(items=items):
                for item in items:
                    self._item(item, member.operand, operand)
            case syntax.Range() as bounds:
                self._range(bounds, member.operand, operand)
            case syntax.Network():
                self._network(operand, member.span)
            case syntax.ListReference() as reference:
                self._list(reference, operand)
            case syntax.Term(name=name, span=span):
                hint = nearest(name, self._variables)
                if isinstance(member.operand, syntax.Text):
                    hint = f'write `{name} contains "..."`'
                elif name in self._variables:
                    hint = f"`{name}` holds no {'network' if operand is Type.ADDRESS else 'list'}"
                self._report("S013", "a range, list or network is needed here", span, hint)

    def _item(
        self,
        item: syntax.Expression | syntax.Range | syntax.Network,
        operand: syntax.Expression,
        found: Type | None,
    ) -> None:
        """Check one item of a list in brackets."""
        match item:
            case syntax.Range():
                self._range(item, operand, found)
            case syntax.Network():
                self._network(found, item.span)
            case syntax.Arithmetic(operator="-", left=low, right=high) if (constant(item) or 0) < 0:
                hint = f"a range is written `{constant(low)}..{constant(high)}`"
                self._report("S016", f"this is the number {constant(item)}", item.span, hint)
            case _ if not isinstance(item, syntax.Text | syntax.Number) and constant(item) is None:
                hint = "a list holds numbers, ranges, texts and networks"
                self._report("S015", "a constant is needed here", item.span, hint)
            case _ if found is not None:
                self._expect(item, found)

    def _range(self, bounds: syntax.Range, operand: syntax.Expression, found: Type | None) -> None:
        low, high = bounds.low, bounds.high
        for part, kind in (operand, found), (low, self._type(low)), (high, self._type(high)):
            if kind not in (None, Type.NUMBER, Type.DECIMAL):
                hint = _NAMED if isinstance(part, syntax.Text) else ""
                self._report("S013", f"a range is for numbers, this is {kind}", part.span, hint)
        self._ascending(bounds)

    def _network(self, operand: Type | None, span: Span) -> None:
        if operand is not None and operand is not Type.ADDRESS:
            message = f"only an address is in a network, this is {operand}"
            self._report("S013", message, span)

    def _known_value(self, operand: syntax.Expression) -> None:
        """Check what stands in `known(...)`: a value that can be missing."""
        if self._type(operand) is None:
            return
        if isinstance(operand, syntax.Condition):
            hint = "name the field that may have no value: `known(tls.sni)`"
            self._report("S013", "a value is needed here, this is a condition", operand.span, hint)
        elif not may_be_unknown(operand, self._vocabulary):
            hint = "take it out: it is true of every packet"
            self._report("S027", "this always has a value", operand.span, hint)

    def _list(self, reference: syntax.ListReference, operand: Type | None) -> None:
        name = reference.name
        if name not in self._lists.sources:
            hint = nearest(f"@{name}", [f"@{known}" for known in self._lists.sources])
            hint = hint or f"its entries belong in `lists/{name}.txt`"
            self._report("S024", f"there is no list `@{name}`", reference.span, hint)
        elif operand in (Type.TEXT, Type.NUMBER, Type.ADDRESS):
            self._lists.entries(name, operand)
        elif operand is not None:
            self._report("S013", f"lists have no place for {operand}", reference.span)

    def _ascending(self, bounds: syntax.Range) -> None:
        low, high = constant(bounds.low), constant(bounds.high)
        if low is not None and high is not None and low >= high:
            self._report(
                "S016",
                "this range is empty",
                bounds.span,
                "the end is not included: `0..4` is 0, 1, 2, 3",
            )

    def _place(self, place: Place, named: Sequence[syntax.Pattern], *, sought: bool) -> None:
        """Check where patterns are to be; whether they are sought there, after the trigger."""
        for bound in place_bounds(place):
            if self._expect(bound, Type.NUMBER) is not Type.NUMBER:
                continue
            value = constant(bound)
            if value is not None and not 0 <= value <= MAX_OFFSET_B:
                self._report("S016", f"offsets go from 0 to {MAX_OFFSET_B}", bound.span)
        if isinstance(place, syntax.Range):
            self._ascending(place)
        if sought:
            self._patterns.seek(named)
