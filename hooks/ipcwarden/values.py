"""Frozen value classes without the price of importing dataclasses (11 ms, twice what starting Python costs)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar, dataclass_transform

    _Class = TypeVar("_Class")

    @dataclass_transform(frozen_default=True)
    def value(cls: type[_Class]) -> type[_Class]:
        """Make a class of annotated fields a frozen value, as `dataclasses.dataclass(frozen=True)` would."""

else:

    def value(cls):
        """Make a class of annotated fields a frozen value, as `dataclasses.dataclass(frozen=True)` would."""
        names = tuple(cls.__annotations__)
        known = frozenset(names)
        defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}

        def init(self, *given, **named):
            fields = self.__dict__
            fields.update(defaults)
            fields.update(zip(names, given, strict=False))
            fields.update(named)
            if len(given) > len(names) or fields.keys() != known:
                raise TypeError(f"{cls.__name__} takes {', '.join(names)}; got {', '.join(fields)}")

        def equal(self, other):
            return self.__class__ is other.__class__ and self.__dict__ == other.__dict__

        def refuse(_self, name, _value=None):
            raise AttributeError(f"{cls.__name__}.{name} is frozen")

        def show(self):
            return f"{cls.__name__}({', '.join(f'{name}={field!r}' for name, field in self.__dict__.items())})"

        cls.__init__, cls.__eq__, cls.__repr__, cls.__setattr__, cls.__delattr__ = init, equal, show, refuse, refuse
        cls.__hash__ = None
        return cls
