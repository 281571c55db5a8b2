"""What a reader's listing says, in the form in which `facetrees` says what must be found."""

from __future__ import annotations

from collections.abc import Mapping

from fercompress.data.listing import Listing


def found(listing: Listing) -> dict[str, tuple[str, str]]:
    """Clip -> (label, subject)."""
    return {clip.clip_id: (clip.label, clip.subject) for clip in listing.clips}


def assert_left_out(listing: Listing, expected: Mapping[str, str]) -> None:
    """Exactly these clips, each for a reason of one line that holds so much."""
    reasons = {row.clip: row.reason for row in listing.left_out}
    assert reasons.keys() == expected.keys()
    for clip, part in expected.items():
        assert part in reasons[clip]
        assert "\n" not in reasons[clip]
