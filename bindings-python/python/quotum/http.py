"""What to tell HTTP clients of decisions and errors, for whichever framework serves them.

    answer = quotum.http.Mapping().answer(decision)
    for name, value in answer.fields:
        response.headers[name] = value
    if answer.status is not None:
        respond(answer.status, answer.body, answer.content_type)

The fields are those of the IETF's RateLimit draft, revision 11, and the body of a denial is a problem document (RFC 9457).
"""

from ._native import HttpAnswer as Answer
from ._native import Mapping, client_address, token_of

__all__ = ["Answer", "Mapping", "client_address", "token_of"]
