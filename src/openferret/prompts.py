"""What Kit is asked, word for word: training and the predictor share these templates.

`{region}` stands for the region's coordinates followed by its feature token, as `region_text` writes them.
"""

from __future__ import annotations

from collections.abc import Sequence

IMAGE_TOKEN = "<image>"
OBJECT_TOKEN = "<object>"
REGION_TOKEN = "<region_fea>"
PHRASE_TOKEN = "<phrase>"
BOX_TOKEN = "<box>"
LOCATION_BINS = 1000
SPECIAL_TOKENS = (IMAGE_TOKEN, OBJECT_TOKEN, REGION_TOKEN, PHRASE_TOKEN, BOX_TOKEN)

REFER = "What is {region}?"
REFER_CHOICE = "Is the object {region} of the image {first} or {second}?"
RELATE = "How are {region} and {region} related?"
GROUND = "Where is {phrase}?"
GROUND_MERGED = "Where is {phrase}, in one box?"
EXISTS = "Is there {phrase} in the picture?"
EXISTS_IN_IMAGE = "Is there {phrase} in the image?"
DESCRIBE = "Describe the picture."

ABSENT = "Not in the picture."
YES = "Yes, "
NO = "No."


def location_token(bin_index: int) -> str:
    """The token of a coordinate bin, 0..999.

    Example:
        >>> location_token(7)
        '<loc_7>'
    """
    return f"<loc_{bin_index}>"


def region_text(bins: Sequence[int]) -> str:
    """A region in Kit's words: two bins (a point) or four (the bounds of any other region), then its feature.

    Example:
        >>> region_text((500, 250))
        '<loc_500><loc_250><region_fea>'
    """
    return "".join(location_token(one) for one in bins) + REGION_TOKEN
