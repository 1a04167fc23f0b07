"""What schemathesis cannot know.

Names that RFC 8265 allows: made from alphabets all of whose letters it does, in one direction of writing each, since
it does not let them mix. And forms that are others once they are written."""

import schemathesis
from hypothesis import strategies as st

LONGEST = 128
ALPHABETS = [
    st.characters(min_codepoint=0x21, max_codepoint=0x7E),  # All of ASCII that is seen
    st.characters(min_codepoint=0x3B1, max_codepoint=0x3C9),  # Greek
    st.characters(min_codepoint=0x430, max_codepoint=0x44F),  # Cyrillic
    st.characters(min_codepoint=0x5D0, max_codepoint=0x5EA),  # Hebrew, from right to left
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5),  # Han, of the first Unicode
    st.characters(min_codepoint=0xFF21, max_codepoint=0xFF3A),  # Wide Latin, which counts as Latin
]

names = st.sampled_from(ALPHABETS).flatmap(lambda alphabet: st.text(alphabet, min_size=1, max_size=LONGEST))
schemathesis.openapi.format("username-case-preserved", names.filter(lambda name: len(name.encode()) <= LONGEST))


@schemathesis.hook
def filter_case(_context, case):
    """Leaves out what breaks the schema only before it is written: a form such as `{"password": []}`, which is sent
    as nothing, and a list of pairs, which is sent as a form with those fields."""
    if case.media_type != "application/x-www-form-urlencoded":
        return True
    if isinstance(case.body, dict):
        return any(value not in ([], {}, None) for value in case.body.values())
    return case.body not in ("", None) and not isinstance(case.body, list)
