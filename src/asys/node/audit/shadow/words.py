"""What asyd and the shipper say to each other, beside the words in the heads of the rings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from asys.client.address import Address

MOVED: Final = b"+"
"""The line that says that the collector has more than before."""

NOTED: Final = b"."
"""What a line for the log begins with that is no trouble."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the collector is, and what its key has to be."""

    address: Address
    key: bytes

    def words(self) -> list[str]:
        """As the command line of the shipper has them."""
        return [self.address.host, str(self.address.port), self.key.hex()]

    @classmethod
    def of_words(cls, words: list[str]) -> Destination:
        """From the command line. ValueError."""
        host, port, key = words
        return cls(Address(host, int(port)), bytes.fromhex(key))
