"""Each transcript is what the recipe puts on the wire today."""

import pytest

from cookbook.catalog import Recipe, recipes
from cookbook.transcript import file_of, record, without_times


@pytest.mark.timeout(60)
@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.slug)
def test_a_transcript_is_the_same_as_a_fresh_recording(recipe: Recipe) -> None:
    kept = file_of(recipe).read_text("utf-8")
    fresh = record(recipe)
    assert without_times(kept) == without_times(fresh), "run make docs to record anew"
    assert kept != without_times(kept), "the kept transcript has no times to replay"
