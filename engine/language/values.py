"""What is known of a value before any packet is: its type, and whether it is a constant."""

from __future__ import annotations

from engine.language import syntax
from engine.language.parser import walk
from engine.language.vocabulary import Type, Vocabulary


def may_be_unknown(value: syntax.Expression, vocabulary: Vocabulary) -> bool:
    """Whether a checked value is unknown in some packets."""
    for node in walk(value):
        match node:
            case syntax.Term(name=name):
                if not vocabulary[name].certain:
                    return True
            case syntax.Arithmetic(operator="/" | "%" | "<<" | ">>" as sign, right=right):
                number = constant(right)
                if number is None or calculate(sign, 0, number) is None:
                    return True
    return False


def static_type(expression: syntax.Expression, vocabulary: Vocabulary) -> Type:
    """The type of a checked value."""
    match expression:
        case syntax.Term(name=name):
            return vocabulary[name].type
        case syntax.Text():
            return Type.TEXT
        case syntax.Number(value=float()):
            return Type.DECIMAL
        case _:
            return Type.NUMBER


def constant(expression: syntax.Expression) -> int | None:
    """The value of an expression made of integers alone, None if it is not one."""
    match expression:
        case syntax.Number(value=int(value)):
            return value
        case syntax.Unary(operator=operator, operand=operand):
            inner = constant(operand)
            return None if inner is None else -inner if operator == "-" else ~inner
        case syntax.Arithmetic(operator=operator, left=left, right=right):
            a, b = constant(left), constant(right)
            return None if a is None or b is None else calculate(operator, a, b)
        case _:
            return None


def calculate(operator: syntax.ArithmeticOperator, a: int, b: int) -> int | None:
    """Division by zero and shifts by less than 0 or more than 63 bits have no value."""
    match operator:
        case "+":
            return a + b
        case "-":
            return a - b
        case "*":
            return a * b
        case "/":
            return a // b if b else None
        case "%":
            return a % b if b else None
        case "&":
            return a & b
        case "|":
            return a | b
        case "^":
            return a ^ b
        case "<<":
            return a << b if 0 <= b < 64 else None
        case ">>":
            return a >> b if 0 <= b < 64 else None
