"""How a request will stand when the steps in flight have been seen."""

from typing import NamedTuple


class Outlook(NamedTuple):
    """What verification needs to know of a request that decodes and has candidates."""

    due: bool  # its page is to verify
    ahead: int  # candidates past the end of that page
    waited: int  # decode steps since the page became due
    suspected: bool  # a candidate may end the request
    at_limit: bool  # another decode step would need KV that the request may never own
