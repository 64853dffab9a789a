"""Mode pages: current, changeable, default and saved values of what an initiator can set (SPC-4 §7.5, §6.14)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from functools import cached_property

from devmodels.scsi.fields import Fields, Layout

ALL_PAGES = 0x3F
ALL_SUBPAGES = 0xFF


class PageControl(IntEnum):
    """Which values MODE SENSE asks for, SPC-4 Table 183."""

    CURRENT = 0
    CHANGEABLE = 1
    DEFAULT = 2
    SAVED = 3


class ModePage:
    """One page: its layout, what its fields are by default, and which of them `changeable` names.

    `tail` is what follows the layout's part of the page, with a mask of what can be changed there.
    """

    __slots__ = ("changeable", "code", "current", "default", "layout", "saved", "subpage")

    def __init__(
        self,
        code: int,
        layout: Layout,
        changeable: Iterable[str] = (),
        *,
        subpage: int = 0,
        tail: tuple[bytes, bytes] = (b"", b""),
        **values: int,
    ) -> None:
        self.code = code
        self.subpage = subpage
        self.layout = layout
        size = layout.size + len(tail[0])
        head: dict[str, int] = {"page_code": code, "page_length": size - (4 if subpage else 2)}
        if subpage:
            head |= {"spf": 1, "subpage_code": subpage}
        self.default = layout.pack(**head, **values) + tail[0]
        mask = dict.fromkeys(changeable, -1)
        self.changeable = layout.pack(**head, **mask) + tail[1]
        self.current = self.saved = self.default

    @property
    def key(self) -> tuple[int, int]:
        """Page code and subpage code."""
        return self.code, self.subpage

    @property
    def name(self) -> str:
        """The same, to be written down."""
        return f"{self.code:02x}.{self.subpage:02x}"

    @property
    def header_size(self) -> int:
        """The bytes before what can be set."""
        return 4 if self.subpage else 2

    @property
    def fields(self) -> Fields:
        """The current values."""
        return self.layout.unpack(self.current)

    def set(self, **values: int) -> None:
        """Give fields that no initiator sets other current values."""
        self.current = self.layout.pack(**{**self.fields, **values})

    def values(self, control: int) -> bytes:
        """The page as MODE SENSE asks for it."""
        return (self.current, self.changeable, self.default, self.saved)[control]

    def differences(self, image: bytes) -> Iterator[tuple[int, int, int]]:
        """Byte by byte after the header: what `image` has there, what is there now, what can be changed."""
        start = self.header_size
        return zip(image[start:], self.current[start:], self.changeable[start:], strict=True)


class ModePages:
    """The mode pages of a logical unit, in ascending order, which is that of MODE SENSE.

    `make` makes them, when something of them is first wanted.  `savable`: whether values can be kept over a reset (PS).
    """

    def __init__(self, make: Callable[[], Iterable[ModePage]], *, savable: bool = False) -> None:
        self._make = make
        self.savable = savable

    @cached_property
    def pages(self) -> dict[tuple[int, int], ModePage]:
        """By page code and subpage code."""
        made = sorted(self._make(), key=lambda page: (page.code == 0, page.key))
        return {page.key: page for page in made}

    @property
    def made(self) -> bool:
        """Whether anything of them was wanted yet: before that, all values are the default ones."""
        return "pages" in vars(self)

    def __getitem__(self, key: tuple[int, int]) -> ModePage:
        return self.pages[key]

    def select(self, code: int, subpage: int) -> list[ModePage]:
        """The pages that MODE SENSE means; none where it names one that is not there (SPC-4 Table 184)."""
        if code == ALL_PAGES and subpage not in (0, ALL_SUBPAGES):
            return []
        return [
            page
            for page in self.pages.values()
            if code in (page.code, ALL_PAGES) and subpage in (page.subpage, ALL_SUBPAGES)
        ]

    def image(self, page: ModePage, control: int) -> bytes:
        """A page's bytes, with PS where it can be saved."""
        data = page.values(control)
        return bytes((data[0] | 0x80,)) + data[1:] if self.savable else data

    def save(self) -> dict[str, str]:
        """The saved values that are not the default ones, in hexadecimal."""
        return {page.name: page.saved.hex() for page in self.pages.values() if page.saved != page.default}

    def save_current(self) -> dict[str, str]:
        """The same of the current values."""
        return {page.name: page.current.hex() for page in self.pages.values() if page.current != page.default}

    def check(self, images: dict[str, str]) -> None:
        """ValueError where a page cannot have what `images` has for it."""
        self._images(images)

    def _images(self, images: dict[str, str]) -> dict[tuple[int, int], bytes]:
        """The pages in `images` that are as they were; ValueError where one of them cannot be like this."""
        out = {}
        for page in self.pages.values():
            image = bytes.fromhex(images.get(page.name, ""))
            if len(image) != len(page.default):
                continue
            if any((new ^ old) & ~mask for new, old, mask in page.differences(image)):
                raise ValueError(f"mode page {page.name} cannot be {image.hex()}")
            out[page.key] = image
        return out

    def restore(self, saved: dict[str, str]) -> None:
        """Take what `save` gave, for pages that are as they were; ValueError where it is something else."""
        for key, image in self._images(saved).items():
            page = self.pages[key]
            page.saved = page.current = image

    def take(self, images: dict[str, str]) -> None:
        """Take what `save_current` gave; pages that are not in it have their default values."""
        current = self._images(images)
        for page in self.pages.values():
            page.current = current.get(page.key, page.default)

    def reset(self) -> None:
        """Back to the saved values."""
        for page in self.pages.values():
            page.current = page.saved
