"""The one grammar of options: `name(key=value, …)`, joined with `+`, bound with `@`.

    options := term ("+" term)*
    term    := call ("@" call)*                       norm@last(2)
    call    := NAME ["(" [item ("," item)*] ")"]      class-weights(method=effective-number, beta=0.999)
    item    := [NAME "="] value
    value   := NUMBER | true | false | none | STRING | NAME | "{" [key ":" value ("," key ":" value)*] "}"

Names may hold letters, digits and any of `_ - . /`, and one `distribution:` before them. Strings take single or
double quotes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from zoo.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w.-]))
      | (?P<string>"[^"]*"|'[^']*')
      | (?P<name>\w[\w\-./]*(?::[A-Za-z_][\w\-./]*)?)
      | (?P<mark>[()+,=@{}:])
    )""",
    re.VERBOSE,
)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Argument:
    """One value inside the parentheses of a call; `name` is None where it was given by position."""

    name: str | None
    value: bool | int | float | str | Mapping[str, float] | None
    column: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A name with its arguments, and where it stood in the option's text."""

    name: str
    arguments: tuple[Argument, ...] = ()
    text: str = ""
    column: int = 0

    def __str__(self) -> str:
        inside = ", ".join(
            (f"{argument.name}=" if argument.name else "") + _spell(argument.value) for argument in self.arguments
        )
        return f"{self.name}({inside})" if inside else self.name

    def fail(self, message: str, *, column: int | None = None) -> NoReturn:
        """Raise an `OptionError` that points at this call, or at `column` of its option."""
        raise OptionError(message, text=self.text, column=self.column if column is None else column)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


def _spell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_spell(key)}: {_spell(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and (value.lower() in _WORDS or not re.fullmatch(r"[A-Za-z_][\w\-./]*", value)):
        return f"'{value}'" if '"' in value else f'"{value}"'
    return str(value)


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            column = at + len(text[at:]) - len(text[at:].lstrip())
            raise OptionError(f"unexpected {text[column]!r}", text=text, column=column)
        kind = match.lastgroup
        tokens.append(_Token(kind=kind, text=match[kind], column=match.start(kind)))
        at = match.end()
    return tokens


class _Parser:
    """Recursive descent over the tokens of one option."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0

    def peek(self, mark: str) -> bool:
        return self.at < len(self.tokens) and self.tokens[self.at].text == mark and self._is_mark(self.at)

    def _is_mark(self, at: int) -> bool:
        return self.tokens[at].kind == "mark"

    def take(self, mark: str) -> bool:
        found = self.peek(mark)
        self.at += found
        return found

    def fail(self, expected: str) -> NoReturn:
        if self.at < len(self.tokens):
            token = self.tokens[self.at]
            raise OptionError(f"expected {expected}, found {token.text!r}", text=self.text, column=token.column)
        raise OptionError(f"expected {expected}, but the option ends", text=self.text, column=len(self.text))

    def need(self, mark: str) -> None:
        if not self.take(mark):
            self.fail(f"{mark!r}")

    def name(self, expected: str) -> _Token:
        if self.at < len(self.tokens) and self.tokens[self.at].kind in ("name", "string"):
            self.at += 1
            return self.tokens[self.at - 1]
        self.fail(expected)

    def options(self) -> tuple[tuple[Call, ...], ...]:
        terms = [self.term()]
        while self.take("+"):
            terms.append(self.term())
        if self.at < len(self.tokens):
            self.fail("'+' or the end")
        return tuple(terms)

    def term(self) -> tuple[Call, ...]:
        calls = [self.call()]
        while self.take("@"):
            calls.append(self.call())
        return tuple(calls)

    def call(self) -> Call:
        token = self.name("a name")
        arguments: list[Argument] = []
        if self.take("("):
            while not self.take(")"):
                if arguments:
                    self.need(",")
                arguments.append(self.argument())
        return Call(name=token.text, arguments=tuple(arguments), text=self.text, column=token.column)

    def argument(self) -> Argument:
        column = self.tokens[self.at].column if self.at < len(self.tokens) else len(self.text)
        name = None
        following = self.at + 1
        if following < len(self.tokens) and self.tokens[following].text == "=" and self._is_mark(following):
            name = self.name("a parameter's name").text
            self.need("=")
        return Argument(name=name, value=self.value(), column=column)

    def value(self) -> bool | int | float | str | Mapping[str, float] | None:
        if self.take("{"):
            return self.mapping()
        if self.at >= len(self.tokens) or self._is_mark(self.at):
            self.fail("a value")
        token = self.tokens[self.at]
        self.at += 1
        if token.kind == "number":
            return int(token.text) if re.fullmatch(r"[-+]?\d+", token.text) else float(token.text)
        if token.kind == "string":
            return token.text[1:-1]
        return _WORDS.get(token.text.lower(), token.text)

    def mapping(self) -> Mapping[str, float]:
        items: dict[str, float] = {}
        while not self.take("}"):
            if items:
                self.need(",")
            key = self.key()
            value = self.value()
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.at -= 1
                self.fail("a number")
            items[key] = float(value)
        return items

    def key(self) -> str:
        if self.at < len(self.tokens) and self.tokens[self.at].kind in ("name", "number", "string"):
            token = self.tokens[self.at]
            self.at += 1
            self.need(":")
            return token.text[1:-1] if token.kind == "string" else token.text
        self.fail("a name")


def parse_terms(text: str) -> tuple[tuple[Call, ...], ...]:
    """Parse an option into its `+`-joined terms, each a tuple of `@`-bound calls.

    Raises:
        OptionError: pointing at the first place that does not parse.
    """
    return _Parser(text).options()


def parse_options(text: str) -> tuple[Call, ...]:
    """Parse `a(x=1)+b` into calls, for options in which `@` has no meaning."""
    calls = []
    for term in parse_terms(text):
        if len(term) > 1:
            term[1].fail("'@' has no meaning here; join with '+'", column=term[1].column - 1)
        calls.append(term[0])
    return tuple(calls)


def parse_assignment(text: str) -> tuple[str, tuple[Call, ...]]:
    """Parse `kind=name(key=value)`, as in `covariates=knn(k=5)`, into the kind and its calls."""
    kind, equals, rest = text.partition("=")
    if not equals or "(" in kind or not kind.strip():
        raise OptionError("expected KIND=NAME, as in covariates=mean", text=text, column=0)
    try:
        return kind.strip(), parse_options(rest)
    except OptionError as error:
        column = len(kind) + 1 + error.column
        raise OptionError(error.message, text=text, column=column) from None
