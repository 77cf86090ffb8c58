"""The patterns of one signature, and which of them its condition names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.language import syntax
from engine.language.diagnostics import Diagnostic, Source, Span, nearest
from engine.language.places import matched_names
from engine.language.regex import looks_behind


class PatternUses:
    """Resolves the names of patterns; `diagnostics` grows with what is wrong with them."""

    def __init__(self, patterns: Sequence[syntax.Pattern], source: Source) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._patterns = patterns
        self._source = source
        self._used: set[str] = set()

    def finish(self) -> list[Diagnostic]:
        """What can be said when all names were resolved: defined twice, never used."""
        self.diagnostics += self._defined_twice()
        for pattern in self._patterns:
            if pattern.name not in self._used:
                hint = "name it in `when`, or take it out"
                self._report("S101", f"`{pattern.name}` is never used", pattern.span, hint)
        return self.diagnostics

    def resolve(self, names: Sequence[str], span: Span) -> list[syntax.Pattern]:
        """The patterns that names and prefixes stand for; no names are `them`."""
        defined = [pattern.name for pattern in self._patterns]
        for name in names:
            if not matched_names([name], self._patterns):
                hint = nearest(name, defined)
                self._report("S011", f"no pattern `{name}` is defined", span, hint)
        found = set(matched_names(names, self._patterns))
        self._used |= found
        return [pattern for pattern in self._patterns if pattern.name in found]

    def resolve_set(self, of: syntax.Of) -> list[syntax.Pattern]:
        """The patterns of `2 of ($a, $b)`: as many as are wanted at least."""
        found = self.resolve(of.patterns, of.span)
        if not self._patterns:
            self._report("S011", "`them` needs patterns, none is defined", of.span)
        elif isinstance(of.quantity, int) and not 1 <= of.quantity <= max(1, len(found)):
            self._report("S016", f"{of.quantity} of {len(found)} patterns", of.span)
        return found

    def seek(self, patterns: Sequence[syntax.Pattern]) -> None:
        """Check patterns that are looked for from a place on, after the trigger."""
        for pattern in patterns:
            body = pattern.body
            if isinstance(body, syntax.RegexBody) and looks_behind(body.expression):
                message = f"`{pattern.name}` looks at what stands before it"
                hint = r"`^` and `\b` have no meaning where the place is computed"
                self._report("S019", message, pattern.span, hint)

    def _defined_twice(self) -> Iterator[Diagnostic]:
        seen: set[str] = set()
        for pattern in self._patterns:
            if pattern.name in seen:
                message = f"`{pattern.name}` is defined twice"
                yield Diagnostic("S018", message, self._source, pattern.span)
            seen.add(pattern.name)

    def _report(self, code: str, message: str, span: Span, hint: str = "") -> None:
        self.diagnostics.append(Diagnostic(code, message, self._source, span, hint))
