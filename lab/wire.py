"""What crosses between judge and learner: frames of plain data over a socket. No pickle, no code, no classes of theirs.

A frame is JSON with the bytes of tensors behind it. Towards the learner also go what only the judge can make (a cache, a
dataclass of the library), the notebook's own objects by name, and functions and small objects by number, which the learner's
side asks back for. From the learner only values come: whatever is none is named by its type and nothing else.
"""

import dataclasses
import importlib
import json
import marshal
import math
import socket
import struct
import sys
import time
import types
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from course_lib.grading.checking import tensors_of

MAX_HEADER, MAX_BODY = 8_000_000, 64_000_000
MAX_DIGITS, MAX_PARTS = 4000, 1_000_000
VALUE_ITSELF = 256
"""Bytes that a tensor or array takes besides its numbers, about."""
HEAD = struct.Struct("!II")
DTYPES = {str(getattr(torch, name)): getattr(torch, name) for name in (
    "float16 bfloat16 float32 float64 int8 int16 int32 int64 uint8 bool complex64 complex128".split()
)}  # fmt: skip
KINDS = "biufcSU"
FROM_LEARNERS = {
    ("course_lib.grading.claims", "Claim"),
    ("course_lib.directions", "Interval"),
    ("course_lib.directions", "Candidate"),
    *(("course_lib.attribution", name) for name in ("Feature", "Error", "Embedding", "Logit")),
}
"""What of the library an answer may return; nothing else of it is rebuilt from what a learner sends."""


class Lost(BaseException):
    """Raised where the other side is gone, or too late: no exception that a check could take for the learner's."""


class Refused(BaseException):
    """Raised for a frame that cannot be read or is too large."""


class NotSent(BaseException):
    """Raised for what cannot cross to a learner: the check asks for something new, and the learner is not to blame."""


class Channel:
    """One end of the socket between a judge and a learner."""

    def __init__(self, end: socket.socket) -> None:
        self.end, self.deadline = end, math.inf

    def send(self, message: Any, writer: "Writer") -> None:
        """Send one message; values in it are written by `writer`."""
        header = json.dumps({"m": writer.plain(message), "n": [len(b) for b in writer.buffers]}).encode()
        body = b"".join(writer.buffers)
        if len(header) > MAX_HEADER or len(body) > MAX_BODY:
            raise Refused("too large")
        try:
            self.end.settimeout(self._left())
            self.end.sendall(HEAD.pack(len(header), len(body)) + header + body)
        except TimeoutError:
            raise Lost("late") from None
        except OSError:
            raise Lost("gone") from None

    def receive(self, reader: "Reader") -> Any:
        """Return the next message, its values read by `reader`."""
        n_header, n_body = HEAD.unpack(self._exactly(HEAD.size))
        if n_header > MAX_HEADER or n_body > MAX_BODY:
            raise Refused("too large")
        header, body = self._exactly(n_header), self._exactly(n_body)
        try:
            frame = json.loads(header)
            sizes, at = frame["n"], 0
            reader.buffers = []
            for size in sizes:
                if not isinstance(size, int) or size < 0 or at + size > len(body):
                    raise ValueError
                reader.buffers.append(body[at : at + size])
                at += size
            return reader.value(frame["m"])
        except (
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            RecursionError,
            OverflowError,
            RuntimeError,
        ):
            raise Refused("not readable") from None

    def _left(self) -> float | None:
        if self.deadline == math.inf:
            return None
        if (left := self.deadline - time.monotonic()) <= 0:
            raise Lost("late")
        return left

    def _exactly(self, n: int) -> bytes:
        parts, missing = [], n
        while missing:
            try:
                self.end.settimeout(self._left())
                part = self.end.recv(min(missing, 1 << 20))
            except TimeoutError:
                raise Lost("late") from None
            except OSError:
                raise Lost("gone") from None
            if not part:
                raise Lost("gone")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


class Writer:
    """Turns values into JSON and buffers.

    Args:
        named: id of an object -> its name in the notebook, for what both sides hold a copy of.
        numbered: what the other side may ask back for, by number; None where it may not (from the learner).
    """

    def __init__(self, named: dict[int, str] | None = None, numbered: list[Any] | None = None) -> None:
        self.named, self.numbered, self.buffers, self.parts = named or {}, numbered, list[bytes](), 0
        self.sent: dict[int, tuple[torch.Tensor, Any]] = {}
        """id of a tensor -> itself, so that it keeps its id, and how it was written: one in two places is sent once."""

    def plain(self, value: Any) -> Any:
        """Return a value as JSON can hold it."""
        self.parts += 1
        if self.parts > MAX_PARTS:
            raise Refused("too many parts")
        if value is None or value is True or value is False:
            return value
        kind = type(value)
        if kind is str:
            text = value.encode("utf-8", "replace").decode()
            # texts that are one object here, and equal ones that are not, are so there: a learner may compare with `is`
            return {"s": text} if self.numbered is not None and sys.intern(value) is value else text
        if kind is int:
            return value if abs(value) < 1 << 53 else {"i": _digits(value)}
        if kind is float:
            return value if math.isfinite(value) else {"f": repr(value)}
        if value is ...:
            return {"e": 0}
        if kind is list:
            return list(map(self.plain, value))
        if kind in (tuple, set, frozenset):
            return {kind.__name__: list(map(self.plain, value))}
        if kind is dict:
            return {"d": [[self.plain(key), self.plain(part)] for key, part in value.items()]}
        if isinstance(value, torch.Tensor):
            if self.numbered is None or value.requires_grad:  # each place of an input has a gradient of its own
                return self._tensor(value)
            if id(value) not in self.sent:
                self.sent[id(value)] = value, self._tensor(value)
            return self.sent[id(value)][1]
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value)
        return self._other(value)

    def _tensor(self, value: torch.Tensor) -> Any:
        if value.numel() * max(1, value.element_size()) > MAX_BODY:
            return {"O": f"Tensor of shape {tuple(value.shape)[:8]}, too large"}
        bare = value.detach().to_dense() if value.layout != torch.strided else value.detach()
        bare = bare.resolve_conj().resolve_neg().cpu().contiguous()
        flat = torch.empty(bare.numel(), dtype=bare.dtype).copy_(bare.reshape(-1))
        self.buffers.append(flat.view(torch.uint8).numpy().tobytes() if bare.numel() else b"")
        return {"T": [str(bare.dtype), list(bare.shape), len(self.buffers) - 1, bool(value.requires_grad)]}

    def _array(self, value: Any) -> Any:
        array = np.asarray(value)
        if array.dtype.kind not in KINDS or array.nbytes > MAX_BODY:
            return {"O": type(value).__name__}
        self.buffers.append(np.ascontiguousarray(array).tobytes())
        return {"N": [array.dtype.str, list(array.shape), len(self.buffers) - 1, isinstance(value, np.generic)]}

    def _other(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, Fraction | Decimal):
            parts = [value.numerator, value.denominator] if isinstance(value, Fraction) else str(value)[:MAX_DIGITS]
            return {"q": self.plain(parts)}
        if kind is types.SimpleNamespace:
            return {"S": self.plain(vars(value))}
        if id(value) in self.named:
            return {"ref": self.named[id(value)]}
        known = self.numbered is not None or (kind.__module__, kind.__qualname__) in FROM_LEARNERS
        if known and kind.__module__.startswith("course_lib.") and not isinstance(value, torch.nn.Module):
            if dataclasses.is_dataclass(value):
                fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
                return {"c": [kind.__module__, kind.__qualname__, self.plain(fields)]}
            if isinstance(value, tuple) and hasattr(kind, "_fields"):
                return {
                    "c": [kind.__module__, kind.__qualname__, self.plain(dict(zip(kind._fields, value, strict=True)))]
                }
        if self.numbered is not None:
            if kind.__name__ == "ActivationCache":
                return {"A": [self.plain(dict(value.cache_dict)), bool(value.has_batch_dim)]}
            if kind is types.FunctionType:
                return self._function(value)
            if callable(value) and dataclasses.is_dataclass(value):  # a function of numbers: gradients are taken
                return {"bound": [self._function(kind.__call__), self.plain(types.SimpleNamespace(**vars(value)))]}
            if not kind.__module__.startswith("chapters.") and kind is not types.MethodType:
                raise NotSent(f"{kind.__module__}.{kind.__name__} cannot be handed to an answer")
            self.numbered.append(value)
            is_method, tensors = kind is types.MethodType, tensors_of(value).items()
            held = None if is_method else self.plain({n: part for n, part in tensors if not n.startswith("_")})
            return {"P": [len(self.numbered) - 1, kind.__name__, held]}
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType) or callable(value):
            return {"O": "function" if not isinstance(value, type) else "type"}
        for base in (bool, int, float, str, list, tuple, set, dict):  # a subclass: its value, by the base's own methods
            if isinstance(value, base) and base is not bool:
                return self.plain(base(_base_value(base, value)))
        return {"O": str(kind.__name__)[:80]}

    def _function(self, value: types.FunctionType) -> Any:
        """Return a function of the judge's that an answer is given, to run in the child, where the child's own model is.

        It crosses as code. That is safe in this direction only, and no more than the learner gets in the notebook.
        """
        codes = [value.__code__]
        for code in codes:
            codes += [part for part in code.co_consts if isinstance(part, types.CodeType)]
        used = {name: value.__globals__[name] for code in codes for name in code.co_names if name in value.__globals__}
        modules = {name: part.__name__ for name, part in used.items() if isinstance(part, types.ModuleType)}
        rest = {name: part for name, part in used.items() if name not in modules and part is not value}
        closed = [cell.cell_contents for cell in value.__closure__ or ()]
        self.buffers.append(marshal.dumps(value.__code__))
        parts = [self.plain(each) for each in (modules, rest, list(value.__defaults__ or ()), closed)]
        return {"code": [len(self.buffers) - 1, *parts]}


def _base_value(base: type, value: Any) -> Any:
    if base in (list, tuple, set):
        return list(base.__iter__(value))
    if base is dict:
        return {key: dict.__getitem__(value, key) for key in dict.__iter__(value)}
    return {int: int.__int__, float: float.__float__, str: str.__str__}[base](value)


def _digits(value: int) -> str:
    if value.bit_length() > 3 * MAX_DIGITS:
        raise Refused("too large")
    return str(value)


class Reader:
    """Turns JSON and buffers back into values of known kinds.

    Args:
        names: the notebook's objects by name; None where names are refused (from the learner).
        ask: makes a stand-in for a numbered object, `ask(number, type name, is a function)`; None where there are none.
    """

    def __init__(self, names: dict[str, Any] | None = None, ask: Callable[[int, str, bool], Any] | None = None) -> None:
        self.names, self.ask, self.buffers, self.left = names, ask, list[bytes](), MAX_BODY
        self.tensors: dict[int, torch.Tensor] = {}

    def value(self, made: Any) -> Any:
        """Return the value.

        Raises:
            ValueError, TypeError, KeyError: it is none.
        """
        if made is None or isinstance(made, bool | int | float | str):
            return made
        if isinstance(made, list):
            return [self.value(part) for part in made]
        ((tag, inner),) = made.items()
        match tag:
            case "i":
                if len(inner) > MAX_DIGITS:
                    raise ValueError
                return int(inner)
            case "f":
                return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[inner]
            case "e":
                return ...
            case "tuple" | "set" | "frozenset":
                return {"tuple": tuple, "set": set, "frozenset": frozenset}[tag](map(self.value, inner))
            case "d":
                return {self.value(key): self.value(part) for key, part in inner}
            case "T" if self.names is None:
                return self._tensor(*inner)
            case "T":
                at = inner[2]
                return self.tensors[at] if at in self.tensors else self.tensors.setdefault(at, self._tensor(*inner))
            case "s" if self.names is not None:
                return sys.intern(inner)
            case "N":
                return self._array(*inner)
            case "q":
                parts = self.value(inner)
                if isinstance(parts, str):
                    return Decimal(parts)
                if not all(type(part) is int for part in parts):
                    raise ValueError  # int(Decimal("1e999999999")) would take for ever
                return Fraction(*parts)
            case "S":
                return types.SimpleNamespace(**self.value(inner))
            case "c":
                return self._of_library(*inner)
            case "O":
                return type("".join(c for c in str(inner)[:80] if c.isprintable()) or "object", (), {})()
            case "ref" if self.names is not None:
                return self.names[inner]
            case "code" if self.names is not None:
                return self._function(*inner)
            case "bound" if self.names is not None:
                return types.MethodType(*map(self.value, inner))
            case "A" if self.names is not None:
                from transformer_lens import ActivationCache

                return ActivationCache(self.value(inner[0]), None, inner[1])
            case "P" if self.ask is not None:
                return self.ask(*inner[:2], self.value(inner[2]))
        raise ValueError

    def _buffer(self, at: int) -> bytes:
        """Return a buffer that a value refers to; one that a thousand values refer to is counted a thousand times."""
        self.left -= len(self.buffers[at]) + VALUE_ITSELF
        if self.left < 0:
            raise ValueError
        return self.buffers[at]

    def _tensor(self, dtype: str, shape: list[int], at: int, trained: bool) -> torch.Tensor:
        kind = DTYPES[dtype]
        n, buffer = _size(shape), self._buffer(at)
        if n * kind.itemsize != len(buffer):
            raise ValueError
        if n == 0:
            return torch.empty(shape, dtype=kind)
        raw = bytearray(buffer)
        if kind is torch.bool:
            raw = bytearray(byte != 0 for byte in raw)
        made = torch.frombuffer(raw, dtype=kind).reshape(shape)
        return made.requires_grad_() if trained and made.is_floating_point() else made

    def _function(self, at: int, modules: Any, rest: Any, defaults: Any, closed: Any) -> types.FunctionType:
        scope = {name: importlib.import_module(module) for name, module in self.value(modules).items()} | self.value(
            rest
        )
        cells = tuple(map(types.CellType, self.value(closed)))
        return types.FunctionType(marshal.loads(self.buffers[at]), scope, None, tuple(self.value(defaults)), cells)

    def _array(self, dtype: str, shape: list[int], at: int, single: bool) -> Any:
        kind, buffer = np.dtype(str(dtype)[:12]), self._buffer(at)
        if kind.kind not in KINDS or _size(shape) * kind.itemsize != len(buffer):
            raise ValueError
        made = np.frombuffer(buffer, dtype=kind).reshape(shape).copy()
        return made[()] if single else made

    def _of_library(self, module: str, name: str, fields: Any) -> Any:
        """Rebuild a dataclass or named tuple of the library from its fields; none of its code runs."""
        if not str(module).startswith("course_lib."):
            raise ValueError
        if self.names is None and (module, name) not in FROM_LEARNERS:
            raise ValueError
        kind = getattr(sys.modules[module], name)
        fields = self.value(fields)
        if not (isinstance(kind, type) and kind.__module__ == module):
            raise ValueError
        if dataclasses.is_dataclass(kind) and fields.keys() == {f.name for f in dataclasses.fields(kind)}:
            made = object.__new__(kind)
            for key, part in fields.items():
                object.__setattr__(made, key, part)
            return made
        if issubclass(kind, tuple) and tuple(fields) == kind._fields:
            return tuple.__new__(kind, fields.values())
        raise ValueError


def _size(shape: list[int]) -> int:
    if len(shape) > 16 or not all(type(n) is int and 0 <= n < 1 << 40 for n in shape):
        raise ValueError
    return math.prod(shape)
